"""
A table of abuse: ``python -m tests.proofs.abuse``.

Each row starts the real daemon, measures honest senders while it is quiet, and
goes on measuring them while others do it harm: what the daemon did, how much
slower it was for the honest, and what it cost in memory, descriptors, threads
and lines of the log, before, at the peak, and after.

Exit status as in `tests.proofs`.  ``tests/proofs/test_abuse.py`` runs a short
version.
"""
