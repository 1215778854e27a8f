"""
Reading at once what has already come, from the moment a sender is accepted.

When a small upload is accepted, all of it and its half-close are often there.
Twisted would make a transport and a protocol for it, register the socket with the
reactor, wait, and unregister it again.  Here each newcomer's socket is read first
(`Doorstep`):

- where its end has come too, nothing can happen to the connection any more that a
  transport or a timer would be for: the door takes the upload as it is (`IDoor`);
- otherwise it gets a transport that begins with what has been read, and that
  registers its socket only if there is more to wait for (`EagerServer`).

What is read goes into one buffer first, and is copied out: the bytes that ``recv``
makes are as many as might have come, and are cut then; the holes which that leaves
in the heap were 100 MiB after 200,000 uploads.

All that is used here of Twisted and of Python's sockets beside what they promise is
used in this file, and `tests/test_eager.py` says what has changed where it has.
"""

from __future__ import annotations

import _socket
import errno
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = [
    "Doorstep",
    "EagerServer",
    "ITakesWhole",
    "Newcomer",
    "read_eagerly",
    "read_now",
    "serve_newcomers",
]

AT_ONCE = 256
"""Newcomers that are seen to in one turn of the reactor at the most."""

BYTES_AT_ONCE = 4 * 1024 * 1024
"""Bytes of them that are read in one turn, about."""

READS = 4
"""Times that a newcomer's socket is read: more than that is not small."""

_NOW = socket.MSG_DONTWAIT
_DONE = Failure(ConnectionDone())

# What accept(2) says of one newcomer, and not of the listening socket.
_GONE = {
    *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
    *(errno.ENETDOWN, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.ENETUNREACH),
}
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class EagerServer(tcp.Server):
    """
    A TCP server transport for protocols that call `read_now` when their
    connection is made.  It does not read before that.

    :param view: of the buffer that is read into.
    :ivar already: what has been read before; `read_now` gives it to the protocol.
    :ivar heard_end: the half-close has been read from the socket.
    """

    def __init__(self, view: memoryview, *arguments: Any) -> None:
        # All of ours is set here; see `twisted_upload.sender_base.Sender`.
        self._view = view
        self.already: Sequence[bytes] | None = None
        self.heard_end = False  # the half-close has been read from the socket
        self._waiting = True  # for read_now
        self._begun = False  # read_now
        self._wanted = False  # reading, meanwhile
        self._registered = False  # with the reactor, some time
        super().__init__(*arguments)

    # Twisted gives each two strings about itself, 165 bytes: they are made when asked for.

    @property
    def logstr(self) -> str:
        """For Twisted's log."""
        return f"{self._getLogPrefix(self.protocol)},{self.sessionno},{self.hostname}"

    @logstr.setter
    def logstr(self, said: str) -> None:
        """Not kept."""

    @property
    def repstr(self) -> str:
        """For people."""
        return f"<{type(self).__name__} #{self.sessionno} on {self.server._realPortNumber}>"  # noqa: SLF001

    @repstr.setter
    def repstr(self, said: str) -> None:
        """Not kept."""

    def startReading(self) -> None:
        """Read what comes; at first, `read_now` does."""
        if self._waiting:
            self._wanted = True
        else:
            self._registered = True
            super().startReading()  # type: ignore[no-untyped-call]

    def stopReading(self) -> None:
        """Read no more."""
        self._wanted = False
        if self._registered:
            super().stopReading()  # type: ignore[no-untyped-call]

    def startWriting(self) -> None:
        """Write when there is room."""
        self._registered = True
        super().startWriting()  # type: ignore[no-untyped-call]

    def stopWriting(self) -> None:
        """Write no more."""
        if self._registered:
            super().stopWriting()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """Read once."""
        try:
            size = self.socket.recv_into(self._view)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not size:
            self.heard_end = True
            return CONNECTION_DONE
        self.protocol.dataReceived(bytes(self._view[:size]))
        return None

    def read_now(self) -> None:
        """
        Read what is there: data, and the end if it comes right after it.

        Only the first time: whoever takes a connection over has to be given
        first what has been read.
        """
        if self._begun:
            return
        self._begun = True
        why = None
        try:
            if self.already is not None:
                already, self.already = self.already, None
                for data in already:
                    self.protocol.dataReceived(data)
            elif self._wanted:
                why = self.doRead()
                if why is None and self._wanted and self.protocol.in_flight:  # type: ignore[attr-defined]
                    why = self.doRead()
        except Exception:
            _log.failure("reading from a new connection")
            why = CONNECTION_LOST
        self._waiting = False
        if why is None:
            if self._wanted:
                self.startReading()
        elif why is CONNECTION_DONE:
            self.readConnectionLost(_DONE)
        else:
            self.connectionLost(Failure(why))

    def leave(self) -> None:
        """
        Close at once: the end has been read, and all has been said.

        Closing sends what has been said and our own end together; to shut the
        socket down first, as Twisted does, takes as long as to send an answer.
        """
        if self._registered:
            self.stopReading()
            self.stopWriting()
        protocol = self.protocol
        self.disconnected, self.connected = True, False
        self.socket.close()
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(_DONE)


