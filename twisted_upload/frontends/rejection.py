"""
Rejected connections: they are sent the reason, and closed.

Nothing else is done for them.  The answer is sent at once.  Then any further data is
read briefly and discarded, because closing with unread input would make the kernel
reset the connection before the sender has read the answer.  The number of such
connections is limited; at the limit, the oldest one is closed at once.
"""

from __future__ import annotations

from socket import SHUT_WR
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime, IReadWriteDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.connections import ConnectionProtocol, Connections
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.timeouts import IdleTimeouts
from twisted_upload.net.transport import read_now

__all__ = ["LONGEST_STAY", "MOST_DISCARDED", "RejectedConnection", "RejectedConnections"]

LONGEST_STAY = 2.0
"""Maximum number of seconds for which a rejected connection stays open."""

MOST_DISCARDED = 1024 * 1024
"""Maximum number of bytes that are read from it and discarded."""

_DONE = Failure(ConnectionDone())


@implementer(IHalfCloseableProtocol)
class RejectedConnection(ConnectionProtocol, Protocol):
    """
    A connection that was not accepted.

    :param rejected: holds it until it is closed.
    :param answer: what it is sent.
    """

    transport: Any
    slot = None
    in_flight = False
    is_new = False

    def __init__(self, rejected: RejectedConnections, answer: bytes) -> None:
        self._rejected = rejected
        self._answer = answer
        self._discarded = 0
        self._gone = False

    @property
    def sockets(self) -> Sockets:
        """See `ConnectionProtocol.sockets`."""
        return self._rejected.sockets

    def connectionMade(self) -> None:
        """Send the answer at once."""
        answer = self._answer
        self._rejected.enter(self)
        is_socket: bool = IReadWriteDescriptor.providedBy(self.transport)
        if not is_socket:
            self.transport.write(answer)
            self.transport.loseWriteConnection()
            return
        # Bypass the transport, which would take two turns of the reactor for it.
        socket = self.transport.getHandle()
        try:
            socket.send(answer)
            socket.shutdown(SHUT_WR)
        except OSError:
            self.close()
        else:
            read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Discard the data, and close the connection if there is too much of it."""
        self._discarded += len(data)
        if self._discarded > MOST_DISCARDED:
            self.close()

    def readConnectionLost(self) -> None:
        """Close the connection: the sender has finished."""
        is_socket: bool = IReadWriteDescriptor.providedBy(self.transport)
        if is_socket:
            self.close()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: it was our own half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the front end: the connection is closed."""
        self._gone = True
        self._rejected.leave(self)

    def close(self) -> None:
        """Close the connection; harmless if it is already closed."""
        if self._gone:
            return
        transport = self.transport
        is_socket: bool = IReadWriteDescriptor.providedBy(transport)
        if is_socket:
            try:
                transport.stopReading()
                transport.stopWriting()
            finally:
                transport.connectionLost(_DONE)
        else:
            transport.abortConnection()

    def refuse(self, refusal: UploadRefused) -> None:
        """See `IConnection.refuse`: it has been refused already."""


class RejectedConnections:
    """
    The rejected connections that are still open.

    :param connections: of the front end, which these are part of.
    :param most: maximum number of them at a time; the same for each front end of the
        process.
    :ivar sockets: the system calls of the connections.
    """

    def __init__(self, connections: Connections, clock: IReactorTime, most: int) -> None:
        self.sockets = connections.sockets
        self._connections = connections
        self._most = most
        self._staying = IdleTimeouts(clock, LONGEST_STAY, RejectedConnection.close)

    def __len__(self) -> int:
        return len(self._staying)

    def enter(self, connection: RejectedConnection) -> None:
        """Add a connection, and close the oldest one if there are too many."""
        if len(self._staying) >= self._most:
            self._staying.longest_idle().close()
        self._staying.restart(connection)
        self._connections.enter(connection)

    def leave(self, connection: RejectedConnection) -> None:
        """Remove a connection."""
        self._staying.cancel(connection)
        self._connections.leave(connection)
