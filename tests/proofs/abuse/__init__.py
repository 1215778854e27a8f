"""
A table of abuse: ``python -m tests.proofs.abuse``.

Each row starts the real daemon, measures honest senders without abuse, and then continues
to measure them during abuse: what the daemon did, how much slower it was for the honest
senders, and the cost in memory, descriptors, threads and log lines, before, at the peak,
and after.

Exit status as in `tests.proofs`.  ``tests/proofs/test_abuse.py`` runs a short
version.
"""
