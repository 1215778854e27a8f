"""
The counters of one process, and the lag of its reactor.

They are plain numbers because every upload pays for them: less than a microsecond,
where a library's metric takes two or more.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_upload.core.answers import CODES
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.observability.metrics import (
    BYTES,
    DURATION,
    FSYNC,
    LAST_STORED,
    PROGRAM_DURATION,
    PROGRAMS,
    PROGRAMS_GIVEN_UP,
    PROGRAMS_RUNNING,
    PROGRAMS_WAITING,
    PUBLISH,
    SIZE,
    UPLOADS,
    Samples,
)

__all__ = ["Counters", "DiskTimes", "Histogram", "ProgramCounts", "ReactorLag"]

MOST_FRESH = 256
"""Maximum number of values that have not been sorted into buckets yet."""

LAG_INTERVAL = 0.25
"""Seconds between two measurements of the reactor's lag."""

LAG_MEMORY = 60.0
"""Seconds for which the highest lag is remembered at least; at most twice as long."""


class Histogram:
    """
    Counts values in buckets.  It can be used from any thread.

    :param bounds: the largest value of each bucket except the last.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._values: list[float] = [0] * (len(bounds) + 1) + [0.0]
        # Values to be sorted into buckets: doing so in batches takes a fifth of the time.
        self._fresh: deque[float] = deque()
        self._mutex = threading.Lock()

    def observe(self, value: float) -> None:
        """Count a value."""
        fresh = self._fresh
        fresh.append(value)
        if len(fresh) >= MOST_FRESH:
            self.sample()

    def sample(self) -> list[float]:
        """Return the sample: see `twisted_upload.observability.metrics`."""
        with self._mutex:
            fresh = self._fresh
            values = sorted([fresh.popleft() for _ in range(len(fresh))])
            counted = 0
            for bucket, bound in enumerate(self._bounds):
                reached = bisect_right(values, bound, counted)
                self._values[bucket] += reached - counted
                counted = reached
            self._values[-2] += len(values) - counted
            self._values[-1] += sum(values)
            return [*self._values]


class _Listener:
    """The counters of one listener."""

    def __init__(self) -> None:
        # Series that exist from the start, so that Prometheus sees their first increase.
        self.ends = {(outcome, code): [0, 0] for outcome, code in _OUTCOMES}  # uploads, bytes
        self.durations = Histogram(DURATION.bounds)
        self.sizes = Histogram(SIZE.bounds)
        self.last_stored = 0.0


_OUTCOMES = (("stored", None), ("aborted", None), *(("refused", code) for code in CODES))


class Counters:
    """
    Counts the outcomes of uploads: an observer (see `twisted_upload.core.outcome`).

    :param listeners: the names of the listeners.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(self, listeners: Iterable[str], now: Callable[[], float]) -> None:
        self._now = now
        self._listeners = {name: _Listener() for name in listeners}

    def __call__(self, ended: UploadOutcome) -> None:
        """Count an upload."""
        counts = self._listeners.get(ended.listener)
        if counts is None:
            counts = self._listeners[ended.listener] = _Listener()
        end = counts.ends.get((ended.outcome, ended.code))
        if end is None:
            end = counts.ends[ended.outcome, ended.code] = [0, 0]
        end[0] += 1
        end[1] += ended.size
        if ended.outcome == "stored":
            counts.durations.observe(ended.seconds)
            counts.sizes.observe(ended.size)
            counts.last_stored = self._now()

    def samples(self) -> Samples:
        """Return all samples."""
        uploads: dict[tuple[str, ...], int] = {}
        size: dict[tuple[str, ...], int] = {}
        for name, counts in self._listeners.items():
            for (outcome, code), (number, length) in counts.ends.items():
                uploads[name, outcome, code or ""] = number
                size[name, outcome] = size.get((name, outcome), 0) + length
        each = {(name,): counts for name, counts in self._listeners.items()}
        return {
            UPLOADS.name: uploads,
            BYTES.name: size,
            DURATION.name: {labels: it.durations.sample() for labels, it in each.items()},
            SIZE.name: {labels: it.sizes.sample() for labels, it in each.items()},
            LAST_STORED.name: {labels: it.last_stored for labels, it in each.items()},
        }


class DiskTimes:
    """
    How long a store waits for its disk.  It can be used from any thread.

    :ivar fsync: duration of each fsync, in seconds.
    :ivar publish: duration of each rename to a final name, in seconds.
    """

    def __init__(self) -> None:
        self.fsync = Histogram(FSYNC.bounds)
        self.publish = Histogram(PUBLISH.bounds)

    def samples(self, directory: str) -> Samples:
        """Return all samples."""
        return {
            FSYNC.name: {(directory,): self.fsync.sample()},
            PUBLISH.name: {(directory,): self.publish.sample()},
        }


class ProgramCounts:
    """
    The counters of the ``--on-upload`` programs of one store.

    :ivar waiting: files whose programs have not succeeded yet, as of the last scan;
        includes all processes that share the directory.
    :ivar oldest: arrival of the oldest of them, in seconds since the epoch; 0 if none.
    :ivar given_up: files whose programs are not started again, likewise.
    :ivar running: programs that this process is running.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.oldest = 0.0
        self.given_up = 0
        self.running = 0
        # Series that exist from the start, so that Prometheus sees their first increase.
        self._ends = {"succeeded": 0, "failed": 0}
        self._durations = Histogram(PROGRAM_DURATION.bounds)

    def ended(self, seconds: float, *, succeeded: bool) -> None:
        """Count a program that has run."""
        self._ends["succeeded" if succeeded else "failed"] += 1
        self._durations.observe(seconds)

    def samples(self, directory: str) -> Samples:
        """Return all samples."""
        return {
            PROGRAMS_WAITING.name: {(directory,): self.waiting},
            PROGRAMS_RUNNING.name: {(directory,): self.running},
            PROGRAMS.name: {(directory, outcome): number for outcome, number in self._ends.items()},
            PROGRAM_DURATION.name: {(directory,): self._durations.sample()},
            PROGRAMS_GIVEN_UP.name: {(directory,): self.given_up},
        }


class ReactorLag:
    """
    Sets a timer repeatedly, and measures how late it fires.

    Whatever blocks the reactor's thread blocks all senders for as long.

    :param clock: the reactor.
    :param observe: called with each lag in seconds.
    :param interval: seconds between two measurements.
    """

    def __init__(
        self,
        clock: IReactorTime,
        observe: Callable[[float], object],
        interval: float = LAG_INTERVAL,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._since = 0.0
        self._worst = self._worst_before = 0.0

    @property
    def worst(self) -> float:
        """The highest lag of the last one to two minutes, in seconds."""
        return max(self._worst, self._worst_before)

    def start(self) -> None:
        """Start measuring."""
        self._since = self._clock.seconds()
        self._set()

    def stop(self) -> None:
        """Stop measuring; harmless if it was never started."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _set(self) -> None:
        self._due = self._clock.seconds() + self._interval
        self._timer = self._clock.callLater(self._interval, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)  # negative if the clock was set back
        self._observe(late)
        if now - self._since >= LAG_MEMORY:
            self._since, self._worst_before, self._worst = now, self._worst, 0.0
        self._worst = max(self._worst, late)
        self._set()
