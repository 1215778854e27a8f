"""
What is done for each stored file: a program is started (``--on-upload``), or the file is
forwarded (``--forward``).

**For every stored file, it is done until it succeeds, or has failed so often that the
file's marker is set aside; it is tried at least once, even if the daemon is killed or
the power fails.**  The state on disk is the queue (`twisted_upload.hooks.spool`).  What
this module holds, in the reactor's thread, is a window on the oldest part of the queue,
and may be lost at any moment.

A failure that concerns all files sets none aside: they wait until it is over
(`twisted_upload.hooks.outage`).

No sender ever waits for any of this: it is done after the file's sender has been
answered, by threads that have nothing else to do.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.interfaces import IHookCommand, IHookCounts, IHookThreads
from twisted_upload.hooks.log import HookLog, QueueLog
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.outage import Outage
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.spool_scan import SpoolScan, scan, take_back
from twisted_upload.hooks.task import HookTask, not_started

__all__ = [
    "BATCH",
    "BUSY_PAUSE",
    "LOOK_INTERVAL",
    "MOST_KNOWN",
    "PAUSES",
    "UNCOUNTED_INTERVAL",
    "HookRunner",
]

PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Approximate delays in seconds before each retry; the last one repeats."""

BUSY_PAUSE = 1.0
"""Seconds between checks of a file for which a dead daemon's program is still running."""

UNCOUNTED_INTERVAL = 60.0
"""Minimum seconds between log lines about failures that use up no attempt: a failing disk
concerns all files."""

LOOK_INTERVAL = 10.0
"""Seconds between scans of the queue on disk, which find markers that an operator has
moved back or that other daemons have left behind."""

MOST_KNOWN = 10_000
"""Files that are tracked in memory; the rest are only in the queue on disk."""

BATCH = 500
"""Markers that one scan reads from the disk; more of a long queue, because a scan lists
all of it."""


_SELDOM = 20  # a scan that takes long comes seldom: it takes at most a part of this of the time
_SHARE = 50


