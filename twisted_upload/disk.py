"""
The disk threads: a small pool of our own, one for each store.

Any call that can wait for a disk is made here, so that a disk that has stopped
holds up the uploads on its own store and nothing else.  Threads of a file
system with a journal also share its flushes when they ask at the same time
(group commit), which is why there are more of them than there are cores.
"""

from __future__ import annotations

import errno
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["DiskThreads", "IDisk", "PoolStopped"]

T = TypeVar("T")


class PoolStopped(Exception):
    """The disk threads have been stopped and take no more jobs."""


class IDisk(Protocol):
    """Where a store has its blocking jobs done."""

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """
        Do a job that may wait for a disk, some time soon.

        :return: fires in the reactor's thread with what the job returned or
            raised.
        """


class DiskThreads:
    """
    A bounded set of threads that do blocking jobs in the order they came.

    Threads are started as they are needed and are daemon threads: one that a
    dead disk never lets go does not keep the process from ending.

    :param reactor: in whose thread results are delivered.
    :param size: threads at the most.
    :param name: of the threads, for people who look at the process.
    """

    def __init__(self, reactor: IReactorFromThreads, size: int = 32, name: str = "disk") -> None:
        self._reactor = reactor
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Deferred[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._stopped = False
        self._ended = False
        self._idle: list[Deferred[None]] = []
        # Results travel in bunches: one wake-up of the reactor for all that
        # have finished before it looks.
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._lock = threading.Lock()
        self._waking = False

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """
        See `IDisk.run`.  To be called in the reactor's thread.

        Never raises.  It fails with `PoolStopped`, or with `OSError` (``EAGAIN``)
        where the system has no thread for it.
        """
        if self._ended:
            return fail(PoolStopped("the disk threads have stopped"))
        if self._unfinished >= len(self._threads) and len(self._threads) < self._size:
            try:
                self._start_thread()
            except RuntimeError as error:  # then those that there are do it, in time
                if not self._threads:
                    return fail(OSError(errno.EAGAIN, str(error)))
        done: Deferred[T] = Deferred()
        self._unfinished += 1
        self._jobs.put((done, job))
        return done

    def stop(self) -> Deferred[None]:
        """
        Take no more jobs, but those that follow from jobs in work: what was
        given up while it was being written is still removed.

        :return: fires when all are done.  Cancel it to stop waiting.
        """
        self._stopped = True
        if self._unfinished == 0 and not self._ended:
            self._end_threads()
        done: Deferred[None] = Deferred()
        if self._unfinished == 0:
            done.callback(None)
        else:
            self._idle.append(done)
        return done

    def _end_threads(self) -> None:
        self._ended = True
        for _ in self._threads:
            self._jobs.put(None)

    def _start_thread(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            done, job = item
            try:
                result: Any = job()
            except BaseException:
                result = Failure()
            with self._lock:
                self._results.append((done, result))
                wake, self._waking = not self._waking, True
            if wake:
                self._reactor.callFromThread(self._deliver)
            del item, done, job, result

    def _deliver(self) -> None:
        with self._lock:
            results, self._results = self._results, deque()
            self._waking = False
        for done, result in results:
            self._unfinished -= 1
            try:
                done.callback(result)
            except Exception:  # one that cannot be told is not to keep it from the others
                _log.failure("a result of a disk thread cannot be delivered")
        if self._stopped and self._unfinished == 0:
            if not self._ended:
                self._end_threads()
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)


_log = Logger()
