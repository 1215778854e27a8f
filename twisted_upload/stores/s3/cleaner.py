"""
Has the pending uploads cleaned up: at the start, every minute, and every hour.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import counted
from twisted_upload.disk.threads import IDisk, PoolStopped
from twisted_upload.stores.s3.pending import PendingUploads

__all__ = ["INTERVAL", "LONG_INTERVAL", "PendingCleaner"]

INTERVAL = 60.0
"""Seconds between attempts to abort what this node has left."""

LONG_INTERVAL = 3600.0
"""Seconds between looks at what the object store lists."""

STILL_LINE = 600.0
"""Minimum seconds between log lines about failures."""


class PendingCleaner:
    """
    Cleans up in threads, one pass at a time.

    :param what: name of the bucket, for the log.
    """

    def __init__(
        self, what: str, uploads: PendingUploads, threads: IDisk, clock: IReactorTime
    ) -> None:
        self._what = what
        self._uploads = uploads
        self._threads = threads
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] = succeed(None)
        self._stopped = False
        self._looked = float("-inf")
        self._told = float("-inf")

    def start(self) -> None:
        """Clean up now, and again and again."""
        self._pass()

    def stop(self) -> Deferred[None]:
        """Clean up no more; fires when the pass that runs has ended and the notes are closed."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        ended: Deferred[None] = Deferred()
        self._running.addBoth(lambda _: self._close(ended))
        return ended

    def _pass(self) -> None:
        self._timer = None
        self._running = maybeDeferred(self._threads.run_in_background, self._uploads.clean)
        self._running.addErrback(self._failed)
        self._running.addCallback(lambda _: self._look())
        self._running.addCallback(lambda _: self._later())

    def _look(self) -> Deferred[None] | None:
        if self._stopped or self._clock.seconds() - self._looked < LONG_INTERVAL:
            return None
        looked = maybeDeferred(self._threads.run_in_background, self._uploads.clean_old)
        return looked.addCallbacks(self._cleaned, self._failed)

    def _later(self) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(INTERVAL, self._pass)

    def _cleaned(self, aborted: int) -> None:
        self._looked = self._clock.seconds()
        if aborted:
            _log.info(
                "{what}: aborted {uploads} that nobody was going to complete",
                what=self._what,
                uploads=counted(aborted, "old multipart upload"),
            )

    def _failed(self, failure: Failure) -> None:
        if failure.check(PoolStopped):
            return
        now = self._clock.seconds()
        if now - self._told >= STILL_LINE:
            self._told = now
            _log.warn(
                "{what}: parts of multipart uploads remain for now: {error}",
                what=self._what,
                error=failure.getErrorMessage(),
            )

    def _close(self, ended: Deferred[None]) -> None:
        closed = maybeDeferred(self._threads.run, self._uploads.close)
        closed.addErrback(lambda _: self._uploads.close())  # without threads
        closed.addBoth(lambda _: ended.callback(None))


_log = Logger()
