"""
How many descriptors a process may have, and whom they are for.

A connection is one; its upload takes another for its file, and while the socket
of a large upload is spliced by a disk thread, that has a third.  So that an upload
that has begun never lacks one, fewer connections are taken in than there could
be.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from twisted_upload.errors import CannotStart

__all__ = ["Budget", "budget", "raise_limit"]

MOST_CONNECTIONS = 32_768
"""Connections at the most unless more are asked for: each takes some KiB of
memory as well."""

SHARE, MOST = 16, 128
"""One in so many descriptors, and so many at the most, for connections that were
rejected, and as many for sockets that are spliced."""

OWN = 40
"""Descriptors of the daemon itself: ports, folders, the log, the event loop, and
those that are held back (`twisted_upload.net.spare_descriptors`)."""


class Budget(NamedTuple):
    """
    Whom the descriptors are for.

    :ivar connections: at a time.
    :ivar rejected: connections that stay until they have heard why.
    :ivar splices: sockets at a time that disk threads take from.
    """

    connections: int
    rejected: int
    splices: int


def raise_limit() -> int:
    """
    Let this process, and those that it starts, have as many descriptors as its
    hard limit allows.

    :return: how many that are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # a kernel whose own limit has sunk below
    return 2**30 if soft == resource.RLIM_INFINITY else soft


def budget(limit: int, asked: int | None = None, others: int = 0) -> Budget:
    """
    Share out the descriptors of a process.

    :param limit: how many there are.
    :param asked: connections that the operator wants; `None` for as many as
        there can be without any of them lacking a descriptor.
    :param others: that something else takes.
    :raises CannotStart: there cannot be so many.
    """
    share = min(limit // SHARE, MOST)
    # Each thread that has a socket has a pipe as well.
    left = limit - OWN - others - 2 * share - 2 * min(share, 32)
    if left < 2 or (asked is not None and asked > left):
        wanted = f"--max-connections {asked}: " if asked is not None else ""
        raise CannotStart(
            f"{wanted}the limit of {limit} descriptors is enough for {max(left, 0)} connections;"
            " raise it (ulimit -Hn, or LimitNOFILE= of systemd)"
        )
    return Budget(min(left // 2, MOST_CONNECTIONS) if asked is None else asked, share, share)