class HookRunner:
    """
    Does for each stored file what is to be done.

    :param command: does it for one file.
    :param threads: the threads that wait for it.
    :param clock: schedules retries and scans.
    :param now: returns the time in seconds since the epoch.
    :param counts: updated by the runner.
    :param jobs: the maximum number of files that are worked on at a time.
    :param attempts: number of failures after which a file is set aside.
    :param chance: returns a random number from 0 to 1, so that files that fail together
        are not retried together.
    :param log: makes the log lines; called with a function for the path of the folder.
    :param again_after: seconds after which a file that was set aside is tried again.
    :param done: called when it has succeeded for a file, and nothing is left to do.
    """

    def __init__(
        self,
        command: IHookCommand,
        threads: IHookThreads,
        clock: IReactorTime,
        now: Callable[[], float],
        counts: IHookCounts,
        *,
        jobs: int,
        attempts: int,
        chance: Callable[[], float],
        log: Callable[[Callable[[], str]], QueueLog] = HookLog,
        again_after: float = math.inf,
        done: Callable[[Marker], object] = lambda _: None,
    ) -> None:
        self._command = command
        self._threads = threads
        self._clock = clock
        self._now = now
        self._jobs = jobs
        self._attempts = attempts
        self._chance = chance
        self._queue: Callable[[], HookSpool | None] = lambda: None
        self._known: set[str] = set()
        self._ready: deque[HookTask] = deque()
        self._resting: list[tuple[float, int, HookTask]] = []  # a heap: when, a serial, what
        self._outage = Outage(clock, chance)
        self._again_after = again_after
        self._done = done
        self._log = log(self._path)
        self._serials = itertools.count()
        self._counts = counts
        self._set_aside_told = False
        self._not_counted_told = float("-inf")
        self._not_counted_unlogged = 0
        self._count_due = 0.0
        self._looking = False
        self._began = self._took = 0.0  # when the last scan began, and its seconds
        self._reads = True  # the current scan reads markers, not only counts them
        self._more = False  # on disk than is known here
        self._stopping = False
        self._timers: dict[str, IDelayedCall] = {}

    def check(self) -> None:
        """
        Check the program.

        :raises CannotStart: the program cannot be started.
        """
        self._command.check()

    def start(self, queue: Callable[[], HookSpool | None]) -> None:
        """
        Begin, starting with the markers that the previous daemon has left.

        :param queue: returns the current queue, which may be replaced.
        :raises CannotStart: for example, no process can be started.
        """
        self._queue = queue
        self._command.start()
        self._set_aside_told = False
        self._count_due = self._clock.seconds()
        self._look()

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        """
        Start the program for a file that was stored and whose sender has been answered.

        :param spool: the spool that holds its marker.
        """
        spool.release(marker)
        if self._more or len(self._known) >= MOST_KNOWN:
            self._more = True  # older files on disk come first
        else:
            self._add(spool, marker)
            self._go_on()

    def stop(self, seconds: float) -> Deferred[None]:
        """
        Start no more programs.  The remaining work is done after the next start.

        :param seconds: how long running programs may continue before they are ended.
        :return: fires when no program is running.
        """
        self._stopping = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._log.stopping(self._counts.running)
        ending = self._clock.callLater(seconds, self._command.stop)

        def stopped(result: object) -> None:
            if ending.active():
                ending.cancel()
            self._command.close()

        return self._threads.stop().addBoth(stopped)

    # Known files

    def _add(self, spool: HookSpool, marker: Marker) -> None:
        if marker.identity not in self._known:
            self._known.add(marker.identity)
            self._ready.append(HookTask(spool, marker))

    def _forget(self, task: HookTask) -> None:
        self._known.discard(task.marker.identity)

    def _go_on(self) -> None:
        most = self._outage.at_most(self._jobs)
        while self._ready and self._counts.running < most and not self._stopping:
            self._start(self._ready.popleft())
        if self._more and len(self._ready) < BATCH // 2 and len(self._known) < MOST_KNOWN:
            self._look()

    # The queue on disk

    def _look(self) -> None:
        self._later("look", max(LOOK_INTERVAL, _SELDOM * self._took), self._look)
        spool = self._queue()
        if self._looking or self._stopping or spool is None:
            return
        self._reads = len(self._known) < MOST_KNOWN
        most = max(BATCH, min(MOST_KNOWN - len(self._known), self._counts.waiting // _SHARE))
        most = most if self._reads else 0  # 0: only count them
        now = self._began = self._clock.seconds()
        count = now >= self._count_due
        if count:
            self._count_due = now + LOOK_INTERVAL
        self._looking = True
        self._more = False
        known = frozenset(self._known)
        before = self._now() - self._again_after

        def job() -> tuple[SpoolScan, int | None]:
            if count:
                take_back(spool, before, BATCH)
            return scan(spool, most, known), spool.count_set_aside() if count else None

        self._threads.run(job).addCallbacks(self._found, self._cannot_look, (spool,))

    def _found(self, seen: tuple[SpoolScan, int | None], spool: HookSpool) -> None:
        found, set_aside = seen
        self._looking = False
        self._took = self._clock.seconds() - self._began
        self._counts.waiting, self._counts.oldest = found.waiting, found.oldest
        # If the scan brought nothing, do not repeat it before the next interval.
        idle = self._reads and not (found.markers or found.gone or found.bad)
        self._more |= found.more and not idle
        self._log.bad(found.bad)
        self._log.gone(found.gone)
        if found.error is not None:
            self._log.not_read(found.error)
        if set_aside is not None:
            self._counts.given_up = set_aside
            if not self._set_aside_told:
                self._set_aside_told = True
                self._log.set_aside_before(set_aside)
        for marker in found.markers:
            self._add(spool, marker)
        self._go_on()

    def _cannot_look(self, failure: Failure) -> None:
        self._looking = False
        self._log.cannot_look(failure)

    # One file

    def _start(self, task: HookTask) -> None:
        self._counts.running += 1
        running = self._threads.run(lambda: task.run(self._command))
        running.addErrback(self._as_end).addCallback(self._ended, task)

    def _ended(self, end: HookEnd | None, task: HookTask) -> None:
        self._counts.running -= 1
        if end is None:
            self._wait_for_others(task)
        else:
            if end.ran:
                self._counts.ended(end.seconds, succeeded=end.succeeded)
            if end.concerns_all and not self._stopping:
                self._wait_for_all(end, task)
            elif end.succeeded or self._stopping:
                self._log.ended(task.marker.name, end)
                self._forget(task)
                if end.succeeded and task.succeeded:
                    self._done(task.marker)
            else:
                self._failed(end, task)
            if end.ran and not end.concerns_all:
                self._works()
        self._go_on()

    def _wait_for_all(self, end: HookEnd, task: HookTask) -> None:
        pause = self._outage.failed()
        self._log.all_fail(task.marker.name, end, pause)
        self._later("all", pause, self._go_on)
        # Another file is tried next: if it fails for this one alone, the others go on.
        task.tries += 1
        self._rest(task, max(pause, self._outage.pause(task.tries)))

    def _works(self) -> None:
        seconds = self._outage.over()
        if seconds is not None:
            self._log.works_again(seconds)

    def _wait_for_others(self, task: HookTask) -> None:
        if not task.waits:
            self._log.waits(task.marker.name)
        task.waits = True
        self._rest(task, BUSY_PAUSE)

    def _failed(self, end: HookEnd, task: HookTask) -> None:
        task.tries += 1
        task.failures += end.counts
        if task.failures >= self._attempts:
            self._set_aside(task, end)
            return
        pause = PAUSES[min(task.tries, len(PAUSES)) - 1] * (0.75 + self._chance() / 2)
        if end.counts:
            self._log.failed(task.marker.name, end, task.failures, self._attempts, pause)
        else:
            self._log_not_counted(task, end, pause)
        self._rest(task, pause)

    def _log_not_counted(self, task: HookTask, end: HookEnd, pause: float) -> None:
        now = self._clock.seconds()
        if now - self._not_counted_told < UNCOUNTED_INTERVAL:
            self._not_counted_unlogged += 1
            return
        unlogged, self._not_counted_unlogged = self._not_counted_unlogged, 0
        self._not_counted_told = now
        self._log.not_counted(task.marker.name, end, pause, unlogged)

    def _rest(self, task: HookTask, seconds: float) -> None:
        due = self._clock.seconds() + seconds
        heapq.heappush(self._resting, (due, next(self._serials), task))
        self._wake_later()

    def _wake_later(self) -> None:
        due = self._resting[0][0]
        self._later("retry", max(0.0, due - self._clock.seconds()), self._wake)

    def _wake(self) -> None:
        now = self._clock.seconds()
        while self._resting and self._resting[0][0] <= now:
            self._ready.append(heapq.heappop(self._resting)[2])
        if self._resting:
            self._wake_later()
        self._go_on()

    def _set_aside(self, task: HookTask, end: HookEnd) -> None:
        spool, marker = task.spool, task.marker
        attempts, when = task.failures, self._now()

        def done(_: object) -> None:
            self._counts.given_up += 1
            self._log.set_aside(marker.name, end, attempts)

        def cannot(failure: Failure) -> None:
            self._log.cannot_set_aside(marker.name, end, failure)

        setting = self._threads.run(
            lambda: spool.set_aside(marker, attempts, end.what, when, end.said)
        )
        setting.addCallbacks(done, cannot).addCallback(lambda _: self._forget(task))

    # Helpers

    def _path(self) -> str:
        queue = self._queue()
        return "" if queue is None else queue.path

    def _as_end(self, failure: Failure) -> HookEnd:
        """Return an error before the start as the end of a program; log it if it is a bug."""
        if not failure.check(OSError, ValueError):
            self._log.defect(failure)
        return not_started(failure.value)

    def _later(self, what: str, seconds: float, call: Callable[[], None]) -> None:
        """Schedule a single call, replacing one that was scheduled before."""
        timer = self._timers.pop(what, None)
        if timer is not None and timer.active():
            timer.cancel()
        if not self._stopping:
            self._timers[what] = self._clock.callLater(seconds, call)
