"""
A simulated process: what the kernel knows of it, and its death.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Callable
from typing import Any, Protocol

from tests.simulation.scheduler import Killed, Scheduler, Task

__all__ = ["EPOCH", "Descriptors", "IOpen", "Machine", "Process"]

EPOCH = 1_790_000_000.0
"""The time of day when a world begins, in seconds since the epoch."""


class IOpen(Protocol):
    """What a file descriptor refers to."""

    def release(self) -> None:
        """The last descriptor has been closed."""


class Descriptors:
    """
    The file descriptors of a process.

    :param limit: how many there can be.
    """

    __slots__ = ("_counts", "_free", "_next", "_things", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._things: dict[int, Any] = {}
        self._counts: dict[int, int] = {}  # by the id of a thing, which lives as long
        self._free: list[int] = []
        self._next = 3

    def __len__(self) -> int:
        return len(self._things)

    def things(self) -> dict[int, Any]:
        """Return what is open, by number."""
        return dict(self._things)

    def check_room(self, wanted: int = 1) -> None:
        """:raises OSError: with ``EMFILE`` if so many more cannot be opened."""
        if len(self._things) + wanted > self.limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def add(self, thing: IOpen) -> int:
        """
        Open something; return its number, the lowest that is free.

        :raises OSError: with ``EMFILE``.
        """
        self.check_room()
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number, self._next = self._next, self._next + 1
        self._things[number] = thing
        counts = self._counts
        counts[id(thing)] = counts.get(id(thing), 0) + 1
        return number

    def get(self, number: int) -> Any:
        """
        Return what a number refers to.

        :raises OSError: with ``EBADF``.
        """
        try:
            return self._things[number]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def duplicate(self, number: int) -> int:
        """Return another number for the same."""
        return self.add(self.get(number))

    def duplicate_to(self, number: int, other: int) -> None:
        """Let another number, which is open, refer to the same."""
        thing = self.get(number)
        before = self.get(other)
        self._things[other] = thing
        self._counts[id(thing)] += 1
        self._one_less(before)

    def close(self, number: int) -> None:
        """
        Close a number.

        :raises OSError: with ``EBADF``.
        """
        thing = self.get(number)
        del self._things[number]
        heapq.heappush(self._free, number)
        self._one_less(thing)

    def close_all(self) -> None:
        """Do what the kernel does when a process ends."""
        things, self._things = self._things, {}
        for thing in things.values():
            self._one_less(thing)

    def _one_less(self, thing: Any) -> None:
        left = self._counts[id(thing)] - 1
        if left:
            self._counts[id(thing)] = left
        else:
            del self._counts[id(thing)]
            thing.release()


class Process:
    """
    A process.

    :param name: for the trace.
    :param machine: its machine: processes of one share its time of day.
    :param limit: how many file descriptors it can have.
    :param preemption: how likely it is that another task runs before a system call.
    :ivar alive: whether it has not ended.
    :ivar calls: how many system calls it has made.
    :ivar kill_at: the number of the call at which it is killed.
    :ivar kill_before: the name of a call before which it is killed, and how many of them
        it still survives.
    :ivar do_before: the name of a call before which something is done, how many of them
        come before that, and what it is.
    :ivar tasks: its threads.
    """

    __slots__ = (
        "_buried",
        "alive",
        "calls",
        "choices",
        "descriptors",
        "do_before",
        "kill_at",
        "kill_before",
        "machine",
        "name",
        "on_death",
        "preemption",
        "scheduler",
        "tasks",
        "user",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        name: str,
        machine: Machine,
        *,
        limit: int = 1024,
        preemption: float = 0.0,
        user: int = 1000,
    ) -> None:
        self.scheduler = scheduler
        self.name = name
        self.machine = machine
        self.descriptors = Descriptors(limit)
        self.preemption = preemption
        self.user = user
        self.choices = scheduler.choices.fork(name)
        self.alive = True
        self.calls = 0
        self.kill_at = float("inf")
        self.kill_before: dict[str, int] = {}
        self.do_before: dict[str, tuple[int, Callable[[], object]]] = {}
        self.tasks: dict[Task, None] = {}
        self.on_death: list[Any] = []
        self._buried = False

    def step(self, call: str, *about: object) -> None:
        """
        Begin a system call.

        :raises Killed: the process is dead, or dies here.
        """
        if not self.alive:
            raise Killed
        self.calls += 1
        scheduler = self.scheduler
        if scheduler.trace.recording:
            task = scheduler.current
            who = self.name if task is None else f"{self.name}/{task.name}"
            scheduler.trace.add(scheduler.now, who, call, *about)
        if self.calls >= self.kill_at or (self.kill_before and self._dies_before(call)):
            self.kill()
            raise Killed
        if self.do_before:
            self._do_before(call)
        if (
            self.preemption
            and scheduler.current is not None
            and scheduler.current.owner is self
            and self.choices.random() < self.preemption
        ):
            scheduler.pause()

    def _dies_before(self, call: str) -> bool:
        left = self.kill_before.get(call)
        if left is None:
            return False
        self.kill_before[call] = left - 1
        return left <= 0

    def _do_before(self, call: str) -> None:
        left, what = self.do_before.pop(call, (0, None))
        if what is None:
            return
        if left:
            self.do_before[call] = left - 1, what
        else:
            what()

    def kill(self) -> None:
        """Kill it (SIGKILL): the kernel closes what it has open."""
        if not self.alive:
            return
        self.alive = False
        scheduler = self.scheduler
        scheduler.trace.add(scheduler.now, self.name, "dies")
        self.descriptors.close_all()
        dying, self.on_death = self.on_death, []  # it may outlive its world, as garbage
        for function in dying:
            function()
        scheduler.call_soon(self._bury)

    def _bury(self) -> None:
        for task in [*self.tasks]:
            task.end()

    def now(self) -> float:
        """Return the time of day of its machine."""
        return self.scheduler.now + EPOCH + self.machine.clock_offset


class Machine:
    """
    A machine.

    :ivar name: for the trace.
    :ivar clock_offset: how many seconds its time of day is wrong.
    """

    __slots__ = ("clock_offset", "name")

    def __init__(self, name: str, clock_offset: float = 0.0) -> None:
        self.name = name
        self.clock_offset = clock_offset
