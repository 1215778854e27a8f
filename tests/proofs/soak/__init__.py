"""
``python -m tests.proofs.soak --minutes 10 --uploads 200000``: after many
uploads of every kind, the daemon is as it was at the start, and nothing is lost.

The real daemon, with listeners as in production, keeps files on a journalled
ext4 of its own, with fsync.  Senders of all kinds come all the time: files from
no byte to 200 MB, slow ones, broken ones, refused ones.  Each kept file is
compared with what was sent, and removed, so that the disk does not fill.

Every few seconds is looked at memory, descriptors, threads, latency, the log
and the journal; what they are in the last minute must be what they were in the
first.  At the end every upload that was acknowledged must have been found,
once and whole; nothing else may have been found; and journal and metrics must
say what the senders have heard.
"""
