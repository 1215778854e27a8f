"""
How many file descriptors a process may have, and what they are for.

A connection takes one, and its upload another for the file; up to three if the upload
becomes an object, whose parts are files when memory is short.  While a disk thread
splices the socket of a large upload, it has a third; so has the writer of a partial
upload, for its record.  The daemon accepts fewer connections than the limit would
allow, so that an upload that has begun never lacks a file descriptor.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from twisted_upload.core.text import counted
from twisted_upload.errors import CannotStart

__all__ = ["Budget", "budget", "raise_limit"]

MOST_CONNECTIONS = 32_768
"""Maximum number of connections unless more are configured: each also takes some KiB
of memory."""

SHARE, MOST = 16, 128
"""Rejected connections get one in `SHARE` file descriptors, at most `MOST`; spliced
sockets get as many again."""

WRITERS_SHARE, MOST_WRITERS = 8, 512
"""For each directory with an HTTP listener, writers of partial uploads get one in
`WRITERS_SHARE`, at most `MOST_WRITERS`."""

OWN = 40
"""File descriptors of the daemon itself: ports, folders, the log, the event loop, and
the spare ones (`twisted_upload.net.spare_descriptors`)."""


OBJECT_THREADS = 64
"""Operations of the object store behind one directory at a time."""

OBJECT_PARTS = 3
"""Parts of an upload to an object store that may be files at a time: one that is collected
and `twisted_upload.stores.s3.incoming.MOST_SENT`."""

FORWARDS = 16
"""Files that each store forwards at a time: `twisted_upload.stores.s3.forward.FORWARD_JOBS`,
which a daemon without an object store does not import."""

OBJECTS_OWN = 16
"""File descriptors that each object store takes besides connections: event loops, names,
notes."""


class Budget(NamedTuple):
    """
    What the file descriptors are for.

    :ivar connections: maximum number at a time.
    :ivar rejected: maximum number of rejected connections that stay open until the
        sender has received the reason.
    :ivar splices: maximum number of sockets at a time that disk threads read from.
    :ivar writers: maximum number of partial uploads that each store writes at a time.
    """

    connections: int
    rejected: int
    splices: int
    writers: int = 0


def raise_limit() -> int:
    """
    Raise the file descriptor limit of this process, and of its children, to the hard
    limit.

    :return: the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # the kernel's own limit has been lowered below it
    return 2**30 if soft == resource.RLIM_INFINITY else soft


def budget(
    limit: int,
    asked: int | None = None,
    others: int = 0,
    *,
    resumable_stores: int = 0,
    objects: bool = False,
) -> Budget:
    """
    Divide the file descriptors of a process.

    :param limit: how many there are.
    :param asked: the number of connections that the operator wants; `None` for as many
        as possible without any of them lacking a file descriptor, `MOST_CONNECTIONS` at
        most.
    :param others: the number that something else takes.
    :param resumable_stores: number of stores that have partial uploads.
    :param objects: whether uploads become objects.
    :raises CannotStart: there are too few.
    """
    share = min(limit // SHARE, MOST)
    # Each thread that splices a socket also has a pipe.
    left = limit - OWN - others - 2 * share - 2 * min(share, 32)
    writers = min(limit // WRITERS_SHARE, MOST_WRITERS) if resumable_stores else 0
    left -= writers * resumable_stores
    if left < 2 or (asked is not None and asked > left):
        allowed = counted(max(left, 0), "connection")
        wanted = f"--max-connections {asked}: " if asked is not None else ""
        raise CannotStart(
            f"{wanted}the limit of {limit} file descriptors allows {allowed};"
            " raise it (ulimit -Hn, or LimitNOFILE= in systemd)"
        )
    each = 1 + (OBJECT_PARTS if objects else 1)
    connections = min(left // each, MOST_CONNECTIONS) if asked is None else asked
    return Budget(connections, share, share, writers)
