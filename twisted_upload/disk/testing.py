"""
Test doubles for the disk.

- `FaultyFiles`: the real file system, any call of which can be made to fail.
- `ManualDisk`: disk threads that run a job when the test says so.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_upload.disk.aio import sync_one_by_one
from twisted_upload.disk.file_calls import FileCalls
from twisted_upload.disk.files import Files

__all__ = ["FaultyFiles", "ManualDisk"]

T = TypeVar("T")


class ManualDisk:
    """Disk threads without threads: see `twisted_upload.disk.threads.IDisk`."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Deferred[Any], Callable[[], Any]]] = deque()
        self._stopping: Deferred[None] | None = None

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Queue a job."""
        done: Deferred[T] = Deferred()
        self._jobs.append((done, job))
        return done

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """Queue a job; there is only one queue."""
        return self.run(job)

    def yield_reactor(self, seconds: float) -> bool:
        """Return at once: no job is done meanwhile."""
        return False

    def resume_reactor(self) -> None:
        """Do nothing: the reactor has not yielded."""

    @property
    def waiting(self) -> int:
        """Number of queued jobs."""
        return len(self._jobs)

    def work(self, jobs: int | None = None) -> None:
        """Run the given number of queued jobs, or all of them and those that follow from them."""
        while self._jobs and (jobs is None or jobs > 0):
            done, job = self._jobs.popleft()
            try:
                result: Any = job()
            except Exception:
                result = Failure()
            done.callback(result)
            jobs = None if jobs is None else jobs - 1
        if self._stopping is not None and not self._jobs:
            stopping, self._stopping = self._stopping, None
            stopping.callback(None)

    def stop(self) -> Deferred[None]:
        """See `twisted_upload.disk.threads.DiskThreads.stop`; queued jobs are still to be run."""
        stopping: Deferred[None] = Deferred()
        self._stopping = stopping
        self.work(0)
        return stopping


class FaultyFiles(Files):
    """
    The real system calls, except those that have been made to fail.

    :ivar calls: how often each has been called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self._faults: dict[str, deque[int | None]] = {}
        self._stalled: dict[str, threading.Event] = {}

    def fail(self, call: str, error: int, *, times: int = 1, after: int = 0) -> None:
        """
        Make the next calls of a method fail.

        :param call: the name of a method of `Files`.
        :param error: the `errno`.
        :param times: number of calls that fail.
        :param after: number of calls that succeed before that.
        """
        self._faults[call] = deque([None] * after + [error] * times)

    def heal(self) -> None:
        """Let all calls work from now on, and stalled calls continue."""
        self._faults.clear()
        for stalled in self._stalled.values():
            stalled.set()
        self._stalled.clear()

    def stall(self, call: str) -> None:
        """Make every call of a method wait until `heal` is called."""
        self._stalled[call] = threading.Event()

    def shorten(self, call: str = "write", *, times: int = 1, then: int | None = None) -> None:
        """
        Make the next calls of ``write`` or ``writev`` write only one byte.

        :param then: the `errno` with which the call after them fails.
        """
        self._faults[call] = deque([0] * times + ([] if then is None else [then]))

    def syncs_in_parallel(self, descriptor: int) -> bool:
        """Return true, so that batches are formed."""
        return True

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """Sync one after the other; each is an ``fsync`` that can be made to fail on its own."""
        return sync_one_by_one(self.fsync, descriptors)

    def _before(self, call: str) -> int | None:
        self.calls[call] += 1
        stalled = self._stalled.get(call)
        if stalled is not None:
            stalled.wait()
        faults = self._faults.get(call)
        return faults.popleft() if faults else None


def _faulty(call: str) -> Callable[..., Any]:
    real = getattr(Files, call)

    def wrapper(self: FaultyFiles, *arguments: Any, **more: Any) -> Any:
        error = self._before(call)
        if error is None:
            return real(self, *arguments, **more)
        if error == 0:  # a short write
            descriptor, data = arguments
            return Files.write(self, descriptor, (data if call == "write" else data[0])[:1])
        if call == "close":  # Linux closes the file nevertheless
            real(self, *arguments)
        raise OSError(error, os.strerror(error))

    wrapper.__doc__ = real.__doc__
    return wrapper


_NO_FILES = {"release", "user", "now", "monotonic", "pause", "random", "mutex", "event"}
for _call in {**vars(FileCalls), **vars(Files)}:
    if not _call.startswith("_") and _call not in vars(FaultyFiles) and _call not in _NO_FILES:
        setattr(FaultyFiles, _call, _faulty(_call))
