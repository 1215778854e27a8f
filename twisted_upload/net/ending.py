"""
Whether an upload has really come to its end.

Twisted reports a half-close where the kernel has reported a disconnection and
nothing to read.  For a connection that is being reset on another processor just
then, that is so for some microseconds: about one reset in 7,000 looks like a
half-close, and half a file would be kept.  So the socket itself is asked.
"""

from __future__ import annotations

import enum
import select
import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReadDescriptor

__all__ = ["ConnectionEnd", "ending"]


class ConnectionEnd(enum.Enum):
    """How it looks."""

    HALF_CLOSE = "the sender has said that it has finished"
    LOST = "the connection is broken"
    NOT_YET = "there is more to come"


def ending(transport: Any) -> ConnectionEnd:
    """
    What a socket says of its end, without taking anything from it.

    A unix socket tells a sender that has half-closed and waits for the answer
    from one that has closed, or died: the latter is lost.  TCP would tell only
    of a reset.
    """
    if getattr(transport, "heard_end", False) or not _is_socket(transport):
        return ConnectionEnd.HALF_CLOSE
    try:
        left = transport.getHandle().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return ConnectionEnd.NOT_YET
    except OSError:
        return ConnectionEnd.LOST
    if left:
        return ConnectionEnd.NOT_YET
    if isinstance(transport.getHost(), UNIXAddress) and _has_hung_up(transport.fileno()):
        return ConnectionEnd.LOST
    return ConnectionEnd.HALF_CLOSE


def _is_socket(transport: Any) -> bool:
    provided: bool = IReadDescriptor.providedBy(transport)
    return provided


def _has_hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
