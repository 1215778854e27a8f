"""
One sender at the raw front end, and its upload: connects transport and timers to the
lifecycle.

The states and transitions are defined in `twisted_upload.core.lifecycle`.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.core.text import format_duration
from twisted_upload.errors import TimedOut
from twisted_upload.frontends.connections import ConnectionProtocol
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.sender import Sender
from twisted_upload.frontends.raw.settings import ActiveSettings
from twisted_upload.frontends.sender import slower_than
from twisted_upload.frontends.splice import SocketSplice, splice_for, worth_it
from twisted_upload.interfaces import Arrival, IIncomingUpload, SpliceResult
from twisted_upload.net.addresses import peer_name, unix_peer_name
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.half_close import (
    answer_and_close,
    has_half_closed,
    has_unread,
    reset,
    unread_size,
)
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.timeouts import MinimumRate
from twisted_upload.net.transport import read_now

__all__ = ["UploadProtocol"]

_HTTP_REQUEST = re.compile(rb"[A-Z]{3,10} \S+ HTTP/1\.[01]\r?\n")
_NOT_HTTP = "it looks like an HTTP request, and this port takes only the bytes of a file"


@implementer(IHalfCloseableProtocol, IPushProducer)
class UploadProtocol(Sender, ConnectionProtocol, Protocol):
    """
    One sender with a transport, and its upload.

    To the incoming upload it is the push producer: pausing it pauses the transport and
    the idle timeout.

    :param frontend: whose store stores the upload.
    :param active_settings: in force when the sender connected.
    :param slot: of the connection.
    :param address: of the sender.
    """

    transport: Any  # an ITCPTransport that is an IPushProducer too, as Twisted's are

    def __init__(
        self,
        frontend: Frontend[Any],
        active_settings: ActiveSettings,
        slot: IConnectionSlot,
        address: IAddress | None,
    ) -> None:
        super().__init__(frontend, active_settings, slot)
        self._address = address  # until the name is made from it
        self._incoming: IIncomingUpload | None = None
        self._ended = False  # by idle timeout: what still arrives is too late
        self._connected = False
        self._discarded = 0
        self._looks_like_http = False
        self.paused = False  # by the store, or because the store reads the socket
        self._peer = ""
        self._splice: SocketSplice | None = None
        self._minimum_rate: MinimumRate | None = None  # while there are bytes to wait for

    @property
    def sockets(self) -> Sockets:
        """See `ConnectionProtocol.sockets`."""
        return self.frontend.sockets

    @property
    def peer(self) -> str:
        """The name of the sender, for people."""
        if not self._peer:
            name = peer_name(self._address or self.transport.getPeer())
            self._peer = unix_peer_name(self.transport) if name == "unix" else name
            self._address = None
        return self._peer

    # Called by the transport

    def connectionMade(self) -> None:
        """Start the idle timeout, and read what has already arrived."""
        frontend = self.frontend
        self._connected = True
        self._began_at = frontend.clock.seconds()
        self._idle_timeouts = self._active_settings.idle
        self._idle_timeouts.restart(self)
        frontend.enter(self)
        try:
            read_now(self.transport)
        except Exception:
            self.broke()

    def dataReceived(self, data: bytes) -> None:
        """Pass on the next bytes of the file, or discard what follows a refusal."""
        if self._answered or self._ended:
            self._discard(len(data))
            return
        try:
            self._idle_timeouts.restart(self)
            if not self.size:
                self._looks_like_http = _HTTP_REQUEST.match(data) is not None
            if self._has_come(data) and worth_it(self.size, len(data), self.transport):
                self._start_splice()
        except Exception:
            self.broke()

    def readConnectionLost(self) -> None:
        """End the file if this is a half-close, and not a broken connection."""
        try:
            self._has_ended()
        except Exception:
            self.broke()

    def _has_ended(self) -> None:
        if self._answered:
            self._half_closed = True
            self.transport.loseConnection()
        elif has_half_closed(self.transport, self.sockets):
            self._half_closed = True
            self._idle_timeouts.cancel(self)
            self._minimum_rate = None
            self._upload.ended()

    def writeConnectionLost(self) -> None:
        """Do nothing: it was our own half-close after a refusal; the sender's is still to come."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell the lifecycle, and leave the front end: the connection is closed, for
        whatever reason.
        """
        self._connected = False
        self._idle_timeouts.cancel(self)
        self._active_settings.lingering.cancel(self)
        try:
            self._upload.lost()
        except Exception:
            self.broke()
        self.frontend.leave(self)

    def abort(self) -> None:
        """See `IConnection.abort`."""
        if self._connected:
            reset(self.transport)

    # IPushProducer: called by the incoming upload

    def pauseProducing(self) -> None:
        """Stop reading: the store holds as much as it may."""
        if not self._half_closed:
            self.paused = True
            self._idle_timeouts.cancel(self)
            if self._minimum_rate is not None:
                self._minimum_rate.pause(self.frontend.clock.seconds())
            try:
                self.transport.pauseProducing()
            except Exception:
                self.broke()

    def resumeProducing(self) -> None:
        """Read on."""
        # Reading from a transport that has reached its end would report the end twice.
        if self._connected and not self._half_closed and not self._splicing:
            self.paused = False
            if not self._answered:
                self._idle_timeouts.restart(self)
                if self._minimum_rate is not None:
                    self._minimum_rate.resume(self.frontend.clock.seconds())
            try:
                self.transport.resumeProducing()
            except Exception:
                self.broke()

    def stopProducing(self) -> None:
        """Close the connection: the consumer takes no more data."""
        self.transport.loseConnection()

    # ISender: called by the lifecycle

    def arrival(self) -> Arrival:
        """See `ISender.arrival`."""
        active_settings = self._active_settings
        if active_settings.settings.min_rate and not self._half_closed:
            self._minimum_rate = MinimumRate(self.frontend.clock.seconds(), active_settings.grace)
        if active_settings.settings.finish_after_idle and not self._half_closed:
            self._idle_timeouts.cancel(self)
            self._idle_timeouts = active_settings.finishing
            self._idle_timeouts.restart(self)
        return super().arrival()

    def began(self, incoming: IIncomingUpload) -> None:
        """See `ISender.began`."""
        incoming.registerProducer(self, True)
        self._incoming = incoming

    # Large uploads: see `ISplicedSender`

    @property
    def _splicing(self) -> bool:
        return self._splice is not None and self._splice.active

    def _start_splice(self) -> None:
        if self._splice is None and self._incoming is not None:
            self._splice = splice_for(self._incoming, self, self.frontend.slots, self.sockets)
        if self._splice is not None:
            self._splice.start()

    def bytes_to_splice(self) -> int:
        """See `ISplicedSender.bytes_to_splice`."""
        settings = self._active_settings.settings
        if self._answered or self._half_closed or settings.receipts:
            return 0  # receipts: the digest is computed from the bytes
        return settings.max_size - self.size + 1 if settings.max_size else sys.maxsize

    def spliced(self, result: SpliceResult) -> bool:
        """See `ISplicedSender.spliced`."""
        if not self._connected:
            return False
        self.size += result.size
        if result.lost:
            self.transport.abortConnection()
        elif self._answered:
            self.transport.resumeProducing()
        else:
            return not self._is_too_large()
        return False

    # Called by the timers

    def has_unread(self) -> bool:
        """Return whether anything is waiting to be read: then the sender is not idle."""
        return has_unread(self.transport, self.sockets)

    def fell_silent(self) -> None:
        """End the file: the sender has been idle for so long that it counts as the end."""
        self._ended = True
        self._minimum_rate = None
        try:
            self._upload.fell_silent()
        except Exception:
            self.broke()

    def idle_for_too_long(self) -> None:
        """Refuse the upload: the sender has been idle for the idle timeout."""
        seconds = format_duration(self._active_settings.settings.idle_timeout)
        # Only now: every byte is the file, and a file may begin like an HTTP request.
        advice = _NOT_HTTP if self._looks_like_http else "with nc, use nc -N"
        self.refuse(TimedOut(f"no data for {seconds}, and no half-close to end the file; {advice}"))

    def stood_still(self, now: float) -> None:
        """See `IConnection.stood_still`."""
        super().stood_still(now)
        self._idle_timeouts.stood_still()
        if self._minimum_rate is not None:
            self._minimum_rate.stood_still(now)

    def check(self, now: float) -> bool:
        """See `IConnection.check`."""
        if self._answered:
            return False
        rate = self._active_settings.settings.min_rate
        if self._minimum_rate is not None and self._minimum_rate.is_too_slow(
            now, self.size, rate, self._unread
        ):
            self.refuse(slower_than(rate))
            return True
        if self._half_closed or self._ended or self.paused:
            return self._waits_for_the_store(now)
        self._waiting = None
        return False

    def _unread(self) -> int:
        return unread_size(self.transport, self.sockets)

    # Internal

    def _answer(self, answer: bytes) -> None:
        """
        Send the answer, and close.

        A sender that has not half-closed may still be sending, and closing with unread
        input would make the kernel reset the connection before the sender has read the
        answer: read on for a while, and discard the data (a lingering close).
        """
        self._answered = True
        self._minimum_rate = None
        self._idle_timeouts.cancel(self)
        if self._half_closed:
            answer_and_close(self.transport, answer)
            if self._connected:  # the answer has not been sent completely
                self._active_settings.lingering.restart(self)
            return
        self.transport.write(answer)
        self.transport.loseWriteConnection()
        self.transport.resumeProducing()
        self._active_settings.lingering.restart(self)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > self._active_settings.settings.linger_size:
            self.transport.abortConnection()
