"""
The durability proofs, each a separate command, such as ``python -m tests.proofs.kill``.

They exit with 0 if the promise held, with 1 if it did not, and with
`tests.proofs.rigs.SKIPPED` if this machine lacks what they need.
``tests/proofs/test_durability.py`` runs a short version of each.
"""
