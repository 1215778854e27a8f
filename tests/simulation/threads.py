"""
The threads of a simulated process, for the real `DiskThreads`.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.process import Process
from tests.simulation.scheduler import Task
from twisted_upload.disk.threads import ThreadCalls

__all__ = ["SimulatedQueue", "SimulatedThreads"]


class SimulatedQueue:
    """A queue between the threads of a process; see `twisted_upload.disk.threads.IQueue`."""

    __slots__ = ("_items", "_process", "_waiting")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._items: deque[Any] = deque()
        self._waiting: deque[Task] = deque()

    def put(self, item: Any) -> None:
        """Add an item; other threads may run before and after that."""
        process = self._process
        process.step("put")
        self._items.append(item)
        if self._waiting:
            self._waiting.popleft().wake()
        process.step("has put")

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for the next item."""
        process = self._process
        process.step("get")
        while not self._items:
            if not block or (timeout is not None and timeout <= 0):
                raise queue.Empty
            self._wait(timeout)
            if timeout is not None and not self._items:
                raise queue.Empty
        return self._items.popleft()

    def _wait(self, timeout: float | None) -> None:
        scheduler = self._process.scheduler
        task = scheduler.running()
        self._waiting.append(task)
        timer = None
        if timeout is not None:
            timer = scheduler.call_later(timeout, task.wake)
        try:
            task.sleep()
        finally:
            if timer is not None:
                timer.cancel()
            if task in self._waiting:
                self._waiting.remove(task)

    def get_nowait(self) -> Any:
        """Remove the next item."""
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def qsize(self) -> int:
        """Return how many items there are."""
        return len(self._items)


class SimulatedThreads(ThreadCalls):
    """
    What `DiskThreads` asks of the system.

    :param process: whose threads they are.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    def queue(self) -> SimulatedQueue:
        """Make a queue."""
        return SimulatedQueue(self._process)

    def start(self, function: Callable[[], object], name: str) -> None:
        """Start a thread."""
        self._process.step("clone", name)
        self._process.scheduler.spawn(function, self._process, name)

    def give_way(self, niceness: int) -> None:
        """Do nothing: which thread runs is left to chance."""
