"""
Connections at a port, read from the moment they are accepted.

When a small upload is accepted, all of it and its half-close have often arrived.
Twisted would create a transport and a protocol for it, register the socket with the
reactor, wait, and unregister it again.  Here each new socket is read first:

- if its end has arrived too, nothing more can happen to the connection that would need
  a transport or a timer: the factory takes the upload as it is
  (`IAcceptsWholeUploads`);
- otherwise it gets a transport that starts with what has been read
  (`twisted_upload.net.transport`).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IProtocol
from twisted.logger import Logger

from twisted_upload.net.gate import IConnectionSlot, IGate
from twisted_upload.net.sockets import Sockets

__all__ = ["AcceptedConnection", "Acceptor", "IAcceptsWholeUploads", "keep_urgent_bytes_of"]

AT_ONCE = 256
"""Maximum number of connections that are accepted in one turn of the reactor."""

BYTES_AT_ONCE = 4 * 1024 * 1024
"""Approximate number of bytes that are read from them in one turn."""

READS = 4
"""Number of times that a new socket is read: an upload that takes more is not small."""

_NOW = socket.MSG_DONTWAIT


def keep_urgent_bytes_of(ours: Any) -> None:
    """
    Deliver the urgent bytes of a socket in line; call it before anything is read.

    Linux asks for the option when it is read, and, once, earlier: a second urgent byte drops
    the first one if nothing but that would be read next.  So the port needs it, too, from its
    beginning: see `twisted_upload.net.ports.keep_urgent_bytes`.
    """
    with contextlib.suppress(OSError):  # a kernel whose unix sockets have no urgent bytes
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


class AcceptedConnection:
    """
    A sender that has been accepted.

    :ivar ours: our socket; it blocks, unless a call asks otherwise.
    :ivar host: the sender's address.
    :ivar port: the sender's port.
    :ivar slot: of the connection.
    :ivar pieces: what it has sent so far.
    """

    __slots__ = ("_acceptor", "_address", "host", "ours", "pieces", "port", "slot")

    def __init__(self, acceptor: Acceptor, ours: Any, address: Any, slot: IConnectionSlot) -> None:
        self._acceptor = acceptor
        self._address = address
        self.ours = ours
        self.host, self.port = address[0], address[1]
        self.slot = slot
        self.pieces: list[bytes] = []

    def read(self, view: memoryview) -> tuple[int, bool | None]:
        """
        Read what is there.

        :param view: of a buffer to read into.
        :return: the number of bytes that were read; and whether the connection is
            broken, or `None` if there may be more to come.
        """
        size = 0
        receive, pieces = self.ours.recv_into, self.pieces
        try:
            while len(pieces) < READS:
                count = receive(view, 0, _NOW)
                if not count:
                    return size, False
                size += count
                pieces.append(bytes(view[:count]))
        except BlockingIOError:
            pass
        except OSError:
            return size, True
        return size, None

    def serve(self) -> None:
        """Serve it by the ordinary path: more data is expected, or it is to be refused."""
        self._acceptor.serve(self.ours, self._address, self.pieces, self.slot)

    def adopt(self, protocol: IProtocol) -> None:
        """Give it a transport, for this protocol."""
        self._acceptor.adopt(self.ours, self._address, protocol)


class IAcceptsWholeUploads(Protocol):
    """A factory that accepts uploads whose end has arrived with them."""

    @property
    def gate(self) -> IGate:
        """Decides which connections are accepted."""

    def take_whole(self, accepted_connection: AcceptedConnection, *, lost: bool) -> None:
        """
        Take an upload.

        :param accepted_connection: the sender, and everything it has sent; it belongs
            to the factory from now on.
        :param lost: whether the connection is broken; otherwise the sender has
            half-closed.
        """


class Acceptor:
    """
    Accepts the connections of a port, and reads them.

    A connection whose end has not arrived yet is read once more in the next turn of the
    reactor, after the uploads of this turn have been processed: if the daemon is busy,
    most new connections are whole by then.

    :param port: listens; its socket is one of `twisted_upload.net.ports`.
    :param view: of a buffer to read into.
    :param address_of: makes an address object of the address that `socket.accept`
        returns.
    :param sockets: the system calls.
    """

    def __init__(
        self,
        port: Any,
        view: memoryview,
        address_of: Callable[[Any], IAddress],
        sockets: Sockets,
    ) -> None:
        self._port = port
        self._sockets = sockets
        self._factory: IAcceptsWholeUploads = port.factory
        self._gate = self._factory.gate
        self._view = view
        self._address_of = address_of
        self._again: list[AcceptedConnection] = []

    def accept(self) -> None:
        """Accept the waiting connections: what a port does when it becomes readable."""
        port = self._port
        listening = port.socket
        accept, spare = listening.accept_descriptor, listening.spare
        make, family, kind = self._sockets.bare, port.addressFamily, port.socketType
        room = BYTES_AT_ONCE
        for _ in range(AT_ONCE - len(self._again)):
            if port.disconnecting or room <= 0:
                return
            short = spare.short
            try:
                accepted_connection, address = listening.accept() if short else accept()
            except BlockingIOError:
                return
            except OSError as error:
                if not listening.has_others_after(error):
                    return
                continue
            ours = None
            try:
                if short:
                    ours = accepted_connection
                    room -= self._serve_unread(ours, address)
                else:
                    ours = make(family, kind, 0, accepted_connection)
                    keep_urgent_bytes_of(ours)
                    room -= self._read(ours, address)
            except Exception:  # the others are still accepted
                _log.failure("internal error: a new connection could not be served")
                if ours is not None:
                    ours.close()
                else:
                    self._sockets.close(accepted_connection)

    def read_again(self) -> None:
        """Serve the connections that have been accepted."""
        room = BYTES_AT_ONCE
        self._again, again = [], self._again
        for index, accepted_connection in enumerate(again):
            if room <= 0:
                self._read_later(*again[index:])
                return
            try:
                room -= self._read_once_more(accepted_connection)
            except Exception:
                _log.failure("internal error: a new connection could not be served")
                accepted_connection.slot.release()
                accepted_connection.ours.close()

    def serve_the_rest(self) -> None:
        """Serve all connections that have been accepted."""
        while self._again:
            self.read_again()

    def _read_later(self, *connections: AcceptedConnection) -> None:
        if not self._again:
            self._port.reactor.callLater(0, self.read_again)
        self._again += connections

    def _serve_unread(self, ours: Any, address: Any) -> int:
        """
        Serve it by the ordinary path, unread; return how much of a turn's byte limit
        that may take.
        """
        self.serve(ours, address)
        return 2 * len(self._view)

    def _read(self, ours: Any, address: Any) -> int:
        """Read and serve one connection; return how many bytes were read."""
        # A link-local address is incomplete without its scope.
        slot = None if len(address) == 4 and address[3] else self._gate.slot_for(address[0])
        if slot is None:
            return self._serve_unread(ours, address)
        accepted_connection = AcceptedConnection(self, ours, address, slot)
        size, lost = accepted_connection.read(self._view)
        if lost is not None:
            self._factory.take_whole(accepted_connection, lost=lost)
            return size
        self._read_later(accepted_connection)
        slot.take()
        return size

    def _read_once_more(self, accepted_connection: AcceptedConnection) -> int:
        """Do the same, for the last time."""
        size = 0
        if self._gate.serves_directly:
            size, lost = accepted_connection.read(self._view)
            if lost is not None:
                self._factory.take_whole(accepted_connection, lost=lost)
                return size
        accepted_connection.serve()
        return size

    def serve(
        self,
        ours: Any,
        address: Any,
        already: Sequence[bytes] | None = None,
        slot: IConnectionSlot | None = None,
    ) -> None:
        """
        Serve a connection by the ordinary path.

        :param already: what has been read.
        :param slot: of the connection, if it has been read.
        """
        if len(address) == 4:
            address = (self._sockets.host_with_scope(address), *address[1:])
        protocol = self._gate.protocol_for(self._address_of(address), slot)
        self.adopt(ours, address, protocol, already)

    def adopt(
        self,
        ours: Any,
        address: Any,
        protocol: IProtocol,
        already: Sequence[bytes] | None = None,
    ) -> None:
        """Create a transport for a protocol, which starts with what has been read."""
        port = self._port
        ours = self._sockets.full(ours, port.addressFamily, port.socketType)
        port.sessionno += 1
        transport = port.transport(ours, protocol, address, port, port.sessionno, port.reactor)
        transport.already = already
        protocol.makeConnection(transport)


_log = Logger()
