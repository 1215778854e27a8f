"""
Whether the disk under a store can be trusted, and how its errors are handled.

The rules for failures, each implemented in one place:

1. If the fsync of a file fails, that upload is refused.  The fsync is never repeated,
   because a second one may succeed although the kernel has discarded the data.
   (`twisted_upload.stores.directory.commit_batch.CommitBatch.publish` does not retry it.)
   The record of names outlives an upload: its entry is written again.
   (`twisted_upload.stores.directory.name_record.NameRecord.sync_failed`)
2. An error of the disk itself (EIO, EROFS, or any error that no rule below covers) makes
   the store unhealthy: it logs this as critical, and refuses uploads until a test of the
   whole write path has passed.  (`Health.refusal`)
3. If the disk or a quota is full, a file is too large, or there are no free inodes, that
   upload is refused with ``no-space``, its space is released at once, and everything else
   continues.  (`Health.refusal`, `PartialFile.discard`)
4. If the directory cannot be synced after publishing, the upload does not succeed, and
   the name is removed.  (`PartialFile.discard`)
5. After a crash, an upload that was not acknowledged may exist, whole; one that was
   acknowledged does exist, exactly once.
   (the order of steps in `twisted_upload.stores.directory.commit_batch`)
6. Errors of close(2) are checked too.  (`PartialFile.publish`)
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk, PoolStopped
from twisted_upload.errors import Busy, NoSpace, StoreFailed, UploadRefused

__all__ = ["Health", "is_full"]

SELF_TEST_INTERVAL = 2.0
"""Seconds between the self-tests of an unhealthy store."""

STILL_LINE = 60.0
"""Minimum seconds between log lines about self-tests that fail for the same reason."""

SHORTAGE_LINE = 60.0
"""Minimum seconds between log lines about a lack of file descriptors, memory or threads."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def is_full(error: BaseException | None) -> bool:
    """Return whether an error means that the file system, or a quota, takes no more."""
    return isinstance(error, OSError) and error.errno in _FULL


class Health:
    """
    Whether the disk under a store can be trusted.

    :param what: name of the store, for the log.
    :param test: tests the whole write path in a disk thread, and raises an `Exception` if
        it fails.
    :ivar well: false from an error of the disk until the test passes; meanwhile, the store
        refuses uploads.
    """

    def __init__(
        self, what: str, disk: IDisk, clock: IReactorTime, test: Callable[[], object]
    ) -> None:
        self.well = True
        self._what = what
        self._disk = disk
        self._clock = clock
        self._test = test
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self._told_of_shortage = float("-inf")
        self._told_of_failure = float("-inf")
        self._failure = ""

    def refusal(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after a step of the write path has failed."""
        error = failure.value
        if isinstance(error, UploadRefused):
            return error  # it concerns this upload only
        number = error.errno if isinstance(error, OSError) else None
        if is_full(error):
            return NoSpace()
        if number in _SHORT:
            now = self._clock.seconds()
            if now - self._told_of_shortage >= SHORTAGE_LINE:
                self._told_of_shortage = now
                _log.error("{what}: {error}", what=self._what, error=error)
            return Busy()
        if failure.check(PoolStopped):
            return StoreFailed()  # the daemon is stopping; nothing is wrong with the disk
        if number is None:
            return self.defect(failure)
        if self.well and not self._stopped:
            _log.critical(
                "{what}: UNHEALTHY, refusing uploads until a self-test passes: {error}",
                what=self._what,
                error=error,
            )
            self.well = False
            self._test_later()
        return StoreFailed()

    def defect(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after an internal error that is not the disk's."""
        _log.failure("{what}: internal error in the write path", failure, what=self._what)
        return StoreFailed()

    def stop(self) -> None:
        """Stop testing."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _test_later(self) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(SELF_TEST_INTERVAL, self._test_now)

    def _test_now(self) -> None:
        self._timer = None
        self._disk.run(self._test).addCallbacks(self._passed, self._failed)

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
