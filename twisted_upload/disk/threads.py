"""
The disk threads: a small pool of our own, one for each store.

Any call that can wait for a disk is made here, so that a disk that has stopped
holds up the uploads on its own store and nothing else.  Threads of a file
system with a journal also share its flushes when they ask at the same time
(group commit), which is why there are more of them than there are cores.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
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

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """
        The same for a job that takes long and much of the processor: it gives
        way to the others.
        """

    def yield_reactor(self, seconds: float) -> bool:
        """
        Hold the reactor's thread still until some job has been done, and deliver its
        result; until a job says `resume_reactor`; or until so many seconds have passed.

        :return: whether it was one of the first two.
        """

    def resume_reactor(self) -> None:
        """For a job, in its thread: nobody needs to step aside for it any more."""


NICENESS = 10
"""How far threads with long jobs give way: those that keep small uploads, and the
reactor, would else wait for them for some milliseconds each time."""


class _Line:
    """
    Jobs that are done in the order they came, and the threads that do them.

    :ivar niceness: by which its threads give way; 0 once that was not allowed.
    :ivar unfinished: jobs whose results have not been delivered.
    """

    def __init__(self, name: str, niceness: int) -> None:
        self.name = name
        self.niceness = niceness
        self.jobs: queue.SimpleQueue[tuple[Deferred[Any], Callable[[], Any]] | None]
        self.jobs = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.unfinished = 0


class DiskThreads:
    """
    A bounded set of threads that do blocking jobs in the order they came.

    Threads are started as they are needed and are daemon threads: one that a
    dead disk never lets go does not keep the process from ending.

    :param reactor: in whose thread results are delivered.
    :param size: threads at the most, and as many for `run_in_background`.
    :param name: of the threads, for people who look at the process.
    """

    def __init__(self, reactor: IReactorFromThreads, size: int = 32, name: str = "disk") -> None:
        self._reactor = reactor
        self._size = size
        self._line = _Line(name, 0)
        self._aside = _Line(f"{name}-aside", NICENESS)
        self._stopped = False
        self._ended = False
        self._idle: list[Deferred[None]] = []
        # Results travel in batches: one wake-up of the reactor for all that
        # have finished before it looks, and none while it steps aside.
        self._results: queue.SimpleQueue[tuple[_Line, Deferred[Any], Any] | None]
        self._results = queue.SimpleQueue()
        self._asleep = True  # it neither looks into the queue nor is about to
        self._lock = threading.Lock()

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """
        See `IDisk.run`.  To be called in the reactor's thread.

        Never raises.  It fails with `PoolStopped`, or with `OSError` (``EAGAIN``)
        where the system has no thread for it.
        """
        return self._run(self._line, job)

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """See `IDisk.run_in_background`, and `run`."""
        return self._run(self._aside, job)

    def _run(self, line: _Line, job: Callable[[], T]) -> Deferred[T]:
        if self._ended:
            return fail(PoolStopped("the disk threads have stopped"))
        if line.unfinished >= len(line.threads) and len(line.threads) < self._size:
            try:
                self._start_thread(line)
            except RuntimeError as error:  # then those that there are do it, in time
                if not line.threads:
                    return fail(OSError(errno.EAGAIN, str(error)))
        done: Deferred[T] = Deferred()
        line.unfinished += 1
        line.jobs.put((done, job))
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
        for line in self._line, self._aside:
            for _ in line.threads:
                line.jobs.put(None)

    @property
    def _threads(self) -> list[threading.Thread]:
        return self._line.threads + self._aside.threads

    @property
    def _unfinished(self) -> int:
        return self._line.unfinished + self._aside.unfinished

    def _start_thread(self, line: _Line) -> None:
        name = f"{line.name}-{len(line.threads)}"
        thread = threading.Thread(target=self._work, args=(line,), name=name, daemon=True)
        thread.start()
        line.threads.append(thread)

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
            # After the result is there: see `yield_reactor`.  That two threads wake the
            # reactor at once does no harm.
            if self._asleep:
                self._asleep = False
                self._reactor.callFromThread(self._deliver)
            del item, done, job, result

    def _give_way(self, line: _Line) -> None:
        here = threading.get_native_id()  # in Linux, each thread has a priority of its own
        try:
            ours = os.getpriority(os.PRIO_PROCESS, here)  # the daemon may be nice as a whole
            os.setpriority(os.PRIO_PROCESS, here, ours + line.niceness)
        except OSError as error:  # a sandbox forbids it
            with self._lock:
                told, line.niceness = not line.niceness, 0
            if not told:
                self._reactor.callFromThread(_cannot_give_way, error)

    def yield_reactor(self, seconds: float) -> bool:
        """See `IDisk.yield_reactor`.  In the reactor's thread."""
        if self._stopped:  # who waits for a result may have more jobs, which must come first
            return False
        woken, self._asleep = not self._asleep, False
        try:
            item = self._results.get(timeout=seconds)
        except queue.Empty:
            if not woken:
                # A result that came since then has woken nobody.
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
        for _ in range(self._results.qsize()):  # those that come later wake us again
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
        except Exception:  # one that cannot be told is not to keep it from the others
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
