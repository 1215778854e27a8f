"""
Free space: how much of a file system uploads may use.

**The reserve applies to uploads in flight, not only to new ones.**  An upload that is
larger than what is collected in memory asks before each piece that it writes to the disk
(`SpaceBudget.grow`), and is refused if that piece would use space of the reserve.  Small
uploads that are complete are stored nevertheless, from at most a quarter of the reserve
(`SpaceBudget.complete`).  New ones are refused while free space is below the reserve,
no inodes are left, or not even a small file fits (`FreeSpace.is_short`).

The use of the reserve is therefore bounded: a quarter of it by complete uploads; one
piece (1 MiB) for each disk thread that is writing one at that moment, if there are
complete uploads; 8 MiB (`MOST_UNSEEN`) for each other process or store that writes to the
same file system, since between two checks they do not know of each other; and whatever
other programs write.

The disk threads themselves check the free space, because fstatvfs(2) may block there
without harm.  They check in proportion to what they write: when an eighth of the space
above the reserve, or 8 MiB, has been written since the last check, and at least once a
second while they write.  A file system that does not report its size (a tmpfs with
``size=0``, some FUSE file systems) counts as unlimited, and the reserve has no effect
there.  ext4 and XFS count data that is only in memory (delayed allocation) as used; btrfs
counts it only after write-back, so that there the bound is exceeded by the dirty data in
memory.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import Reserve, format_size
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.threads import IDisk
from twisted_upload.stores.directory.space_budget import LOOK_IS_FRESH, SpaceBudget

__all__ = ["FreeSpace"]

FAILED_TESTS = 2
"""Consecutive tests that must find no space, although some is reported, before uploads are
refused: an upload that has just been refused may still hold the last of a quota."""


class FreeSpace:
    """
    Whether a file system has more free space than the reserve, and free inodes.

    A file system that reports both may take no file all the same, because of a quota for
    example.  Therefore, after an upload that did not fit, a small file is written as a
    test.

    It is checked from time to time in a disk thread, while uploads come; and while there
    is too little, so that no upload is refused after the shortage has ended.

    :param what: name of the store, for the log.
    :param look: returns the free space of the file system.
    :param now: returns monotonic time in seconds; called in disk threads.
    :param is_full: tests whether not even a small file can be stored; waits for the disk.
    :param make_room: see `SpaceBudget`; waits for the disk.
    :ivar budget: the budget of uploads in flight; `None` without a reserve.
    :ivar space: the free space at the last check.
    :ivar short_of: what is short: ``""``, ``"space"``, ``"inodes"``, or ``"files"`` if none
        can be stored although space and inodes are free.
    """

    def __init__(
        self,
        what: str,
        disk: IDisk,
        clock: IReactorTime,
        reserve: Reserve,
        look: Callable[[], Space],
        *,
        now: Callable[[], float],
        is_full: Callable[[], bool] = lambda: False,
        make_room: Callable[[float], bool] = lambda _: False,
    ) -> None:
        self.space = Space(0, 0)
        self.short_of = ""
        self._what = what
        self._disk = disk
        self._clock = clock
        self._reserve = reserve
        self.budget: SpaceBudget | None = None
        if reserve != Reserve():
            self.budget = SpaceBudget(reserve, look, now, make_room=make_room)
        self._look = self.budget.look if self.budget is not None else look
        self._is_full = is_full
        self._doubted = False  # an upload did not fit, however much space is reported
        self._failed_tests = 0
        self._looking = False
        self._looked = self._fresh_until = float("-inf")
        self._timer: IDelayedCall | None = None
        self._started = False
        self._told_uncounted = False
        self._waiting: list[Deferred[None]] = []

    @property
    def reserve(self) -> float:
        """Bytes to be left free."""
        return self._reserve.of(self.space.total)

    def reserve_of(self, space: Space) -> float:
        """Return the bytes to be left free of a file system; may be called in any thread."""
        return self._reserve.of(space.total)

    @property
    def trouble(self) -> str | None:
        """Why uploads are refused, as a short text; `None` if they are not."""
        return _TROUBLES.get(self.short_of)

    def look(self) -> None:
        """
        Check at once.  Waits for the disk.

        :raises OSError: the check failed.
        """
        self._found(self._look())

    def start(self) -> None:
        """Until `stop` is called, check periodically while there is too little."""
        self._started = True
        self._look_later()

    def stop(self) -> None:
        """Stop the periodic checks."""
        self._started = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def is_short(self) -> bool:
        """Return whether a new upload must be refused; check again if that is due."""
        budget = self.budget
        if budget is not None and budget.space is not self.space:
            self.notice()
        if not self.short_of and (budget is None or self._clock.seconds() < self._fresh_until):
            return False
        self._look_again()
        return bool(self.short_of)

    def notice(self) -> None:
        """Adopt the result of a check that a disk thread has made in the meantime."""
        if self.budget is not None and self.budget.space is not self.space:
            self._found(self.budget.space)

    def look_soon(self) -> None:
        """Check and test soon: an upload did not fit, however much space seems to be free."""
        self.notice()
        self._doubted = True
        self._look_later()

    def known(self) -> Deferred[None]:
        """
        Check again if the last result is no longer valid.

        :return: fires when the check has ended, even if it has failed; while the disk is
            stalled, never.  Cancel it to stop waiting.
        """
        self._look_again()
        done: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(done)
        if not self._looking:
            self._tell()
        return done

    def _found(self, space: Space) -> None:
        self.space = space
        if self.budget is not None and not space.total and not self._told_uncounted:
            self._told_uncounted = True
            _log.warn(
                "{what}: this file system does not report its size: the reserve has no effect",
                what=self._what,
            )
        before, self.short_of = self.short_of, self._shortage()
        if self.short_of != before:
            _log.warn(
                "{what}: {free} free, {verdict}",
                what=self._what,
                free=format_size(space.free),
                verdict=_VERDICTS[self.short_of or before][not self.short_of],
            )
            self._look_later()

    def _shortage(self) -> str:
        if self.space.free < self.reserve:
            return "space"
        if not _has_inodes(self.space):
            return "inodes"
        return "files" if self._failed_tests >= FAILED_TESTS else ""

    def _look_later(self) -> None:
        due = self.short_of or self._doubted or self._failed_tests
        if self._started and due and self._timer is None:
            self._timer = self._clock.callLater(LOOK_IS_FRESH, self._look_by_itself)

    def _look_by_itself(self) -> None:
        self._timer = None
        self._look_again()
        if not self._looking:
            self._look_later()

    def _look_again(self) -> None:
        now = self._clock.seconds()
        if not self._looking and now - self._looked >= LOOK_IS_FRESH:
            self._looked = now
            self._fresh_until = now + LOOK_IS_FRESH
            self._looking = True
            # If the check fails, ignore it: the write path uses the same disk and reports
            # its errors.
            testing = self._doubted or self._failed_tests > 0
            self._doubted = False
            looking = self._disk.run(self._look_and_test if testing else self._look)
            looking.addCallbacks(self._found, lambda _: None).addBoth(self._tell)

    def _look_and_test(self) -> Space:
        """Check, and test whether a small file can be stored.  Runs in a disk thread."""
        space = self._look()
        reported = space.free >= self._reserve.of(space.total) and _has_inodes(space)
        # Nothing else changes this while a check is running, and there is one at a time.
        self._failed_tests = self._failed_tests + 1 if reported and self._is_full() else 0
        return space

    def _tell(self, failure: object = None) -> None:
        self._looking = False
        if isinstance(failure, Failure):
            _log.failure(
                "{what}: internal error while checking the free space", failure, what=self._what
            )
        self._look_later()
        waiting, self._waiting = self._waiting, []
        for done in [*waiting]:
            if not done.called:
                done.callback(None)


def _has_inodes(space: Space) -> bool:
    return bool(space.inodes or not space.all_inodes)


_TROUBLES = {
    "space": "free space is below the reserve",
    "inodes": "no inodes are free",
    "files": "not even a small file fits",
}

_VERDICTS = {
    "space": ("below the reserve: refusing uploads", "above the reserve again: accepting uploads"),
    "inodes": ("but no inodes: refusing uploads", "and inodes again: accepting uploads"),
    "files": (
        "but not even a small file fits (a quota?): refusing uploads",
        "and small files fit again: accepting uploads",
    ),
}

_log = Logger()
