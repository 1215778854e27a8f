"""
One sender at the raw front end, and its upload: transport and timers on one side, the
lifecycle on the other.

What may happen when is in `twisted_upload.core.lifecycle`.
"""

from __future__ import annotations

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
from twisted_upload.frontends.raw.splice import SocketSplice, splice_for, worth_it
from twisted_upload.interfaces import Arrival, IIncomingUpload, SpliceResult
from twisted_upload.net.addresses import peer_name, unix_peer_name
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.half_close import (
    ConnectionEnd,
    answer_and_close,
    connection_end,
    has_unread,
    unread_size,
)
from twisted_upload.net.timeouts import MinimumRate
from twisted_upload.net.transport import read_now

__all__ = ["UploadProtocol"]


@implementer(IHalfCloseableProtocol, IPushProducer)
class UploadProtocol(Sender, ConnectionProtocol, Protocol):
    """
    One sender with a transport, and its upload.

    To the incoming upload it is the push producer: pausing it pauses the
    transport and the count of the sender's silence.

    :param frontend: whose store serves it.
    :param active_settings: under which it has come.
    :param slot: that its connection has.
    :param address: of the sender.
    """

    transport: Any  # an ITCPTransport that is an IPushProducer too, as Twisted's are

    def __init__(
        self,
        frontend: Frontend,
        active_settings: ActiveSettings,
        slot: IConnectionSlot,
        address: IAddress | None,
    ) -> None:
        super().__init__(frontend, active_settings, slot)
        self._address = address  # until its name is known
        self._incoming: IIncomingUpload | None = None
        self._ended = False  # by silence: what still comes is too late
        self._connected = False
        self._discarded = 0
        self.paused = False  # by the store, or because it has the socket
        self._peer = ""
        self._splice: SocketSplice | None = None
        self._minimum_rate: MinimumRate | None = None  # while there are bytes to wait for

    @property
    def peer(self) -> str:
        """The sender, for people."""
        if not self._peer:
            name = peer_name(self._address or self.transport.getPeer())
            self._peer = unix_peer_name(self.transport) if name == "unix" else name
            self._address = None
        return self._peer

    # What the transport says

    def connectionMade(self) -> None:
        """A sender has come."""
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
        """The next bytes of the file, or what comes after a refusal."""
        if self._answered or self._ended:
            self._discard(len(data))
            return
        try:
            self._idle_timeouts.restart(self)
            if self._has_come(data) and worth_it(self.size, len(data), self.transport):
                self._start_splice()
        except Exception:
            self.broke()

    def readConnectionLost(self) -> None:
        """The sender has half-closed: it has said all that it had to say."""
        try:
            self._has_ended()
        except Exception:
            self.broke()

    def _has_ended(self) -> None:
        if self._answered:
            self._half_closed = True
            self.transport.loseConnection()
            return
        end = connection_end(self.transport)
        if end is ConnectionEnd.LOST:
            self.transport.abortConnection()
        elif end is ConnectionEnd.NOT_YET:
            self.transport.resumeProducing()
        else:
            self._half_closed = True
            self._idle_timeouts.cancel(self)
            self._minimum_rate = None
            self._upload.ended()

    def writeConnectionLost(self) -> None:
        """Our own half-close after a refusal; the sender has its own to come."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever way."""
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
            try:
                self.transport.abortConnection()
            except Exception:
                self.transport.connectionLost(Failure())
                raise

    # IPushProducer: what the incoming upload says

    def pauseProducing(self) -> None:
        """Stop reading: the store has as much as it may hold."""
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
        # Reading from a transport whose end has come would tell the end twice.
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
        """The consumer has gone: there is nobody to read for."""
        self.transport.loseConnection()

    # ISender: what the lifecycle says

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
            self._splice = splice_for(self._incoming, self, self.frontend.slots)
        if self._splice is not None:
            self._splice.start()

    def bytes_to_splice(self) -> int:
        """See `ISplicedSender.bytes_to_splice`."""
        settings = self._active_settings.settings
        if self._answered or self._half_closed or settings.receipts:
            return 0  # receipts: a digest needs to see the bytes
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

    # What the timers say

    def has_unread(self) -> bool:
        """Whether something of it waits to be read: then it is not silent."""
        return has_unread(self.transport)

    def fell_silent(self) -> None:
        """Silence has lasted so long that it ends the file."""
        self._ended = True
        self._minimum_rate = None
        try:
            self._upload.fell_silent()
        except Exception:
            self.broke()

    def idle_for_too_long(self) -> None:
        """Silence has lasted so long that nothing more is expected."""
        seconds = format_duration(self._active_settings.settings.idle_timeout)
        self.refuse(
            TimedOut(
                f"nothing came for {seconds}, and no half-close to end the file; with nc, use nc -N"
            )
        )

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
            self.refuse(
                TimedOut(f"slower than {rate:g} bytes a second, for longer than this server waits")
            )
            return True
        if self._half_closed or self._ended or self.paused:
            return self._waits_for_the_store(now)
        self._waiting = None
        return False

    def _unread(self) -> int:
        return unread_size(self.transport)

    # Within

    def _answer(self, answer: bytes) -> None:
        """
        Say it and part.

        A sender that has not half-closed may still be sending, and closing
        with unread input would make the kernel reset the connection before it
        has read the answer: read on for a while, and throw away (a lingering
        close).
        """
        self._answered = True
        self._minimum_rate = None
        self._idle_timeouts.cancel(self)
        if self._half_closed:
            answer_and_close(self.transport, answer)
            if self._connected:  # it has not been said yet
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
