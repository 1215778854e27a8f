"""
What a daemon reports to its service manager, and when (see
`twisted_upload.daemon.systemd`); and what the watchdog proves.

**The watchdog proves the reactor and the disk threads, not the disk.**  Twice in
``WATCHDOG_USEC`` the reactor sends ``WATCHDOG=1``.  A stalled reactor sends nothing,
and is killed and restarted in time.  Each time, a job that does not touch the disk is
sent through the disk threads of every store.  Until it returns, every thread there
is stuck in the job it has, because of either a stalled disk or a bug of the daemon.  A
stalled disk is no reason for a quick kill: a new process would find the same disk, and
uploads that only had to wait would be aborted.  A bug is, because nothing else would
end it.  The two cannot be distinguished here.  So the disk threads get `DISK_FACTOR`
times as long as the reactor; then the manager is asked to act (``WATCHDOG=trigger``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.core.text import counted, format_duration
from twisted_upload.disk.threads import IDisk, PoolStopped

__all__ = ["Counts", "DiskWatchdog", "Notifications", "StoredCount", "total"]

STATUS_INTERVAL = 5.0
"""Seconds between two status lines, and between two requests for more time."""

EXTENSION = 15.0
"""Seconds that each request asks for."""

DISK_FACTOR = 10
"""How many times as long as the reactor the disk threads may stall."""


class Counts(NamedTuple):
    """
    The uploads of a daemon.

    :ivar in_flight: uploads that have begun and not ended.
    :ivar stored: uploads stored since its start.
    """

    in_flight: int
    stored: int

    def __str__(self) -> str:
        uploads = counted(self.in_flight, "upload")
        return f"{uploads} in flight, {self.stored} stored since the start"


def total(counts: Iterable[Counts]) -> Counts:
    """Add up several counts."""
    several = [*counts]
    return Counts(sum(one.in_flight for one in several), sum(one.stored for one in several))


class StoredCount:
    """An observer (see `twisted_upload.core.outcome`) that counts stored uploads."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, ended: UploadOutcome) -> None:
        """Count an upload that has ended, if it was stored."""
        self.number += ended.outcome == "stored"


class DiskWatchdog:
    """
    Tests whether the disk threads of a store still complete jobs.

    :param disk: the threads.
    :param clock: tells the time.
    """

    def __init__(self, disk: IDisk, clock: IReactorTime) -> None:
        self._disk = disk
        self._clock = clock
        self._asked: float | None = None

    def probe(self) -> None:
        """Send a job that does not touch the disk, unless one is pending."""
        if self._asked is None:
            self._asked = self._clock.seconds()
            self._disk.run(lambda: None).addCallbacks(self._came_back, self._stopped)

    def discount(self, seconds: float) -> None:
        """Do not count this time, during which the whole process was stalled."""
        if self._asked is not None:
            self._asked = min(self._clock.seconds(), self._asked + max(0.0, seconds))

    @property
    def delay(self) -> float:
        """Seconds for which a job has been pending."""
        return 0.0 if self._asked is None else self._clock.seconds() - self._asked

    def _came_back(self, _: None) -> None:
        self._asked = None

    def _stopped(self, failure: Failure) -> None:
        failure.trap(PoolStopped)  # the daemon is ending, and no longer needs them
        self._asked = None


class Notifications:
    """
    Keeps a service manager informed.

    :param say: sends lines; returns whether they were accepted.
    :param clock: schedules the messages.
    :param status: returns the status as a line such as ``STATUS=fine``.
    :param disks: the disk threads to test.
    :param watchdog: seconds within which the manager expects a sign of life; 0
        for never.
    """

    def __init__(
        self,
        say: Callable[[str], bool],
        clock: IReactorTime,
        status: Callable[[], str],
        disks: Sequence[IDisk] = (),
        *,
        watchdog: float = 0.0,
    ) -> None:
        self._send = say
        self._clock = clock
        self._status = status
        self._disk_watchdogs = [DiskWatchdog(disk, clock) for disk in disks]
        self._watchdog = watchdog
        self._state = ""  # what the manager must know, and has not accepted yet
        self._last_status = ""
        self._stopping = False
        self._triggered = False
        self._due: float | None = None  # time of the next check
        self._timers: dict[str, IDelayedCall] = {}

    def ready(self) -> None:
        """Report that the ports are bound and the stores have passed their tests."""
        self._send_state("READY=1")
        self._tick()
        if self._watchdog > 0:
            self._watch()

    def reloading(self) -> None:
        """Report that the configuration is being reloaded."""
        self._send_state(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Report that the reload is over, whether or not it succeeded."""
        if not self._stopping:
            self._send_state("READY=1")

    def stopping(self) -> None:
        """Report that the daemon stops, and keep asking for time for uploads in flight."""
        self._stopping = True
        self._send_state("STOPPING=1")
        self._tick()

    def over(self) -> None:
        """Send nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _send_state(self, state: str) -> None:
        self._state = "" if self._send(state) else state

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        name = function.__name__
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()

        def call() -> None:
            del self._timers[name]
            function()

        self._timers[name] = self._clock.callLater(seconds, call)

    def _tick(self) -> None:
        if self._state:
            self._send_state(self._state)
        status = self._status()
        lines = [status] if status != self._last_status else []
        if self._stopping:
            lines.append(f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}")
        if lines and self._send("\n".join(lines)):
            self._last_status = status
        self._later(STATUS_INTERVAL, self._tick)

    def _watch(self) -> None:
        if self._due is not None:
            late = self._clock.seconds() - self._due
            for disk_watchdog in self._disk_watchdogs:
                disk_watchdog.discount(late)
        for disk_watchdog in self._disk_watchdogs:
            disk_watchdog.probe()
        longest = max((disk_watchdog.delay for disk_watchdog in self._disk_watchdogs), default=0.0)
        if longest < DISK_FACTOR * self._watchdog:
            self._triggered = False
            self._send("WATCHDOG=1")
        elif not self._triggered:
            self._triggered = True
            _log.error(
                "no disk thread has made progress for {time}: requesting a restart",
                time=format_duration(longest),
            )
            self._send("WATCHDOG=trigger")
        self._due = self._clock.seconds() + self._watchdog / 2
        self._later(self._watchdog / 2, self._watch)


_log = Logger()
