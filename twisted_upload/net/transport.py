"""
A server transport that reads at once what has already come.

It begins with what has been read when its sender was accepted
(`twisted_upload.net.acceptor`), reads what has come since, and registers its socket with
the reactor only if there is more to wait for.

What is read goes into one buffer first, and is copied out: the bytes that ``recv``
makes are as many as might have come, and are cut then; the holes which that leaves
in the heap were 100 MiB after 200,000 uploads.

All that this way needs of Twisted beside what Twisted promises is used in this file, and
`tests/net/test_transport.py` says what has changed where it has.
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

__all__ = ["EagerServer", "read_eagerly", "read_now", "serve_accepted"]

_DONE = Failure(ConnectionDone())


class EagerServer(tcp.Server):
    """
    A TCP server transport for protocols that call `read_now` when their
    connection is made.  It does not read before that.

    :param view: of the buffer that is read into.
    :ivar already: what has been read before; `read_now` gives it to the protocol.
    :ivar heard_end: the half-close has been read from the socket.
    """

    def __init__(self, view: memoryview, *arguments: Any) -> None:
        # All of ours is set here; see `twisted_upload.frontends.raw.sender.Sender`.
        self._view = view
        self.already: Sequence[bytes] | None = None
        self.heard_end = False  # the half-close has been read from the socket
        self._waiting = True  # for read_now
        self._begun = False  # read_now
        self._wanted = False  # reading, meanwhile
        self._registered = False  # with the reactor, some time
        super().__init__(*arguments)

    @property
    def _spoken_to(self) -> Any:
        """Its protocol; it has none any more when it is lost."""
        return getattr(self, "protocol", None)

    # Twisted gives each two strings about itself, 165 bytes: they are made when asked for.

    @property
    def logstr(self) -> str:
        """For Twisted's log."""
        return f"{self._getLogPrefix(self._spoken_to)},{self.sessionno},{self.hostname}"

    @logstr.setter
    def logstr(self, said: str) -> None:
        """Not kept."""

    @property
    def repstr(self) -> str:
        """For people."""
        name = type(self._spoken_to).__name__
        return f"<{name} #{self.sessionno} on {self.server._realPortNumber}>"  # noqa: SLF001 - see above

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
        Close at once: the end has been read, and all has been said.

        Closing sends what has been said and our own end together; to shut the
        socket down first, as Twisted does, takes as long as to send an answer.
        """
        if self._registered:
            self.stopReading()
            self.stopWriting()
        protocol = self.protocol
        self.disconnected, self.connected = True, False
        with contextlib.suppress(OSError):  # closed it is, whatever close(2) says
            self.socket.close()
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(_DONE)


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
    view = memoryview(bytearray(tcp.Server.bufferSize))
    port.transport = partial(EagerServer, view)
    if hasattr(port.factory, "take_whole"):
        port.acceptor = Acceptor(port, view, port._buildAddr)  # noqa: SLF001 - see above
        port.doRead = port.acceptor.accept


def serve_accepted(port: Any) -> None:
    """Serve those whom a port has accepted, if it makes any wait for that."""
    acceptor = getattr(port, "acceptor", None)
    if acceptor is not None:
        acceptor.serve_the_rest()


_log = Logger()