class Newcomer:
    """
    A sender that has been accepted.

    :ivar ours: our socket; it blocks, unless it is told not to.
    :ivar host: its address.
    :ivar port: the same.
    :ivar group: what it is counted by.
    :ivar pieces: what it has sent so far.
    """

    __slots__ = ("_address", "_doorstep", "group", "host", "ours", "pieces", "port")

    def __init__(self, doorstep: Doorstep, ours: Any, address: Any, group: str) -> None:
        self._doorstep = doorstep
        self._address = address
        self.ours = ours
        self.host, self.port = address[0], address[1]
        self.group = group
        self.pieces: list[bytes] = []

    def read(self, view: memoryview) -> tuple[int, bool | None]:
        """
        Read what is there.

        :param view: of a buffer for that.
        :return: how many bytes have come; and whether the connection has broken, or
            `None` where there may be more to come.
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
        """There is more to come, or to be refused: the ordinary way."""
        self._doorstep.serve(self.ours, self._address, self.pieces)

    def adopt(self, protocol: IProtocol) -> None:
        """Make a connection of it for a protocol."""
        self._doorstep.adopt(self.ours, self._address, protocol)


class ITakesWhole(Protocol):
    """A factory that takes uploads whose end has come with them."""

    def lets_in(self, host: str) -> str | None:
        """
        Whether a sender at this address may come in, and is not asked anything before
        its upload.

        :return: what it is counted by; `None` where not.
        """

    def hold_place(self, group: str) -> None:
        """One that may come in has a place from now on, though nothing is known of it yet."""

    def give_place_back(self, group: str) -> None:
        """It has none any more."""

    def take_whole(self, newcomer: Newcomer, *, lost: bool) -> None:
        """
        Take an upload.

        :param newcomer: who has sent it, and all of it; the factory's from now on.
        :param lost: the connection has broken; otherwise it has half-closed.
        """


class Doorstep:
    """
    Where newcomers at a port are met.

    One whose end has not come yet is read once more in the next turn of the reactor,
    after what this one has brought has been kept: most of those who have just
    connected are whole by then, where the daemon is busy.

    :param port: listens; its socket is a `twisted_upload.ports` one.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self._factory: ITakesWhole = port.factory
        self._view = port.transport.args[0]
        self._again: list[Newcomer] = []

    def meet(self) -> None:
        """Accept whoever has come: what a port does when it can be read from."""
        port = self._port
        listening = port.socket
        accept, spare = listening.accept_descriptor, listening.spare
        make, family, kind = _socket.socket, port.addressFamily, port.socketType
        room = BYTES_AT_ONCE
        for _ in range(AT_ONCE):
            if port.disconnecting or room <= 0:
                return
            try:
                if spare.short:
                    ours, address = listening.accept()
                    self.serve(ours, address)
                    continue
                descriptor, address = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    listening.run_short(error)
                elif error.errno not in _GONE:
                    listening.wait(error)
                    return
                continue
            ours = make(family, kind, 0, descriptor)
            try:
                room -= self._meet(ours, address)
            except Exception:  # the others are met all the same
                _log.failure("a defect: a newcomer could not be served")
                ours.close()

    def meet_again(self) -> None:
        """Serve those who have been accepted."""
        room = BYTES_AT_ONCE
        self._again, again = [], self._again
        for index, newcomer in enumerate(again):
            if room <= 0:
                self._meet_later(*again[index:])
                return
            try:
                room -= self._meet_once_more(newcomer)
            except Exception:
                _log.failure("a defect: a newcomer could not be served")
                newcomer.ours.close()

    def meet_the_rest(self) -> None:
        """Serve all who have been accepted."""
        while self._again:
            self.meet_again()

    def _meet_later(self, *newcomers: Newcomer) -> None:
        if not self._again:
            self._port.reactor.callLater(0, self.meet_again)
        self._again += newcomers

    def _meet(self, ours: Any, address: Any) -> int:
        """See to one of them; how many bytes have come."""
        # The host of a link-local address is not all of it.
        group = None if len(address) == 4 and address[3] else self._factory.lets_in(address[0])
        if group is None:
            self.serve(ours, address)
            return 0
        newcomer = Newcomer(self, ours, address, group)
        size, lost = newcomer.read(self._view)
        if lost is not None:
            self._factory.take_whole(newcomer, lost=lost)
            return size
        self._meet_later(newcomer)
        self._factory.hold_place(group)
        return size

    def _meet_once_more(self, newcomer: Newcomer) -> int:
        """The same, for the last time."""
        size = 0
        self._factory.give_place_back(newcomer.group)
        if self._factory.lets_in(newcomer.host) is not None:  # still
            size, lost = newcomer.read(self._view)
            if lost is not None:
                self._factory.take_whole(newcomer, lost=lost)
                return size
        newcomer.serve()
        return size

    def serve(self, ours: Any, address: Any, already: Sequence[bytes] | None = None) -> None:
        """
        Have somebody served in the ordinary way.

        :param already: what has been read.
        """
        if len(address) == 4:
            numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
            address = (socket.getnameinfo(address, numbers)[0], *address[1:])
        port = self._port
        protocol = port.factory.buildProtocol(port._buildAddr(address))  # noqa: SLF001 - no public way
        if protocol is None:
            ours.close()
        else:
            self.adopt(ours, address, protocol, already)

    def adopt(
        self,
        ours: Any,
        address: Any,
        protocol: IProtocol,
        already: Sequence[bytes] | None = None,
    ) -> None:
        """Make a connection for a protocol, which begins with what has been read."""
        port = self._port
        if not isinstance(ours, socket.socket):
            ours = socket.socket(port.addressFamily, port.socketType, 0, ours.detach())
        port.sessionno += 1
        transport = port.transport(ours, protocol, address, port, port.sessionno, port.reactor)
        transport.already = already
        protocol.makeConnection(transport)


def read_now(transport: Any) -> None:
    """Have a transport read at once, if it is one that can."""
    if isinstance(transport, EagerServer):
        transport.read_now()


def read_eagerly(port: Any) -> None:
    """
    Have a listening port serve its connections so, if it is a TCP port.

    ``Port.transport`` is where Twisted looks for the class of its connections, and
    ``doRead`` what its reactor calls.
    """
    if getattr(port, "transport", None) is not tcp.Server:
        return
    port.transport = partial(EagerServer, memoryview(bytearray(tcp.Server.bufferSize)))
    if hasattr(port.factory, "take_whole"):
        port.doorstep = Doorstep(port)
        port.doRead = port.doorstep.meet


def serve_newcomers(port: Any) -> None:
    """Serve those whom a port has accepted, if it makes any wait for that."""
    doorstep = getattr(port, "doorstep", None)
    if doorstep is not None:
        doorstep.meet_the_rest()


_log = Logger()
