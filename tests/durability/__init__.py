"""
The durability proofs, each a command of its own: ``python -m tests.durability.kill``.

They exit with 0 when the promise held, with 1 when it did not, and with
`tests.durability.rigs.SKIPPED` when this machine lacks what they need.
``tests/test_durability.py`` runs a short version of each.
"""
