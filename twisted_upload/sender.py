"""
One sender at the raw door, and its upload: transport and timers on one side, the
lifecycle on the other.

What may happen when is in `twisted_upload.lifecycle`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.addresses import peer_name, unix_peer_name
from twisted_upload.answers import kept_answer, refused_answer
from twisted_upload.connections import TakesNoDescriptors
from twisted_upload.eager import read_now
from twisted_upload.ending import Ending, ending
from twisted_upload.ends import UploadEnd
from twisted_upload.errors import StoreFailed, TimedOut, TooLarge, UploadRefused
from twisted_upload.handover import Handover, handover_for, worth_it
from twisted_upload.interfaces import Arrival, IIncomingUpload, Receipt, Taken
from twisted_upload.lifecycle import Upload, new_upload
from twisted_upload.limits import Pace, Waiting
from twisted_upload.parting import say_and_close
from twisted_upload.units import format_duration, format_size
from twisted_upload.unread import is_unread, unread_size

if TYPE_CHECKING:
    from twisted_upload.raw import UploadFactory

__all__ = ["STORE_PATIENCE", "UploadProtocol"]

STORE_PATIENCE = 600.0
"""Seconds after which an upload is refused that waits for a store which does nothing."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class UploadProtocol(TakesNoDescriptors, Protocol):
    """
    One sender and its upload.

    To the incoming upload it is the push producer: pausing it pauses the
    transport and the count of the sender's silence.

    :param factory: whose store and settings serve it.
    :param address: of the sender.
    :param group: of addresses that it is counted by; `None` where it is not.
    """

    factory: UploadFactory
    transport: Any  # an ITCPTransport that is an IPushProducer too, as Twisted's are

    def __init__(
        self, factory: UploadFactory, address: IAddress | None = None, group: str | None = None
    ) -> None:
        self.factory = factory
        self._address = address
        self._group = group
        self._terms = factory.terms
        self._upload: Upload = new_upload(
            self, factory.store, allow_empty=self._terms.settings.allow_empty
        )
        self._incoming: IIncomingUpload | None = None
        self._size = 0
        self._half_closed = False
        self._ended = False  # by silence: what still comes is too late
        self._answered = False
        self._reported = False
        self._connected = False
        self._discarded = 0
        self._paused = False  # by the store, or because it has the socket
        self._waiting: Waiting | None = None  # for the store, as of the last look
        self._peer = ""
        self._handover: Handover | None = None
        self._pace: Pace | None = None  # while there are bytes to wait for

    @property
    def peer(self) -> str:
        """The sender, for people."""
        if not self._peer:
            name = peer_name(self._address or self.transport.getPeer())
            self._peer = unix_peer_name(self.transport) if name == "unix" else name
        return self._peer

    @property
    def in_flight(self) -> bool:
        """Whether its upload has begun and has not ended."""
        return (self._size > 0 or self._half_closed) and not self._reported

    def refuse(self, refusal: UploadRefused) -> None:
        """Refuse the upload, whatever has come of it; harmless when it has ended."""
        if not self._answered:
            try:
                self._upload.refused(refusal)
            except Exception:
                self.broke()

    def gone(self) -> None:
        """See `IConnection.gone`."""
        self.factory.gate.admission.leave(self._group)

    # What the transport says

    def connectionMade(self) -> None:
        """A sender has come."""
        factory = self.factory
        self._connected = True
        self._began_at = factory.clock.seconds()
        self._silences = self._terms.idle
        self._silences.heard(self)
        factory.gate.admission.enter(self._group)
        factory.came(self)
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
            self._silences.heard(self)
            self._size += len(data)
            if not self._is_too_large():
                self._upload.received(data)
                if worth_it(self._size, len(data), self.transport):
                    self._lend()
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
        end = ending(self.transport)
        if end is Ending.LOST:
            self.transport.abortConnection()
        elif end is Ending.NOT_YET:
            self.transport.resumeProducing()
        else:
            self._half_closed = True
            self._silences.ignore(self)
            self._pace = None
            self._upload.ended()

    def writeConnectionLost(self) -> None:
        """Our own half-close after a refusal; the sender has its own to come."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever way."""
        self._connected = False
        self._silences.ignore(self)
        self._terms.lingering.ignore(self)
        try:
            self._upload.lost()
        except Exception:
            self.broke()
        self.factory.went(self)

    def broke(self) -> None:
        """
        An exception has come that must not: end the upload and the connection, and
        give back what they have, whatever else fails.
        """
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            _log.error("an upload broke off: {error}", error=error.strerror)
        else:
            _log.failure("a defect: an upload broke off")
        for step in self._upload.lost, self._abort:
            try:
                step()
            except Exception:
                _log.failure("a defect: an upload that broke off cannot be ended")

    def _abort(self) -> None:
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
            self._paused = True
            self._silences.ignore(self)
            if self._pace is not None:
                self._pace.pause(self.factory.clock.seconds())
            try:
                self.transport.pauseProducing()
            except Exception:
                self.broke()

    def resumeProducing(self) -> None:
        """Read on."""
        # Reading from a transport whose end has come would tell the end twice.
        if self._connected and not self._half_closed and not self._lent:
            self._paused = False
            if not self._answered:
                self._silences.heard(self)
                if self._pace is not None:
                    self._pace.resume(self.factory.clock.seconds())
            try:
                self.transport.resumeProducing()
            except Exception:
                self.broke()

    def stopProducing(self) -> None:
        """The consumer has gone: there is nobody to read for."""
        self.transport.loseConnection()

    # IDoor: what the lifecycle says

    def arrival(self) -> Arrival:
        """See `IDoor.arrival`."""
        terms = self._terms
        if terms.settings.min_rate and not self._half_closed:
            self._pace = Pace(self.factory.clock.seconds(), terms.grace)
        self.factory.rounds.begin()
        if terms.settings.finish_after_idle and not self._half_closed:
            self._silences.ignore(self)
            self._silences = terms.finishing
            self._silences.heard(self)
        return Arrival(self.peer, digest=terms.settings.receipts, listener=self.factory.name)

    def began(self, incoming: IIncomingUpload) -> None:
        """See `IDoor.began`."""
        incoming.registerProducer(self, True)
        self._incoming = incoming

    def tell_kept(self, receipt: Receipt) -> None:
        """See `IDoor.tell_kept`."""
        settings = self._terms.settings
        self._answer(kept_answer(receipt, settings.answer, receipts=settings.receipts))

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `IDoor.tell_refused`."""
        self._answer(refused_answer(refusal))

    def report_kept(self, receipt: Receipt, *, by_silence: bool, heard: bool) -> None:
        """See `IDoor.report_kept`."""
        self._report("kept", receipt.size, receipt.name, None, receipt.sha256, by_silence, heard)

    def report_refused(self, refusal: UploadRefused) -> None:
        """See `IDoor.report_refused`."""
        self._report("refused", self._size, None, refusal.code)

    def report_lost(self) -> None:
        """See `IDoor.report_lost`."""
        self._report("lost", self._size)

    def report_unused(self) -> None:
        """See `IDoor.report_unused`."""
        _log.debug("unused connection from {peer}", peer=self.peer)
        self._reported = True
        self.factory.ended(self)

    # Large uploads

    @property
    def _lent(self) -> bool:
        return self._handover is not None and self._handover.lent

    def _lend(self) -> None:
        """Let the store take from the socket what comes next, or read on."""
        if self._answered or self._half_closed or self._lent or self._incoming is None:
            return
        if self._terms.settings.receipts:  # a digest needs to see the bytes
            return
        if self._handover is None:
            places = self.factory.gate.admission.places
            self._handover = handover_for(self._incoming, self.transport, places, self._given_back)
        if self._handover is None or not self._handover.is_worth_it(self._size):
            return
        limit = self._terms.settings.max_size
        most = limit - self._size + 1 if limit else sys.maxsize
        paused = self._paused  # by the store, and then it is for the store to go on
        self.pauseProducing()
        if not self._handover.lend(self._size, most) and not paused:
            self.resumeProducing()

    def _given_back(self, taken: Taken) -> None:
        if not self._connected:
            return
        try:
            self._go_on_after(taken)
        except Exception:
            self.broke()

    def _go_on_after(self, taken: Taken) -> None:
        self._size += taken.size
        if taken.lost:
            self.transport.abortConnection()
        elif self._answered:
            self.transport.resumeProducing()
        elif not self._is_too_large():
            if not taken.dry:
                self._lend()
            if not self._lent:
                self.resumeProducing()

    def _is_too_large(self) -> bool:
        limit = self._terms.settings.max_size
        if not limit or self._size <= limit:
            return False
        self.refuse(TooLarge(f"this server accepts at most {format_size(limit)} ({limit} bytes)"))
        return True

    # What the timers say

    def has_unread(self) -> bool:
        """Whether something of it waits to be read: then it is not silent."""
        return is_unread(self.transport)

    def fell_silent(self) -> None:
        """Silence has lasted so long that it ends the file."""
        self._ended = True
        self._pace = None
        try:
            self._upload.fell_silent()
        except Exception:
            self.broke()

    def idle_for_too_long(self) -> None:
        """Silence has lasted so long that nothing more is expected."""
        seconds = format_duration(self._terms.settings.idle_timeout)
        self.refuse(
            TimedOut(
                f"nothing came for {seconds}, and no half-close to end the file; with nc, use nc -N"
            )
        )

    def stood_still(self, now: float) -> None:
        """We have not listened for a while: that is not to be this sender's fault."""
        self._silences.stood_still()
        self._terms.lingering.stood_still()
        self._waiting = None
        if self._pace is not None:
            self._pace.stood_still(now)

    def look(self, now: float) -> bool:
        """A look is taken at all senders: whether this one has just been refused."""
        if self._answered:
            return False
        rate = self._terms.settings.min_rate
        if self._pace is not None and self._pace.is_too_slow(now, self._size, rate, self._unread):
            self.refuse(
                TimedOut(f"slower than {rate:g} bytes a second, for longer than this server waits")
            )
            return True
        if not (self._half_closed or self._ended or self._paused):
            self._waiting = None
            return False
        self._waiting = self._waiting or Waiting(STORE_PATIENCE)
        if not self._waiting.is_too_long(now, self._size):
            return False
        self.refuse(StoreFailed())
        return True

    def _unread(self) -> int:
        return unread_size(self.transport)

    def lingered(self) -> None:
        """A refused sender has had its time to notice."""
        self._abort()

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
        self._pace = None
        self._silences.ignore(self)
        if self._half_closed:
            say_and_close(self.transport, answer)
            if self._connected:  # it has not been said yet
                self._terms.lingering.heard(self)
            return
        self.transport.write(answer)
        self.transport.loseWriteConnection()
        self.transport.resumeProducing()
        self._terms.lingering.heard(self)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > self._terms.settings.linger_size:
            self.transport.abortConnection()

    def _report(self, end: str, size: int, *more: Any) -> None:
        factory = self.factory
        self._reported = True
        seconds = factory.clock.seconds() - self._began_at
        try:
            ended = UploadEnd(end, factory.name, self.peer, size, seconds, *more)
            for witness in factory.witnesses:
                witness(ended)
        except Exception:
            _log.failure("a defect: the end of an upload could not be told")
        factory.ended(self)


_log = Logger()
