"""
What is the same for all senders, whatever protocol they speak and however their uploads
arrive: the reports of the outcome, how long they wait for a store, and what happens
after an internal error.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.logger import Logger

from twisted_upload.core.lifecycle import new_upload
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.core.text import counted, format_size
from twisted_upload.errors import StoreFailed, TimedOut, TooLarge, UploadRefused
from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.interfaces import NO_METADATA, Arrival, IIncomingUpload, Metadata, Receipt
from twisted_upload.net.timeouts import StoreTimeout

__all__ = ["STORE_PATIENCE", "UploadSender", "larger_than", "slower_than"]

STORE_PATIENCE = 600.0
"""Seconds after which an upload is refused if its store makes no progress."""


class UploadSender:
    """
    One sender and its upload: passes what the lifecycle tells it (`lifecycle.ISender`)
    to the sender and to the front end's observers.

    :param frontend: whose store stores the upload.
    :param settings: in force when the sender connected.
    :ivar size: bytes of the upload that have arrived.
    """

    def __init__(
        self, frontend: Frontend[Any], settings: FrontendSettings, *, allow_empty: bool
    ) -> None:
        self.frontend = frontend
        self._settings = settings
        # All attributes are set here: one that is set later, and was not by the first
        # thirty instances, costs a dictionary for each instance (230 bytes and more).
        self._began_at = 0.0
        self.size = 0
        self._answered = False
        self._reported = False
        self._waiting: StoreTimeout | None = None  # for the store, as of the last check
        self._upload = new_upload(self, frontend.store, allow_empty=allow_empty)

    @property
    def peer(self) -> str:
        """The name of the sender, for people."""
        raise NotImplementedError

    @property
    def connection(self) -> IConnection:
        """Its connection, as its front end knows it."""
        raise NotImplementedError

    @property
    def metadata(self) -> Metadata:
        """What the sender says about its file."""
        return NO_METADATA

    @property
    def max_size(self) -> int:
        """Maximum size of the upload in bytes; 0 for no limit."""
        return self._settings.max_size

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

    # Incoming data

    def _has_come(self, data: bytes) -> bool:
        """Pass on the next bytes of the upload, and return whether they are within its limit."""
        self.size += len(data)
        if self._is_too_large():
            return False
        self._upload.received(data)
        return True

    def _is_too_large(self) -> bool:
        limit = self.max_size
        if not limit or self.size <= limit:
            return False
        self.refuse(larger_than(limit))
        return True

    # ISender: called by the lifecycle

    def arrival(self) -> Arrival:
        """See `ISender.arrival`."""
        frontend = self.frontend
        frontend.progress_check.begin()
        return Arrival(
            self.peer,
            digest=self._settings.receipts,
            listener=frontend.name,
            metadata=self.metadata,
        )

    def began(self, incoming: IIncomingUpload) -> None:
        """See `ISender.began`."""

    def tell_stored(self, receipt: Receipt) -> None:
        """See `ISender.tell_stored`."""
        raise NotImplementedError

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.tell_refused`."""
        raise NotImplementedError

    def tell_nothing(self) -> None:
        """See `ISender.tell_nothing`."""
        self._answered = True
        self.abort()

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
        self._upload_ended()

    def _upload_ended(self) -> None:
        """Tell the front end that the upload has ended."""
        self.frontend.upload_ended(self.connection)

    def _report(self, outcome: str, size: int, *more: Any) -> None:
        frontend = self.frontend
        self._reported = True
        seconds = frontend.clock.seconds() - self._began_at
        try:
            ended = UploadOutcome(outcome, frontend.name, self.peer, size, seconds, *more)
            if self.metadata is not NO_METADATA:
                ended = UploadOutcome(*ended[:-1], metadata=self.metadata)
            for observer in frontend.observers:
                observer(ended)
        except Exception:
            _log.failure("internal error: the outcome of an upload could not be reported")
        self._upload_ended()

    # Called by the timers

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


def slower_than(rate: int) -> TimedOut:
    """Return the refusal of an upload that is slower than so many bytes per second."""
    least = counted(rate, "byte")
    return TimedOut(f"slower than {least} per second for longer than this server waits")


def larger_than(limit: int) -> TooLarge:
    """Return the refusal of an upload that is larger than so many bytes."""
    most = f"{format_size(limit)} ({counted(limit, 'byte')})"
    return TooLarge(f"this server accepts at most {most}")


_log = Logger()
