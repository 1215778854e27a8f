"""
The durability proofs, each a command of its own: ``python -m tests.proofs.kill``.

They exit with 0 when the promise held, with 1 when it did not, and with
`tests.proofs.rigs.SKIPPED` when this machine lacks what they need.
``tests/proofs/test_durability.py`` runs a short version of each.
"""
