"""
Virtual time, and the threads of the simulated processes.

Nothing here waits: time jumps to the next event.  Threads are greenlets, of which one runs
until it asks to wait; which one runs next is decided by the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Self, cast

from greenlet import getcurrent, greenlet

from tests.simulation.choices import Choices
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.process import Process

__all__ = ["Call", "Deadlock", "Event", "Killed", "Mutex", "Scheduler", "Task"]


class Killed(BaseException):
    """The process is dead: nothing that it still does has an effect."""


class Deadlock(Exception):
    """Something cannot go on: a task waits where only the scheduler runs, or for ever."""


class Call(list[Any]):
    """
    A call at a time to come: that time, a random number, its number, function, arguments.

    It is itself what the scheduler keeps in its heap: there are very many.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Do not call; harmless afterwards."""
        self[3] = None
        self[4] = ()

    @property
    def time(self) -> float:
        """When it is to be called."""
        return cast("float", self[0])

    @property
    def active(self) -> bool:
        """Whether it is still to be called."""
        return self[3] is not None


class Task:
    """
    A thread of a simulated process.

    :ivar owner: its process.
    :ivar name: for the trace.
    :ivar done: whether it has ended.
    """

    __slots__ = ("_function", "_greenlet", "_scheduler", "_wake", "done", "name", "owner")

    def __init__(
        self, scheduler: Scheduler, function: Callable[[], object], owner: Process, name: str
    ) -> None:
        self._scheduler = scheduler
        self._function = function
        self.owner = owner
        self.name = name
        self.done = False
        self._greenlet = greenlet(self._run)
        self._wake: Call | None = scheduler.call_soon(self._resume)

    def _run(self) -> None:
        try:
            if self.owner.alive:
                self._function()
        except Killed:
            pass
        finally:
            self._over()

    def _over(self) -> None:
        self.done = True
        self.owner.tasks.pop(self, None)
        self._scheduler.tasks.pop(self, None)

    def _resume(self) -> None:
        """Run on; called by the scheduler."""
        self._wake = None
        scheduler = self._scheduler
        before, scheduler.current = scheduler.current, self
        self._greenlet.parent = getcurrent()
        try:
            self._greenlet.switch()
        finally:
            scheduler.current = before

    def wake(self, seconds: float = 0.0) -> None:
        """Let it run on, now or later; harmless if that has been said before."""
        if self._wake is None and not self.done:
            self._wake = self._scheduler.call_later(seconds, self._resume)

    def sleep(self) -> None:
        """Stop here until it is woken; called in the task itself."""
        scheduler_itself = self._greenlet.parent
        assert scheduler_itself is not None
        scheduler_itself.switch()
        if not self.owner.alive:
            raise Killed

    def end(self) -> None:
        """Unwind it: its process is dead."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if not self._greenlet:  # it has not begun, or has ended
            self._over()
            return
        scheduler = self._scheduler
        before, scheduler.current = scheduler.current, self
        self._greenlet.parent = getcurrent()
        try:
            self._greenlet.throw(Killed)
        finally:
            scheduler.current = before


class Scheduler:
    """
    Calls functions in virtual time.

    :ivar now: seconds since the beginning of the world.
    :ivar current: the task that runs.
    :ivar choices: decide the order of what happens at the same moment.
    :ivar tasks: those that have not ended.
    """

    __slots__ = ("_heap", "_number", "_random", "choices", "current", "now", "tasks", "trace")

    def __init__(self, choices: Choices, trace: Trace | None = None) -> None:
        self.choices = choices
        self.trace = trace or Trace()
        self.now = 0.0
        self.current: Task | None = None
        self.tasks: dict[Task, None] = {}
        self._heap: list[Call] = []
        self._random = choices.random
        self._number = 0

    def call_at(self, when: float, function: Callable[..., object], *arguments: Any) -> Call:
        """Call a function at a time, in an order of those at the same time that is chosen."""
        number = self._number = self._number + 1
        call = Call((max(when, self.now), self._random(), number, function, arguments))
        heappush(self._heap, call)
        return call

    def call_later(self, seconds: float, function: Callable[..., object], *arguments: Any) -> Call:
        """Call a function in some seconds."""
        number = self._number = self._number + 1
        call = Call((self.now + seconds, self._random(), number, function, arguments))
        heappush(self._heap, call)
        return call

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> Call:
        """Call a function at this moment, after the one that runs."""
        return self.call_later(0.0, function, *arguments)

    def spawn(self, function: Callable[[], object], owner: Process, name: str) -> Task:
        """Start a task; it begins when the scheduler comes to it."""
        task = Task(self, function, owner, name)
        owner.tasks[task] = self.tasks[task] = None
        return task

    def pause(self, seconds: float = 0.0) -> None:
        """Let others run; called in a task."""
        task = self.running()
        task.wake(seconds)
        task.sleep()

    def wait(self, event: Event, timeout: float | None = None) -> bool:
        """Wait for an event; called in a task.  Return whether it has happened."""
        return event.wait(timeout)

    def running(self) -> Task:
        """Return the task that runs, which is going to wait."""
        if self.current is None:
            raise Deadlock("something waits that is not a task")
        return self.current

    def run(self, until: float = float("inf"), condition: Callable[[], bool] | None = None) -> bool:
        """
        Run until nothing is left to do, until a time, or until a condition holds.

        :return: whether the condition holds; without one, whether something is left to do.
        """
        heap = self._heap
        while heap:
            if condition is not None and condition():
                return True
            when = heap[0][0]
            if when > until:
                self.now = until
                break
            call = heappop(heap)
            function = call[3]
            if function is not None:
                self.now = when
                arguments = call[4]
                call[3] = None  # it is not active any more
                function(*arguments)
        if condition is not None:
            return condition()
        return bool(heap)

    def end(self) -> None:
        """End the world: all processes are killed, and what is to come is forgotten."""
        for task in [*self.tasks]:
            task.owner.kill()
        for task in [*self.tasks]:
            task.end()
        self._heap.clear()


class Event:
    """An event, as `threading.Event` is one, for tasks."""

    __slots__ = ("_scheduler", "_set", "_waiting")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False
        self._waiting: list[Task] = []

    def set(self) -> None:
        """Wake those that wait."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.wake()

    def clear(self) -> None:
        """Forget that it has happened."""
        self._set = False

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; return whether it has happened."""
        if self._set or (timeout is not None and timeout <= 0):
            return self._set
        task = self._scheduler.running()
        self._waiting.append(task)
        timer = None
        if timeout is not None:
            timer = self._scheduler.call_later(timeout, self._time_is_over, task)
        try:
            task.sleep()
        finally:
            if timer is not None:
                timer.cancel()
        return self._set

    def _time_is_over(self, task: Task) -> None:
        if task in self._waiting:
            self._waiting.remove(task)
            task.wake()


class Mutex:
    """A lock between the threads of a process."""

    __slots__ = ("_free", "_holder", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._holder: object = None
        self._free: Event | None = None

    def __enter__(self) -> Self:
        while self._holder is not None:
            if self._holder is self._scheduler.current:
                raise Deadlock("a task takes a lock that it has")
            if self._free is None:
                self._free = Event(self._scheduler)
            self._free.wait()
        self._holder = self._scheduler.current or self
        return self

    def __exit__(self, *exception: object) -> None:
        self._holder = None
        free, self._free = self._free, None
        if free is not None:
            free.set()
