"""
The last words to a sender that has half-closed: nothing more will come, and
nothing more will be said.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure

from twisted_upload.net.transport import EagerServer

__all__ = ["say", "say_and_close"]

_LAST = socket.MSG_MORE | socket.MSG_DONTWAIT
_DONE = Failure(ConnectionDone())


def say(ours: Any, answer: bytes) -> bytes:
    """
    Say something to a socket that is about to be closed: it leaves with our end, in one
    segment.

    :return: what the socket has not taken: nothing, but where it is broken, or the
        system has no memory for it.
    """
    try:
        return answer[ours.send(answer, _LAST) :]
    except OSError:
        return answer


def say_and_close(transport: Any, answer: bytes) -> None:
    """
    Send a short answer and close the connection.

    What ``write`` and ``loseConnection`` do takes a socket two more turns of the
    reactor, and four more system calls; for a small upload that is an eighth of
    all its work.  A new answer always fits into an idle socket, so it is sent
    here and now, and the transport is told what the reactor would tell it.
    """
    is_socket: bool = IReadWriteDescriptor.providedBy(transport)
    rest = say(transport.getHandle(), answer) if is_socket else answer
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
