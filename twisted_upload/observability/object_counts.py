"""
The counts of what one process does with an object store.

A daemon without one does not import this module.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

from twisted_upload.observability.counters import Histogram
from twisted_upload.observability.metrics import (
    FORWARD_FAILURES,
    FORWARD_OLDEST,
    FORWARD_REJECTED,
    FORWARD_WAITING,
    FORWARDED,
    STORE_REQUEST_DURATION,
    STORE_REQUESTS,
    STORE_RETRIES,
    Samples,
)

__all__ = ["ForwardCounts", "RequestCounts"]


class RequestCounts:
    """
    Counts the operations of one object store.  It can be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: Counter[tuple[str, str]] = Counter()
        self._durations: defaultdict[str, Histogram]
        self._durations = defaultdict(lambda: Histogram(STORE_REQUEST_DURATION.bounds))
        self._retries = 0

    def finished(self, operation: str, outcome: str, seconds: float) -> None:
        """
        Count an operation that has ended, with all of its attempts.

        :param operation: what was asked for: ``put``.
        :param outcome: ``ok``, or the kind of its failure.
        :param seconds: its duration.
        """
        with self._lock:
            self._ends[operation, outcome] += 1
            durations = self._durations[operation]
        durations.observe(seconds)

    def retried(self, operation: str) -> None:
        """Count an attempt that is made because the one before has failed."""
        with self._lock:
            self._retries += 1

    def samples(self, store: str) -> Samples:
        """Return all samples."""
        with self._lock:
            ends, retries, durations = dict(self._ends), self._retries, dict(self._durations)
        return {
            STORE_REQUESTS.name: {(store, *labels): number for labels, number in ends.items()},
            STORE_REQUEST_DURATION.name: {
                (store, operation): each.sample() for operation, each in durations.items()
            },
            STORE_RETRIES.name: {(store,): retries},
        }


class ForwardCounts:
    """
    The counts of the files that one store forwards.

    :ivar waiting: files that have not been forwarded yet, as of the last scan; includes
        all processes that share the directory.
    :ivar given_up: files that the object store rejects, or with unusable markers, likewise.
    :ivar running: files that this process is forwarding.
    :ivar oldest: arrival of the oldest file that waits, in seconds since the epoch; 0 if
        none waits.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.given_up = 0
        self.running = 0
        self.oldest = 0.0
        # Series that exist from the start, so that Prometheus sees their first increase.
        self._forwarded = 0
        self._failed = 0

    def ended(self, seconds: float, *, succeeded: bool) -> None:
        """Count an attempt to forward a file."""
        if succeeded:
            self._forwarded += 1
        else:
            self._failed += 1

    def samples(self, directory: str) -> Samples:
        """Return all samples."""
        return {
            FORWARD_WAITING.name: {(directory,): self.waiting},
            FORWARD_OLDEST.name: {(directory,): self.oldest},
            FORWARD_REJECTED.name: {(directory,): self.given_up},
            FORWARDED.name: {(directory,): self._forwarded},
            FORWARD_FAILURES.name: {(directory,): self._failed},
        }
