"""
Senders that may not come in: they hear why, and go.

Nothing else is done for them.  The answer is sent at once; then what they still
send is read for a moment and thrown away, because closing with unread input
would make the kernel reset the connection before they have read it.  There is
room for a certain number of them; when it is full, whoever has been there
longest goes at once.
"""

from __future__ import annotations

from socket import SHUT_WR
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime, IReadWriteDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.core.answers import refused_answer
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.connections import ConnectionProtocol, Connections
from twisted_upload.net.timeouts import IdleTimeouts
from twisted_upload.net.transport import read_now

__all__ = ["LONGEST_STAY", "MOST_DISCARDED", "RejectedConnection", "RejectedConnections"]

LONGEST_STAY = 2.0
"""Seconds for which a rejected sender may stay."""

MOST_DISCARDED = 1024 * 1024
"""Bytes that are read from it and thrown away."""

_DONE = Failure(ConnectionDone())


@implementer(IHalfCloseableProtocol)
class RejectedConnection(ConnectionProtocol, Protocol):
    """
    A sender that may not come in.

    :param rejected: where it stays until it has heard why.
    :param refusal: why.
    """

    transport: Any
    slot = None
    in_flight = False

    def __init__(self, rejected: RejectedConnections, refusal: UploadRefused) -> None:
        self._rejected = rejected
        self._refusal = refusal
        self._discarded = 0
        self._gone = False

    def connectionMade(self) -> None:
        """Tell it at once."""
        answer = refused_answer(self._refusal)
        self._rejected.enter(self)
        is_socket: bool = IReadWriteDescriptor.providedBy(self.transport)
        if not is_socket:
            self.transport.write(answer)
            self.transport.loseWriteConnection()
            return
        # Past the transport, which would take two turns of the reactor for it.
        socket = self.transport.getHandle()
        try:
            socket.send(answer)
            socket.shutdown(SHUT_WR)
        except OSError:
            self.close()
        else:
            read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Whatever it is, it comes too late."""
        self._discarded += len(data)
        if self._discarded > MOST_DISCARDED:
            self.close()

    def readConnectionLost(self) -> None:
        """It has nothing more to say."""
        is_socket: bool = IReadWriteDescriptor.providedBy(self.transport)
        if is_socket:
            self.close()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """That was us."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has gone."""
        self._gone = True
        self._rejected.leave(self)

    def close(self) -> None:
        """Its time is over; harmless when it has gone."""
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
        """See `IConnection.refuse`: it has been."""


class RejectedConnections:
    """
    Where rejected senders stay.

    :param connections: of the front end; they belong to them.
    :param most: that stay at a time, of all front ends of the process alike.
    """

    def __init__(self, connections: Connections, clock: IReactorTime, most: int) -> None:
        self._connections = connections
        self._most = most
        self._staying = IdleTimeouts(clock, LONGEST_STAY, RejectedConnection.close)

    def __len__(self) -> int:
        return len(self._staying)

    def enter(self, connection: RejectedConnection) -> None:
        """One more."""
        if len(self._staying) >= self._most:
            self._staying.longest_idle().close()
        self._staying.restart(connection)
        self._connections.enter(connection)

    def leave(self, connection: RejectedConnection) -> None:
        """One less."""
        self._staying.cancel(connection)
        self._connections.leave(connection)
