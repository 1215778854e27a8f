"""
The disk threads: a small pool of threads for each store.

Any call that can wait for a disk is made here, so that a stalled disk delays the uploads
to its own store and nothing else.  On a journaling file system, threads that sync at the
same time also share its flushes (group commit); therefore there are more threads than
cores.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["DiskThreads", "IDisk", "IQueue", "PoolStopped", "ThreadCalls"]

T = TypeVar("T")


class IQueue(Protocol[T]):
    """A queue between threads: `queue.SimpleQueue`."""

    def put(self, item: T) -> None:
        """Add an item."""

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """
        Wait for the next item, and remove it.

        :raises queue.Empty: there was none in time.
        """

    def get_nowait(self) -> T:
        """
        Remove the next item.

        :raises queue.Empty: there is none.
        """

    def qsize(self) -> int:
        """Return how many items there are."""


class ThreadCalls:
    """What `DiskThreads` asks of the system."""

    def queue(self) -> IQueue[Any]:
        """Make a queue."""
        return queue.SimpleQueue()

    def start(self, function: Callable[[], object], name: str) -> None:
        """
        Start a thread that does not keep the process from ending.

        :param name: shown by tools such as ``top``.
        :raises RuntimeError: the system has none left.
        """
        threading.Thread(target=function, name=name, daemon=True).start()

    def give_way(self, niceness: int) -> None:
        """
        Lower the priority of the calling thread.

        :raises OSError: it is not permitted.
        """
        here = threading.get_native_id()  # in Linux, each thread has its own priority
        ours = os.getpriority(os.PRIO_PROCESS, here)  # the daemon may be nice as a whole
        os.setpriority(os.PRIO_PROCESS, here, ours + niceness)


class PoolStopped(Exception):
    """The disk threads have been stopped and accept no more jobs."""


class IDisk(Protocol):
    """Runs the blocking jobs of a store."""

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """
        Run a job that may wait for a disk, soon.

        :return: fires in the reactor's thread with what the job has returned or
            raised.
        """

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """
        Run a job that takes long and uses much CPU time: like `run`, but at a lower
        priority.
        """

    def yield_reactor(self, seconds: float) -> bool:
        """
        Block the reactor's thread until a job is done, and deliver its result; until a
        job calls `resume_reactor`; or until the time has passed.

        :param seconds: maximum time to block.
        :return: whether a job was done or called `resume_reactor`.
        """

    def resume_reactor(self) -> None:
        """Unblock the reactor's thread; called by a job, in its own thread."""


NICENESS = 10
"""Niceness of the threads with long jobs.  Otherwise the threads that store small
uploads, and the reactor, would wait some milliseconds for them each time."""


class _Line:
    """
    Jobs that are run in order of arrival, and the threads that run them.

    :ivar niceness: added to the niceness of its threads; 0 once that was not permitted.
    :ivar threads: number of its threads.
    :ivar unfinished: number of jobs whose results have not been delivered.
    """

    def __init__(self, name: str, niceness: int, calls: ThreadCalls) -> None:
        self.name = name
        self.niceness = niceness
        self.jobs: IQueue[tuple[Deferred[Any], Callable[[], Any]] | None] = calls.queue()
        self.threads = 0
        self.unfinished = 0


