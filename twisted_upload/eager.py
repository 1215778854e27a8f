"""
A server transport that reads at once what has already come.

When a small upload is accepted, all of it and its half-close are often there.
The reactor would learn that by registering the socket, waiting, and
unregistering it again; this transport just reads, and registers a socket only
if there is more to wait for.

It asks the socket how much there is.  The bytes that ``recv`` makes are as many as
might have come, and are cut then; the holes which that leaves in the heap are too
small for the next, and were 100 MiB after 200,000 uploads.

It also tells for certain whether the end has been read from the socket, which
`twisted_upload.ending` would have to ask for.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["EagerServer", "read_eagerly", "read_now"]

_LEAST = 512
"""Bytes to ask for where less is there, or the end: so short holes do not matter."""

_NONE = bytes(4)
_DONE = Failure(ConnectionDone())


class EagerServer(tcp.Server):
    """
    A TCP server transport for protocols that call `read_now` when their
    connection is made.  It does not read before that.

    :ivar heard_end: the half-close has been read from the socket.
    """

    heard_end = False
    _waiting = True  # for read_now
    _begun = False  # read_now
    _wanted = False  # reading, meanwhile

    def startReading(self) -> None:
        """Read what comes; at first, `read_now` does."""
        if self._waiting:
            self._wanted = True
        else:
            super().startReading()  # type: ignore[no-untyped-call]

    def stopReading(self) -> None:
        """Read no more."""
        self._wanted = False
        if not self._waiting:
            super().stopReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """Read once."""
        try:
            size = _there(self.fileno())
            # Where much comes, what comes meanwhile is welcome: a large upload is known
            # by large reads (`twisted_upload.handover.worth_it`).
            much = size >= self.bufferSize // 4
            data = self.socket.recv(self.bufferSize if much else max(size, _LEAST))
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            self.heard_end = True
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
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
        try:
            why = self.doRead() if self._wanted else None
            if why is None and self._wanted and self.protocol.in_flight:  # type: ignore[attr-defined]
                why = self.doRead()
        except Exception:
            _log.failure("reading from a new connection")
            why = CONNECTION_LOST
        self._waiting = False
        if why is None:
            if self._wanted:
                super().startReading()  # type: ignore[no-untyped-call]
        elif why is CONNECTION_DONE:
            self.readConnectionLost(_DONE)
        else:
            self.connectionLost(Failure(why))


def _there(descriptor: int) -> int:
    """Bytes that a socket has for us."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, _NONE), sys.byteorder)


def read_now(transport: Any) -> None:
    """Have a transport read at once, if it is one that can."""
    if isinstance(transport, EagerServer):
        transport.read_now()


def read_eagerly(port: Any) -> None:
    """
    Have a listening port serve its connections so, if it is a TCP port.

    ``Port.transport`` is where Twisted looks for the class of its connections.
    """
    if getattr(port, "transport", None) is tcp.Server:
        port.transport = EagerServer


_log = Logger()
