"""
What is the same for all senders at the raw front end, however their uploads arrive: the
answers, the reports of the outcome, and how long they wait for a store.

Senders with a transport are in `twisted_upload.frontends.raw.protocol`, those whose
uploads were whole when they were accepted in
`twisted_upload.frontends.raw.whole_upload`.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.logger import Logger

from twisted_upload.core.answers import refused_answer, stored_answer
from twisted_upload.core.lifecycle import new_upload
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.core.text import format_size
from twisted_upload.errors import StoreFailed, TooLarge, UploadRefused
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.settings import ActiveSettings
from twisted_upload.interfaces import Arrival, IIncomingUpload, Receipt
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.timeouts import StoreTimeout

__all__ = ["STORE_PATIENCE", "Sender"]

STORE_PATIENCE = 600.0
"""Seconds after which an upload is refused if its store makes no progress."""


class Sender:
    """
    One sender and its upload: passes what the lifecycle tells it (`lifecycle.ISender`)
    to the sender and to the front end's observers.

    :param frontend: whose store stores the upload.
    :param active_settings: in force when the sender connected.
    :param slot: of its connection.
    """

    def __init__(
        self, frontend: Frontend, active_settings: ActiveSettings, slot: IConnectionSlot
    ) -> None:
        self.frontend = frontend
        self.slot: IConnectionSlot | None = slot
        self._active_settings = active_settings
        # All attributes are set here: one that is set later, and was not by the first
        # thirty instances, costs a dictionary for each instance (230 bytes and more).
        self._began_at = 0.0
        self.size = 0
        self._half_closed = False
        self._answered = False
        self._reported = False
        self._waiting: StoreTimeout | None = None  # for the store, as of the last check
        self._upload = new_upload(
            self, frontend.store, allow_empty=active_settings.settings.allow_empty
        )

    @property
    def peer(self) -> str:
        """The name of the sender, for people."""
        raise NotImplementedError

    @property
    def in_flight(self) -> bool:
        """Whether its upload has begun and has not ended."""
        return (self.size > 0 or self._half_closed) and not self._reported

    def refuse(self, refusal: UploadRefused) -> None:
        """Refuse the upload, whatever its state; harmless if it has ended."""
        if not self._answered:
            try:
                self._upload.refused(refusal)
            except Exception:
                self.broke()

    def broke(self) -> None:
        """
        Handle an unexpected exception: end the upload and the connection, and release
        what they hold, whatever else fails.
        """
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            _log.error("upload aborted by a system error: {error}", error=error.strerror)
        else:
            _log.failure("internal error: upload aborted")
        for step in self._upload.lost, self.abort:
            try:
                step()
            except Exception:
                _log.failure("internal error: an aborted upload could not be cleaned up")

    def abort(self) -> None:
        """Reset the connection, if it is still open."""
        raise NotImplementedError

    def lingered(self) -> None:
        """Close the connection: the sender has had its time to read the answer."""
        self.abort()

    # Incoming data

    def _has_come(self, data: bytes) -> bool:
        """Pass on the next bytes of the upload, and return whether they are within its limit."""
        self.size += len(data)
        if self._is_too_large():
            return False
        self._upload.received(data)
        return True

    def _is_too_large(self) -> bool:
        limit = self._active_settings.settings.max_size
        if not limit or self.size <= limit:
            return False
        self.refuse(TooLarge(f"this server accepts at most {format_size(limit)} ({limit} bytes)"))
        return True

    # ISender: called by the lifecycle

    def arrival(self) -> Arrival:
        """See `ISender.arrival`."""
        frontend = self.frontend
        frontend.progress_check.begin()
        return Arrival(
            self.peer, digest=self._active_settings.settings.receipts, listener=frontend.name
        )

    def began(self, incoming: IIncomingUpload) -> None:
        """See `ISender.began`."""

    def tell_stored(self, receipt: Receipt) -> None:
        """See `ISender.tell_stored`."""
        settings = self._active_settings.settings
        self._answer(stored_answer(receipt, settings.answer, receipts=settings.receipts))

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.tell_refused`."""
        self._answer(refused_answer(refusal))

    def _answer(self, answer: bytes) -> None:
        """Send the answer, and close."""
        raise NotImplementedError

    def report_stored(self, receipt: Receipt, *, ended_by_idle: bool, answered: bool) -> None:
        """See `ISender.report_stored`."""
        self._report(
            "stored", receipt.size, receipt.name, None, receipt.sha256, ended_by_idle, answered
        )

    def report_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.report_refused`."""
        self._report("refused", self.size, None, refusal.code)

    def report_aborted(self) -> None:
        """See `ISender.report_aborted`."""
        self._report("aborted", self.size)

    def report_unused(self) -> None:
        """See `ISender.report_unused`."""
        _log.debug("unused connection from {peer}", peer=self.peer)
        self._reported = True
        self.frontend.upload_ended(self)

    def _report(self, outcome: str, size: int, *more: Any) -> None:
        frontend = self.frontend
        self._reported = True
        seconds = frontend.clock.seconds() - self._began_at
        try:
            ended = UploadOutcome(outcome, frontend.name, self.peer, size, seconds, *more)
            for observer in frontend.observers:
                observer(ended)
        except Exception:
            _log.failure("internal error: the outcome of an upload could not be reported")
        frontend.upload_ended(self)

    # Called by the timers

    def stood_still(self, now: float) -> None:
        """See `IConnection.stood_still`."""
        self._active_settings.lingering.stood_still()
        self._waiting = None

    def check(self, now: float) -> bool:
        """See `IConnection.check`."""
        return not self._answered and self._waits_for_the_store(now)

    def _waits_for_the_store(self, now: float) -> bool:
        """
        Note that the upload waits for the store, and refuse it if that takes too long;
        return whether it has just been refused.
        """
        self._waiting = self._waiting or StoreTimeout(STORE_PATIENCE)
        if not self._waiting.is_too_long(now, self.size):
            return False
        self.refuse(StoreFailed())
        return True


_log = Logger()
