"""
Whether the disk under a store can be trusted, and what its errors mean.

The failure rules, each kept in one place:

1. The first failed fsync of a file loses that upload; it is never tried again,
   because a second one may succeed over data that the kernel has thrown away.
   (`twisted_upload.stores.directory.commit_batch.CommitBatch.publish` has no loop around it.)  The
   record of names outlives an upload: its entry is written again.
   (`twisted_upload.stores.directory.name_record.NameRecord.sync_failed`)
2. An error that is the disk's own (EIO, EROFS, or anything that no rule below
   explains) makes the store unhealthy: it refuses, says so loudly, and takes
   uploads again only when a test of the whole write path has passed.
   (`Health.refusal`)
3. A full disk or quota, a file that is too large, no more inodes: that upload
   is refused with ``no-space``, its space is given back at once, and everything
   else goes on.  (`Health.refusal`, `PartialFile.discard`)
4. When the directory cannot be synced after publishing, there is no success,
   and the name is taken back.  (`PartialFile.discard`)
5. What was not acknowledged may exist after a crash, whole; what was
   acknowledged does, exactly once.  (the order in `twisted_upload.stores.directory.commit_batch`)
6. Closing is checked too.  (`PartialFile.publish`)
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk, PoolStopped
from twisted_upload.errors import Busy, NoSpace, StoreFailed, UploadRefused

__all__ = ["Health"]

SELF_TEST_INTERVAL = 2.0
"""Seconds between the tests of a store that is not healthy."""

SHORTAGE_LINE = 60.0
"""Seconds between two lines in the log about a lack of descriptors, memory or threads."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class Health:
    """
    Whether the disk under a store can be trusted.

    :param what: the store, for the log.
    :param test: walks the whole write path in a disk thread, and raises
        `Exception` where it fails.
    :ivar well: false from an error of the disk until the test passes: the store takes
        no uploads.
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

    def refusal(self, failure: Failure) -> UploadRefused:
        """What a sender hears when a step of the write path has failed."""
        error = failure.value
        number = error.errno if isinstance(error, OSError) else None
        if number in _FULL:
            return NoSpace()
        if number in _SHORT:
            now = self._clock.seconds()
            if now - self._told_of_shortage >= SHORTAGE_LINE:
                self._told_of_shortage = now
                _log.error("{what}: {error}", what=self._what, error=error)
            return Busy()
        if failure.check(PoolStopped):
            return StoreFailed()  # the daemon ends: nothing is wrong with the disk
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
        """What a sender hears when something of ours has failed that is not the disk."""
        _log.failure("{what}: internal error in the write path", failure, what=self._what)
        return StoreFailed()

    def stop(self) -> None:
        """Test no more."""
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
        _log.warn("{what}: healthy again, accepting uploads", what=self._what)

    def _failed(self, failure: Failure) -> None:
        _log.critical(
            "{what}: still UNHEALTHY: {error}", what=self._what, error=failure.getErrorMessage()
        )
        self._test_later()


_log = Logger()
