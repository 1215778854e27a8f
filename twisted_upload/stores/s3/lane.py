"""
A share of the threads that wait for an object store.

Parts of large uploads may take all that the network or the object store can do, for long.
So that threads are left for small uploads, for the ends of large ones, and for the test that
tells whether the object store is there, they may use only some of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from twisted_upload.disk.threads import IDisk

__all__ = ["Lane"]

T = TypeVar("T")


class Lane:
    """
    Runs jobs in order of arrival, not too many at a time.

    :param threads: run the jobs.
    :param most: jobs that run at a time; the others wait here.
    """

    def __init__(self, threads: IDisk, most: int) -> None:
        self._threads = threads
        self._most = most
        self._running = 0
        self._waiting: deque[tuple[Deferred[Any], Callable[[], Any]]] = deque()
        self._starting = False

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """See `IDisk.run`."""
        done: Deferred[T] = Deferred()
        self._waiting.append((done, job))
        self._start()
        return done

    def _start(self) -> None:
        if self._starting:  # a job has ended at once: the loop below goes on
            return
        self._starting = True
        try:
            while self._waiting and self._running < self._most:
                done, job = self._waiting.popleft()
                self._running += 1
                self._threads.run(job).addBoth(self._ended, done)
        finally:
            self._starting = False

    def _ended(self, result: Any, done: Deferred[Any]) -> None:
        self._running -= 1
        # Before the result is delivered: threads that are stopping accept jobs only now.
        self._start()
        done.callback(result)
