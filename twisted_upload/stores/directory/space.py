"""
Free space: how much of a file system uploads may take.

**The reserve binds uploads in flight, not only new ones.**  An upload that is
larger than what waits in memory asks before each piece that goes to the disk
(`SpaceBudget.grow`), and is refused when that piece would reach into the
reserve.  Small uploads that are complete are kept all the same, out of a
quarter of the reserve at the most (`SpaceBudget.complete`).  New ones are
refused while less is free than the reserve, or no inodes are left
(`FreeSpace.check`).

What can be taken below the reserve is therefore bounded: a quarter of it by
complete uploads; one piece (1 MiB) for each disk thread that writes one at that
moment, where there are complete ones; 8 MiB (`MOST_UNSEEN`) for each other
process or store that writes to that file system, since they do not know of each
other between two looks; and what other programs write.

Free space is looked at by the disk threads themselves, where fstatvfs(2) may
hang without harm, in proportion to what they write: when an eighth of what was
left above the reserve has been written since the last look, or 8 MiB, and once
a second at least while something is written.  A file system that does not count
its space (a tmpfs of ``size=0``, some of FUSE) has as much as anybody wants, and
no reserve can be kept there.  ext4 and XFS count what is in memory only
(delayed allocation) as used; btrfs counts it when it has been written back, so
there the bound holds but for what is dirty in memory.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import Reserve, format_size
from twisted_upload.disk.files import Space
from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import NoSpace

__all__ = ["LOOK_IS_FRESH", "FreeSpace", "SpaceBudget"]

LOOK_IS_FRESH = 1.0
"""Seconds for which a look at the free space is good."""

LOOK_AFTER = 8
"""What is free above the reserve, divided by this, may be written before the next look."""

MOST_UNSEEN = 8 * 1024 * 1024
"""Bytes that may be written before the next look, however much is free."""

COMPLETE_SHARE = 4
"""The reserve, divided by this, is for uploads that are complete."""

MARGIN_SHARE = 16
"""An upload leaves its own size, divided by this, to smaller ones."""


class SpaceBudget:
    """
    What uploads may write before the reserve is reached.  For any thread.

    Each piece is counted before it is written, so that many threads that write
    at once cannot reach into the reserve together.

    :param look: what is free; may wait for the disk.
    :param now: monotonic seconds.
    :ivar space: what the last look has found.
    """

    def __init__(
        self,
        reserve: Reserve,
        look: Callable[[], Space],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.space = Space(0, 0)
        self._reserve = reserve
        self._look = look
        self._now = now
        self._lock = threading.Lock()
        self._reserved = 0.0
        self._headroom = 0.0  # above the reserve, less what has been counted since the look
        self._until_look = 0.0  # bytes
        self._fresh_until = float("-inf")
        self._counted = 0  # bytes, since the beginning
        self._in_hand = 0  # bytes that are counted and may not have been written yet
        self._tight = False

    def look(self) -> Space:
        """
        Look.  In a disk thread, or where waiting for the disk does no harm.

        :raises OSError: it cannot be told.
        """
        with self._lock:
            counted, in_hand = self._counted, self._in_hand
        space = self._look()
        with self._lock:
            # What was being written during the look is in it, or not.
            in_hand += self._counted - counted
            self.space = space
            self._reserved = self._reserve.of(space.total)
            if space.total:
                self._headroom = space.free - self._reserved - in_hand
            else:
                self._headroom = float("inf")
            self._until_look = min(self._headroom / LOOK_AFTER, MOST_UNSEEN)
            self._fresh_until = self._now() + LOOK_IS_FRESH
            self._tight = self._headroom <= 0
        return space

    def grow(self, size: int, more: int) -> None:
        """
        Before an upload that is not complete writes on; then call `written`.

        A large one is refused a little before the reserve is reached, so that
        it is not a small one beside it that is.

        :param size: bytes of it that have been written.
        :raises OSError: ``ENOSPC``: these bytes would reach into the reserve.
        """
        self._count(more, size / MARGIN_SHARE)

    def complete(self, more: int) -> None:
        """
        Before the last bytes of an upload are written, which is in a moment.

        :raises OSError: ``ENOSPC``: the share of the reserve that is for
            complete uploads has been used up too.
        """
        self._count(more, None)

    def written(self, more: int) -> None:
        """These bytes have been written, or never will be."""
        with self._lock:
            self._in_hand -= more

    def gave_back(self) -> None:
        """An upload has been removed: if space was short, others may now have it."""
        if self._tight:
            with contextlib.suppress(OSError):
                self.look()

    def _count(self, more: int, margin: float | None) -> None:
        with self._lock:
            if (
                more <= self._until_look
                and self._now() < self._fresh_until
                and self._take(more, margin)
            ):
                return
        self.look()
        with self._lock:
            if not self._take(more, margin):
                self._tight = True
                raise OSError(errno.ENOSPC, "the reserve has been reached")

    def _take(self, more: int, margin: float | None) -> bool:
        share = self._reserved / COMPLETE_SHARE
        if margin is None:
            # What is being written may be counted twice, which is no reason to
            # refuse what is complete.
            if self._headroom + self._in_hand - more < -share:
                return False
        elif self._headroom - more < min(margin, share):
            return False
        else:
            self._in_hand += more
        self._headroom -= more
        self._until_look -= more
        self._counted += more
        return True


class FreeSpace:
    """
    Whether a file system has more space than the reserve, and inodes.

    Looked at from time to time, in a disk thread, while uploads come; and while
    there is too little, so that nobody is refused for what has been put right.

    :param look: what is free on the file system.
    :ivar budget: for uploads in flight; `None` without a reserve.
    :ivar space: what was free, when that was last looked at.
    :ivar short_of: what there is too little of: ``""``, ``"space"`` or ``"inodes"``.
    """

    def __init__(
        self,
        what: str,
        disk: IDisk,
        clock: IReactorTime,
        reserve: Reserve,
        look: Callable[[], Space],
    ) -> None:
        self.space = Space(0, 0)
        self.short_of = ""
        self._what = what
        self._disk = disk
        self._clock = clock
        self._reserve = reserve
        self.budget = SpaceBudget(reserve, look) if reserve != Reserve() else None
        self._look = self.budget.look if self.budget is not None else look
        self._looking = False
        self._looked = self._fresh_until = float("-inf")
        self._timer: IDelayedCall | None = None
        self._started = False
        self._told_uncounted = False
        self._waiting: list[Deferred[None]] = []

    @property
    def reserve(self) -> float:
        """Bytes that are to be left free."""
        return self._reserve.of(self.space.total)

    @property
    def short(self) -> bool:
        """Whether uploads are refused."""
        return bool(self.short_of)

    @property
    def trouble(self) -> str | None:
        """Why uploads are refused, in a few words."""
        if self.short_of == "inodes":
            return "no inodes are free"
        return "less space is free than the reserve" if self.short_of else None

    def look(self) -> None:
        """
        Look at once, where waiting for the disk does no harm.

        :raises OSError: it cannot be told.
        """
        self._found(self._look())

    def start(self) -> None:
        """From now on, until `stop`, look by itself while there is too little."""
        self._started = True
        self._look_later()

    def stop(self) -> None:
        """Look no more by itself."""
        self._started = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def check(self) -> None:
        """
        :raises NoSpace: the reserve has been reached, or no inodes are left.
        """
        budget = self.budget
        if budget is not None and budget.space is not self.space:
            self.notice()
        if not self.short_of and (budget is None or self._clock.seconds() < self._fresh_until):
            return
        self._look_again()
        if self.short_of:
            raise NoSpace

    def notice(self) -> None:
        """Take note of what disk threads have found meanwhile."""
        if self.budget is not None and self.budget.space is not self.space:
            self._found(self.budget.space)

    def look_soon(self) -> None:
        """An upload did not fit: look soon, whatever is thought to be free."""
        self.notice()
        self._look_later(doubted=True)

    def known(self) -> Deferred[None]:
        """
        Look again, if the last look is not fresh any more.

        :return: fires when that is done, whatever came of it: never, while a
            disk stands still.  Cancel it to stop waiting.
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
        return "inodes" if self.space.all_inodes and not self.space.inodes else ""

    def _look_later(self, *, doubted: bool = False) -> None:
        if self._started and (self.short_of or doubted) and self._timer is None:
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
            # What cannot be looked at is not our business here: the write path
            # meets the same disk and tells.
            self._disk.run(self._look).addCallbacks(self._found, lambda _: None).addBoth(self._tell)

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


_VERDICTS = {
    "space": ("below the reserve: refusing uploads", "above the reserve again: accepting uploads"),
    "inodes": ("but no inodes: refusing uploads", "and inodes again: accepting uploads"),
}

_log = Logger()
