"""
Whether what a store keeps its files in can be trusted: a disk, an object store.

An error of that itself, rather than of one upload, makes the store *unhealthy*: it logs
this as critical, and refuses uploads until a test of the whole write path has passed.
Which errors are of which kind, each kind of store says itself
(`twisted_upload.stores.directory.disk_errors`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk, PoolStopped
from twisted_upload.errors import StoreFailed, UploadRefused

__all__ = ["SELF_TEST_INTERVAL", "Health", "Verdict"]

SELF_TEST_INTERVAL = 2.0
"""Seconds before the first self-test of an unhealthy store."""

STILL_LINE = 60.0
"""Minimum seconds between log lines about self-tests that fail for the same reason."""

SHORTAGE_LINE = 60.0
"""Minimum seconds between log lines about errors that are of no upload, and pass."""


class Verdict(NamedTuple):
    """
    What an error means.

    :ivar refusal: the answer to the sender whose upload has met it.
    :ivar unhealthy: no upload can be stored until a self-test has passed.
    :ivar told: it is logged, at most once a minute.
    """

    refusal: UploadRefused
    unhealthy: bool = False
    told: bool = False


class Health:
    """
    Whether a store can be trusted to store files.

    :param what: name of the store, for the log.
    :param threads: runs the test.
    :param test: tests the whole write path in a thread, and raises an `Exception` if it
        fails.
    :param classify: returns what an error means; `None` for an internal error.
    :param longest_interval: seconds between self-tests that have failed often: the time
        doubles with each one.
    :ivar well: false from an error of the store until the test passes; meanwhile, the
        store refuses uploads.
    """

    def __init__(
        self,
        what: str,
        threads: IDisk,
        clock: IReactorTime,
        test: Callable[[], object],
        classify: Callable[[BaseException], Verdict | None],
        *,
        longest_interval: float = SELF_TEST_INTERVAL,
    ) -> None:
        self.well = True
        self._what = what
        self._threads = threads
        self._clock = clock
        self._test = test
        self._classify = classify
        self._interval = SELF_TEST_INTERVAL
        self._longest_interval = longest_interval
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self._told = float("-inf")
        self._told_of_failure = float("-inf")
        self._failure = ""

    def refusal(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after a step of the write path has failed."""
        error = failure.value
        if isinstance(error, UploadRefused):
            return error  # it concerns this upload only
        if failure.check(PoolStopped):
            return StoreFailed()  # the daemon is stopping; nothing is wrong with the store
        verdict = None if error is None else self._classify(error)
        if verdict is None:
            return self.defect(failure)
        if verdict.unhealthy:
            self._became_unhealthy(error)
        elif verdict.told:
            now = self._clock.seconds()
            if now - self._told >= SHORTAGE_LINE:
                self._told = now
                _log.error("{what}: {error}", what=self._what, error=error)
        return verdict.refusal

    def defect(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after an internal error that is not the store's."""
        _log.failure("{what}: internal error in the write path", failure, what=self._what)
        return StoreFailed()

    def check(self) -> None:
        """Test now, and become unhealthy if the test fails."""
        self._threads.run(self._test).addErrback(self.refusal)

    def stop(self) -> None:
        """Stop testing."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _became_unhealthy(self, error: object) -> None:
        if not self.well or self._stopped:
            return
        _log.critical(
            "{what}: UNHEALTHY, refusing uploads until a self-test passes: {error}",
            what=self._what,
            error=error,
        )
        self.well = False
        self._interval = SELF_TEST_INTERVAL
        self._test_later()

    def _test_later(self) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(self._interval, self._test_now)
            self._interval = min(2 * self._interval, self._longest_interval)

    def _test_now(self) -> None:
        self._timer = None
        self._threads.run(self._test).addCallbacks(self._passed, self._failed)

    def _passed(self, _: object) -> None:
        self.well = True
        self._failure = ""
        _log.warn("{what}: healthy again, accepting uploads", what=self._what)

    def _failed(self, failure: Failure) -> None:
        error, now = failure.getErrorMessage(), self._clock.seconds()
        if error != self._failure or now - self._told_of_failure >= STILL_LINE:
            self._failure, self._told_of_failure = error, now
            _log.critical("{what}: still UNHEALTHY: {error}", what=self._what, error=error)
        self._test_later()


_log = Logger()
