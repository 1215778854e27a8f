"""
A server transport that reads at once what has already arrived.

It starts with what was read when its sender was accepted
(`twisted_upload.net.acceptor`), reads what has arrived since, and registers its socket
with the reactor only if there is more to wait for.

Data is read into one buffer and copied out.  ``recv`` would allocate as many bytes as
might arrive and then shrink the result; the holes that this left in the heap amounted
to 100 MiB after 200,000 uploads.

Everything that this needs of Twisted beyond its public API is used in this file; if
that changes, `tests/net/test_transport.py` shows what.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.net.acceptor import Acceptor
from twisted_upload.net.sockets import Sockets

__all__ = ["EagerServer", "read_eagerly", "read_now", "serve_accepted"]

_DONE = Failure(ConnectionDone())


class EagerServer(tcp.Server):
    """
    A TCP server transport for protocols that call `read_now` when their connection is
    made.  It does not read before that.

    :param view: of the buffer that is read into.
    :ivar already: what has been read before; `read_now` passes it to the protocol.
    :ivar heard_end: whether the half-close has been read from the socket.
    """

    def __init__(self, view: memoryview, *arguments: Any) -> None:
        # All our attributes are set here; see `twisted_upload.frontends.sender.UploadSender`.
        self._view = view
        self.already: Sequence[bytes] | None = None
        self.heard_end = False  # the half-close has been read from the socket
        self._waiting = True  # for read_now
        self._begun = False  # read_now
        self._wanted = False  # reading, before that
        self._registered = False  # with the reactor, at any time
        super().__init__(*arguments)

    @property
    def _current_protocol(self) -> Any:
        """Its protocol; `None` after the connection is lost."""
        return getattr(self, "protocol", None)

    # Twisted gives each transport two strings, 165 bytes: these are made on demand.

    @property
    def logstr(self) -> str:
        """The transport's name in Twisted's log."""
        return f"{self._getLogPrefix(self._current_protocol)},{self.sessionno},{self.hostname}"

    @logstr.setter
    def logstr(self, value: str) -> None:
        """Discard the value."""

    @property
    def repstr(self) -> str:
        """The transport's name for people."""
        name = type(self._current_protocol).__name__
        return f"<{name} #{self.sessionno} on {self.server._realPortNumber}>"  # noqa: SLF001 - see above

    @repstr.setter
    def repstr(self, value: str) -> None:
        """Discard the value."""

    def startReading(self) -> None:
        """Read what arrives; before `read_now`, only note that reading is wanted."""
        if self._waiting:
            self._wanted = True
        else:
            self._registered = True
            super().startReading()  # type: ignore[no-untyped-call]

    def stopReading(self) -> None:
        """Stop reading."""
        self._wanted = False
        if self._registered:
            super().stopReading()  # type: ignore[no-untyped-call]

    def startWriting(self) -> None:
        """Write when the socket can take data."""
        self._registered = True
        super().startWriting()  # type: ignore[no-untyped-call]

    def stopWriting(self) -> None:
        """Stop writing."""
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
        Read what is there: data, and the end if it follows directly.

        Only the first call does anything: a protocol that takes a connection over must
        first be given what has been read.
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
            _log.failure("internal error: a new connection could not be read")
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
        Close at once: there is nothing left to read, and everything has been sent.

        Closing sends what is still in the socket together with our own end; shutting
        the socket down first, as Twisted does, takes as long as sending an answer.
        """
        self._wanted = False
        if self._registered:
            self.stopReading()
            self.stopWriting()
        protocol = self.protocol
        self.disconnected, self.connected = True, False
        with contextlib.suppress(OSError):  # it is closed whatever close(2) returns
            self.socket.close()
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(_DONE)


def read_now(transport: Any) -> None:
    """Make a transport read at once, if it can."""
    if isinstance(transport, EagerServer):
        transport.read_now()


def read_eagerly(port: Any, sockets: Sockets | None = None) -> None:
    """
    Make a listening port serve its connections this way, if it is a TCP port.

    ``Port.transport`` is where Twisted looks up the class of its connections, and
    ``doRead`` is what its reactor calls.

    :param sockets: the system calls.
    """
    if getattr(port, "transport", None) is not tcp.Server:
        return
    view = memoryview(bytearray(tcp.Server.bufferSize))
    port.transport = partial(EagerServer, view)
    if hasattr(port.factory, "take_whole"):
        address_of = port._buildAddr  # noqa: SLF001 - see above
        port.acceptor = Acceptor(port, view, address_of, sockets or Sockets())
        port.doRead = port.acceptor.accept


def serve_accepted(port: Any) -> None:
    """Serve the connections that a port has accepted and not served yet, if there can be any."""
    acceptor = getattr(port, "acceptor", None)
    if acceptor is not None:
        acceptor.serve_the_rest()


_log = Logger()
