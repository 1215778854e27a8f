"""
``python -m tests.proofs.soak --minutes 10 --uploads 200000``: after many uploads of every
kind, the daemon has leaked nothing, and no upload is lost.

The real daemon, with listeners as in production, stores files on a separate journaled
ext4, with fsync.  Senders of all kinds connect all the time: files from 0 bytes to 200 MB,
slow senders, broken ones, refused ones.  Each stored file is compared with the upload, and
removed, so that the disk does not fill.

Every few seconds, memory, descriptors, threads, latency, the log and the journal are
measured; in the last minute they must be the same as in the first, within bounds.  At the
end every acknowledged upload must have been found, once and whole; no other file may have
been found; and journal and metrics must agree with the answers that the senders received.
"""
