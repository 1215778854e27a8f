"""
Uploads whose end had arrived when their senders were accepted.

Most small uploads are like that when the daemon is busy.  The sender has finished:
there is nothing to read, to pause or to wait for except the store.  So there is no
transport and no timer; everything else is as for any sender
(`twisted_upload.frontends.raw.sender`).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.sender import Sender
from twisted_upload.frontends.raw.settings import ActiveSettings
from twisted_upload.net.acceptor import AcceptedConnection
from twisted_upload.net.endpoint_text import socket_name
from twisted_upload.net.half_close import send_last

__all__ = ["WholeUpload"]

_RESET = struct.pack("ii", 1, 0)  # struct linger of socket(7): discard what is unsent


class WholeUpload(Sender):
    """
    One sender that has sent everything, and its upload.

    :param frontend: whose store stores the upload.
    :param active_settings: in force when the sender connected.
    :param accepted_connection: the sender's.
    """

    def __init__(
        self,
        frontend: Frontend[Any],
        active_settings: ActiveSettings,
        accepted_connection: AcceptedConnection,
    ) -> None:
        super().__init__(frontend, active_settings, accepted_connection.slot)
        self._accepted_connection = accepted_connection
        self._open = True  # its socket
        self._rest: _AnswerRest | None = None
        self._peer = socket_name(accepted_connection.host, accepted_connection.port)
        self._began_at = frontend.clock.seconds()

    def take(self, *, lost: bool) -> None:
        """
        Process the upload.

        :param lost: the connection is broken, and what has arrived is not the whole
            file.
        """
        self.frontend.enter(self)
        self._half_closed = not lost
        pieces, self._accepted_connection.pieces = self._accepted_connection.pieces, []
        try:
            if lost:
                for data in pieces:
                    self._has_come(data)
                self._close()
                self._upload.lost()
                return
            for data in pieces:
                self.size += len(data)
            if not pieces:
                self._upload.ended()
            elif not self._is_too_large():
                self._upload.came_whole(pieces)
        except Exception:
            self.broke()

    @property
    def peer(self) -> str:
        """The name of the sender, for people."""
        return self._peer

    def abort(self) -> None:
        """See `IConnection.abort`."""
        if self._rest is not None:
            self._rest.transport.abortConnection()
        elif self._open:
            with contextlib.suppress(OSError):  # it may be closed: its transport failed
                self._accepted_connection.ours.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET
                )
            self._close()
            self._upload.lost()

    def _answer(self, answer: bytes) -> None:
        self._answered = True
        if not self._open:
            return
        rest = send_last(self._accepted_connection.ours, answer)
        if not rest:
            self._close()
            return
        self._accepted_connection.adopt(_AnswerRest(self, rest))

    def _close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):  # it is closed whatever close(2) returns
                self._accepted_connection.ours.close()
            self.frontend.leave(self)

    def sends_rest(self, rest: _AnswerRest) -> None:
        """Note that a transport, which owns the socket now, is sending the rest of the answer."""
        self._open, self._rest = False, rest
        self._active_settings.lingering.restart(self)

    def rest_sent(self) -> None:
        """Leave the front end: the rest has been sent, or cannot be."""
        self._rest = None
        self._active_settings.lingering.cancel(self)
        self.frontend.leave(self)


class _AnswerRest(Protocol):
    """Sends the part of an answer that a socket has not accepted yet, and closes."""

    transport: Any

    def __init__(self, whole: WholeUpload, rest: bytes) -> None:
        self._whole = whole
        self._rest = rest

    def connectionMade(self) -> None:
        self._whole.sends_rest(self)
        self.transport.write(self._rest)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._whole.rest_sent()
