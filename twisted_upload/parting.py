"""
The last words to a sender that has half-closed: nothing more will come, and
nothing more will be said.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure

__all__ = ["say_and_close"]

_DONE = Failure(ConnectionDone())


def say_and_close(transport: Any, answer: bytes) -> None:
    """
    Send a short answer and close the connection.

    What ``write`` and ``loseConnection`` do takes a socket two more turns of the
    reactor, and four more system calls; for a small upload that is an eighth of
    all its work.  A new answer always fits into an idle socket, so it is sent
    here and now, and the transport is told what the reactor would tell it.
    """
    is_socket: bool = IReadWriteDescriptor.providedBy(transport)
    if not is_socket:
        transport.write(answer)
        transport.loseConnection()
        return
    try:
        sent = transport.getHandle().send(answer)
    except OSError:
        sent = 0
    if sent == len(answer):
        try:
            transport.stopReading()
            transport.stopWriting()
        finally:
            transport.connectionLost(_DONE)
    else:
        transport.write(answer[sent:])
        transport.loseConnection()
