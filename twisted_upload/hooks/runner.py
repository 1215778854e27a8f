"""
``--on-upload``: a program for each stored file.

**For every stored file, the program is started until it succeeds, or has failed so
often that its marker is set aside; it is started at least once, even if the daemon is
killed or the power fails.**  The state on disk is the queue
(`twisted_upload.hooks.spool`).  What this module holds, in the reactor's thread, is a
window on the oldest part of the queue, and may be lost at any moment.

No sender ever waits for any of this: a program is started after its file's sender has
been answered, by threads that have nothing else to do.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.log import HookLog
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.spool_scan import SpoolScan, scan
from twisted_upload.hooks.task import HookTask, IHookCommand, not_started

__all__ = [
    "BATCH",
    "BUSY_PAUSE",
    "LOOK_INTERVAL",
    "MOST_KNOWN",
    "PAUSES",
    "UNCOUNTED_INTERVAL",
    "HookRunner",
    "IHookCounts",
    "IHookThreads",
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
"""Markers that one scan reads from the disk."""


class IHookThreads(IDisk, Protocol):
    """Threads for programs: one for each that may run, and one to scan the queue."""

    def stop(self) -> Deferred[None]:
        """Accept no more jobs; fires when all accepted jobs are done."""


class IHookCounts(Protocol):
    """
    A runner's counts of work to do and done.  The runner updates them.

    :ivar waiting: files whose programs have not succeeded yet, as of the last scan.
    :ivar given_up: files whose programs are not started again, as of the last scan.
    :ivar running: programs that are running.
    """

    waiting: int
    given_up: int
    running: int

    def ended(self, seconds: float, *, succeeded: bool) -> None:
        """Count a program that has run."""


class HookRunner:
    """
    Starts the program for each stored file.

    :param command: the program.
    :param threads: the threads that wait for it.
    :param clock: schedules retries and scans.
    :param now: returns the time in seconds since the epoch.
    :param counts: updated by the runner.
    :param jobs: the maximum number of programs running at a time.
    :param attempts: number of failures after which a file is set aside.
    :param chance: returns a random number from 0 to 1, so that programs that fail
        together are not retried together.
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
        self._log = HookLog(self._path)
        self._serials = itertools.count()
        self._counts = counts
        self._set_aside_told = False
        self._not_counted_told = float("-inf")
        self._not_counted_unlogged = 0
        self._count_due = 0.0
        self._looking = False
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
        while self._ready and self._counts.running < self._jobs and not self._stopping:
            self._start(self._ready.popleft())
        if self._more and len(self._ready) < BATCH // 2 and len(self._known) < MOST_KNOWN:
            self._look()

    # The queue on disk

    def _look(self) -> None:
        self._later("look", LOOK_INTERVAL, self._look)
        spool = self._queue()
        if self._looking or self._stopping or spool is None:
            return
        self._reads = len(self._known) < MOST_KNOWN
        most = BATCH if self._reads else 0  # 0: only count them
        now = self._clock.seconds()
        count = now >= self._count_due
        if count:
            self._count_due = now + LOOK_INTERVAL
        self._looking = True
        self._more = False
        known = frozenset(self._known)

        def job() -> tuple[SpoolScan, int | None]:
            return scan(spool, most, known), spool.count_set_aside() if count else None

        self._threads.run(job).addCallbacks(self._found, self._cannot_look, (spool,))

    def _found(self, seen: tuple[SpoolScan, int | None], spool: HookSpool) -> None:
        found, set_aside = seen
        self._looking = False
        self._counts.waiting = found.waiting
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
            if end.succeeded or self._stopping:
                self._log.ended(task.marker.name, end)
                self._forget(task)
            else:
                self._failed(end, task)
        self._go_on()

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