class DiskThreads:
    """
    A bounded set of threads that run blocking jobs in order of arrival.

    Threads are started when they are needed.  They are daemon threads: one that a dead
    disk blocks forever does not keep the process from ending.

    :param reactor: results are delivered in its thread.
    :param size: maximum number of threads, and again as many for `run_in_background`.
    :param name: name of the threads, shown by tools such as ``top``.
    :param calls: what it asks of the system.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        size: int = 32,
        name: str = "disk",
        calls: ThreadCalls | None = None,
    ) -> None:
        self._calls = calls = calls or ThreadCalls()
        self._reactor = reactor
        self._size = size
        self._line = _Line(name, 0, calls)
        self._aside = _Line(f"{name}-aside", NICENESS, calls)
        self._stopped = False
        self._ended = False
        self._idle: list[Deferred[None]] = []
        # Results are delivered in batches: one wake-up of the reactor for all that are
        # there when it looks, and none while it yields.
        self._results: IQueue[tuple[_Line, Deferred[Any], Any] | None] = calls.queue()
        self._asleep = True  # the reactor neither reads the queue nor is about to
        self._lock = threading.Lock()

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """
        See `IDisk.run`.  Call it in the reactor's thread.

        It never raises.  The Deferred fails with `PoolStopped`, or with `OSError`
        (``EAGAIN``) if the system cannot start a thread.
        """
        return self._run(self._line, job)

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """See `IDisk.run_in_background`, and `run`."""
        return self._run(self._aside, job)

    def _run(self, line: _Line, job: Callable[[], T]) -> Deferred[T]:
        if self._ended:
            return fail(PoolStopped("the disk threads have stopped"))
        if line.unfinished >= line.threads and line.threads < self._size:
            try:
                self._start_thread(line)
            except RuntimeError as error:  # the existing threads will run it, if any
                if not line.threads:
                    return fail(OSError(errno.EAGAIN, str(error)))
        done: Deferred[T] = Deferred()
        line.unfinished += 1
        line.jobs.put((done, job))
        return done

    def stop(self) -> Deferred[None]:
        """
        Stop, but still accept jobs that follow from unfinished ones: a file that was
        abandoned while it was being written is still removed.

        :return: fires when all jobs are done.  Cancel it to stop waiting.
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
        for line in self._line, self._aside:
            for _ in range(line.threads):
                line.jobs.put(None)

    @property
    def _unfinished(self) -> int:
        return self._line.unfinished + self._aside.unfinished

    def _start_thread(self, line: _Line) -> None:
        self._calls.start(partial(self._work, line), f"{line.name}-{line.threads}")
        line.threads += 1

    def _work(self, line: _Line) -> None:
        if line.niceness:
            self._give_way(line)
        while (item := line.jobs.get()) is not None:
            done, job = item
            try:
                result: Any = job()
            except BaseException:
                result = Failure()
            self._results.put((line, done, result))
            # Only after the result is in the queue: see `yield_reactor`.  It is harmless
            # if two threads wake the reactor at once.
            if self._asleep:
                self._asleep = False
                self._reactor.callFromThread(self._deliver)
            del item, done, job, result

    def _give_way(self, line: _Line) -> None:
        try:
            self._calls.give_way(line.niceness)
        except OSError as error:  # a sandbox may forbid it
            with self._lock:
                told, line.niceness = not line.niceness, 0
            if not told:
                self._reactor.callFromThread(_cannot_give_way, error)

    def yield_reactor(self, seconds: float) -> bool:
        """See `IDisk.yield_reactor`.  Call it in the reactor's thread."""
        if self._stopped:  # a caller that waits for a result may add jobs, which must be first
            return False
        woken, self._asleep = not self._asleep, False
        try:
            item = self._results.get(timeout=seconds)
        except queue.Empty:
            if not woken:
                # A result that came since then has not woken the reactor.
                self._deliver()
            return False
        if item is not None:
            self._deliver_one(*item)
        if not woken:
            self._deliver()
        return True

    def resume_reactor(self) -> None:
        """See `IDisk.resume_reactor`."""
        if not self._asleep:
            self._results.put(None)

    def _deliver(self) -> None:
        self._asleep = True
        for _ in range(self._results.qsize()):  # later ones wake the reactor again
            try:
                item = self._results.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                self._deliver_one(*item)
        self._look_for_the_end()

    def _deliver_one(self, line: _Line, done: Deferred[Any], result: Any) -> None:
        line.unfinished -= 1
        try:
            done.callback(result)
        except Exception:  # must not prevent the delivery of the other results
            _log.failure("internal error: the result of a disk thread cannot be delivered")

    def _look_for_the_end(self) -> None:
        if self._stopped and self._unfinished == 0:
            if not self._ended:
                self._end_threads()
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)


def _cannot_give_way(error: OSError) -> None:
    _log.warn("cannot lower the priority of threads with long jobs: {error}", error=error.strerror)


_log = Logger()
