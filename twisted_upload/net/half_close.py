"""
Half-close, the end of an upload: how to recognise the sender's, whether anything of a
connection has not been read yet, and how to send the answer together with our own end.
"""

from __future__ import annotations

import enum
import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor, IReadWriteDescriptor
from twisted.python.failure import Failure

from twisted_upload.net.sockets import Sockets
from twisted_upload.net.transport import EagerServer

__all__ = [
    "ConnectionEnd",
    "answer_and_close",
    "connection_end",
    "has_half_closed",
    "has_unread",
    "reset",
    "send_last",
    "unread_size",
]

_LAST = socket.MSG_MORE | socket.MSG_DONTWAIT
_DONE = Failure(ConnectionDone())


class ConnectionEnd(enum.Enum):
    """How a connection has ended, if it has."""

    HALF_CLOSE = "the sender has finished"
    LOST = "the connection is broken"
    NOT_YET = "there is more to come"


def connection_end(transport: Any, sockets: Sockets) -> ConnectionEnd:
    """
    Return what a socket tells about its end, without taking anything from it.

    Twisted reports a half-close if the kernel has reported a disconnection and there is
    nothing to read.  While a connection is being reset on another processor, that is
    the case for some microseconds: about one reset in 7,000 looks like a half-close,
    and half a file would be stored.  So the socket itself is asked.

    A unix socket distinguishes a sender that has half-closed and waits for the answer
    from one that has closed, or died: the latter counts as lost.  TCP would only reveal
    a reset.
    """
    is_socket: bool = IReadDescriptor.providedBy(transport)
    if getattr(transport, "heard_end", False) or not is_socket:
        return ConnectionEnd.HALF_CLOSE
    try:
        left = transport.getHandle().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return ConnectionEnd.NOT_YET
    except OSError:
        return ConnectionEnd.LOST
    if left:
        return ConnectionEnd.NOT_YET
    if isinstance(transport.getHost(), UNIXAddress) and sockets.has_hung_up(transport.fileno()):
        return ConnectionEnd.LOST
    return ConnectionEnd.HALF_CLOSE


def has_half_closed(transport: Any, sockets: Sockets) -> bool:
    """
    Return whether a sender has half-closed, when its transport says so.

    If it has not, what is right has been done: a broken connection is reset, and if there
    is more to come, the transport reads on.
    """
    end = connection_end(transport, sockets)
    if end is ConnectionEnd.LOST:
        transport.abortConnection()
    elif end is ConnectionEnd.NOT_YET:
        transport.resumeProducing()
    return end is ConnectionEnd.HALF_CLOSE


def reset(transport: Any) -> None:
    """Reset a connection; if even that fails, its protocol is told that it is lost."""
    try:
        transport.abortConnection()
    except Exception:
        transport.connectionLost(Failure())
        raise


def has_unread(transport: Any, sockets: Sockets) -> bool:
    """
    Return whether bytes, the end, or an error of the connection are waiting to be read:
    to be checked before an upload is ended or refused for being idle.

    Over TLS, the underlying socket is checked: what was read from it has been decrypted
    and passed on at once.
    """
    descriptor = _descriptor_of(transport)
    if descriptor is None:
        return False
    # If it has been closed already, that is still to be noticed.
    return descriptor < 0 or sockets.is_readable(descriptor)


def unread_size(transport: Any, sockets: Sockets) -> int:
    """Return how many bytes are waiting in the socket of a connection."""
    descriptor = _descriptor_of(transport)
    return 0 if descriptor is None else sockets.unread_size(descriptor)


def _descriptor_of(transport: Any) -> int | None:
    """Return the file descriptor of a transport's socket; `None` if there is none, as in tests."""
    handle = getattr(transport, "getHandle", lambda: None)()
    fileno = getattr(handle, "fileno", None)
    return None if fileno is None else fileno()


def send_last(ours: Any, answer: bytes) -> bytes:
    """
    Send data on a socket that is about to be closed: it is sent together with our end,
    in one segment.

    :return: what the socket has not accepted: nothing, unless it is broken, or the
        system has no memory for it.
    """
    try:
        return answer[ours.send(answer, _LAST) :]
    except OSError:
        return answer


def answer_and_close(transport: Any, answer: bytes) -> None:
    """
    Send a short answer to a sender that has half-closed, and close the connection.

    With ``write`` and ``loseConnection``, a socket needs two more turns of the reactor
    and four more system calls; for a small upload, that is an eighth of all the work.
    A new answer always fits into an idle socket, so it is sent immediately, and the
    transport is told what the reactor would tell it.
    """
    is_socket: bool = IReadWriteDescriptor.providedBy(transport)
    rest = send_last(transport.getHandle(), answer) if is_socket else answer
    if rest:
        transport.write(rest)
        transport.loseConnection()
    elif isinstance(transport, EagerServer):
        transport.leave()
    else:
        try:
            transport.stopReading()
            transport.stopWriting()
        finally:
            transport.connectionLost(_DONE)
