"""
Virtual time, tasks, and the death of processes.
"""

from __future__ import annotations

import errno
import itertools

import pytest

from tests.simulation.choices import Choices
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Deadlock, Event, Killed, Mutex, Scheduler


class Thing:
    """Something that is open."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


def make_process(scheduler: Scheduler, *, limit: int = 10, preemption: float = 0.0) -> Process:
    return Process(scheduler, "one", Machine("here"), limit=limit, preemption=preemption)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(Choices(1))


def test_time_jumps(scheduler: Scheduler) -> None:
    """Calls are made in order of time, which jumps from one to the next."""
    seen = []
    scheduler.call_later(5, lambda: seen.append(scheduler.now))
    scheduler.call_later(2, lambda: seen.append(scheduler.now))
    scheduler.call_later(3, lambda: seen.append(0)).cancel()
    assert not scheduler.run()
    assert seen == [2, 5]


def test_run_until(scheduler: Scheduler) -> None:
    """A run ends at a time, or as soon as a condition holds."""
    seen: list[int] = []
    for second in range(10):
        scheduler.call_later(second, seen.append, second)
    assert scheduler.run(until=2.5)
    assert seen == [0, 1, 2]
    assert scheduler.now == 2.5
    assert scheduler.run(condition=lambda: 5 in seen)
    assert seen[-1] == 5


def test_order_is_chosen() -> None:
    """The order of calls at the same moment depends on the seed, and on nothing else."""

    def order(seed: int) -> str:
        scheduler = Scheduler(Choices(seed))
        seen: list[str] = []
        for letter in "abcdefgh":
            scheduler.call_soon(seen.append, letter)
        scheduler.run()
        return "".join(seen)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(20)}) > 10


def test_tasks(scheduler: Scheduler) -> None:
    """A task runs until it waits."""
    process = make_process(scheduler)
    seen: list[str] = []
    event = Event(scheduler)

    def waits() -> None:
        seen.append("waits")
        seen.append(str(event.wait()))
        scheduler.pause(10)
        seen.append(f"{scheduler.now:g}")

    def sets() -> None:
        scheduler.pause(1)
        seen.append("sets")
        event.set()

    scheduler.spawn(waits, process, "a")
    scheduler.spawn(sets, process, "b")
    scheduler.run()
    assert seen == ["waits", "sets", "True", "11"]
    assert not process.tasks


def test_event_timeout(scheduler: Scheduler) -> None:
    """Waiting for an event can end without it."""
    seen = []
    event = Event(scheduler)
    scheduler.spawn(
        lambda: seen.append((event.wait(3), scheduler.now)), make_process(scheduler), "a"
    )
    scheduler.run()
    assert seen == [(False, 3)]


def test_mutex(scheduler: Scheduler) -> None:
    """One task at a time has a lock; one that takes it twice would wait for ever."""
    process, mutex = make_process(scheduler), Mutex(scheduler)
    seen: list[str] = []

    def work() -> None:
        with mutex:
            seen.append("in")
            scheduler.pause(1)
            seen.append("out")

    for name in "abc":
        scheduler.spawn(work, process, name)
    scheduler.run()
    assert seen == ["in", "out"] * 3

    def twice() -> None:
        with mutex, mutex:
            pass

    scheduler.spawn(twice, process, "d")
    with pytest.raises(Deadlock):
        scheduler.run()


def test_only_tasks_wait(scheduler: Scheduler) -> None:
    """What the scheduler calls must not wait."""
    with pytest.raises(Deadlock):
        Event(scheduler).wait()


def test_error_in_a_task(scheduler: Scheduler) -> None:
    """An error in a task ends the run."""
    scheduler.spawn(lambda: 1 // 0, make_process(scheduler), "a")
    with pytest.raises(ZeroDivisionError):
        scheduler.run()


def test_kill(scheduler: Scheduler) -> None:
    """A killed process has nothing open, and its tasks end without doing anything more."""
    process = make_process(scheduler)
    seen: list[str] = []
    thing, shared = Thing(), Thing()
    process.descriptors.add(thing)
    process.descriptors.add(shared)
    process.descriptors.duplicate(4)

    def waits() -> None:
        try:
            Event(scheduler).wait()
        finally:
            with pytest.raises(Killed):
                process.step("write")
            seen.append("unwound")

    scheduler.spawn(waits, process, "a")
    scheduler.call_later(1, process.kill)
    scheduler.run()
    assert seen == ["unwound"]
    assert (thing.released, shared.released) == (1, 1)
    assert not process.tasks


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_kill_at_a_call(scheduler: Scheduler, after: int) -> None:
    """A process can be killed at its n-th call, or before the n-th call of a kind."""
    by_number, by_name = make_process(scheduler), make_process(scheduler)
    by_number.kill_at = after + 1
    by_name.kill_before["write"] = after
    done = {by_number: 0, by_name: 0}

    def work(process: Process) -> None:
        for _ in range(10):
            process.step("write")
            done[process] += 1

    scheduler.spawn(lambda: work(by_number), by_number, "a")
    scheduler.spawn(lambda: work(by_name), by_name, "a")
    scheduler.run()
    assert done == {by_number: after, by_name: after}


def test_preemption(scheduler: Scheduler) -> None:
    """Another task may run before any system call."""
    process = make_process(scheduler, preemption=0.5)
    seen: list[str] = []

    def work(name: str) -> None:
        for _ in range(20):
            process.step("write")
            seen.append(name)

    scheduler.spawn(lambda: work("a"), process, "a")
    scheduler.spawn(lambda: work("b"), process, "b")
    scheduler.run()
    changes = sum(one != other for one, other in itertools.pairwise(seen))
    assert 2 < changes < 38


def test_descriptors(scheduler: Scheduler) -> None:
    """The lowest free number is next; duplicates keep a thing open; there is a limit."""
    descriptors = make_process(scheduler, limit=4).descriptors
    thing, other = Thing(), Thing()
    assert [descriptors.add(thing), descriptors.add(other), descriptors.duplicate(3)] == [3, 4, 5]
    descriptors.close(3)
    assert descriptors.add(other) == 3
    descriptors.duplicate_to(4, 5)
    assert [thing.released, other.released] == [1, 0]
    assert descriptors.add(Thing()) == 6
    with pytest.raises(OSError, match=r".") as raised:
        descriptors.add(thing)
    assert raised.value.errno == errno.EMFILE
    with pytest.raises(OSError, match=r".") as raised:
        descriptors.close(99)
    assert raised.value.errno == errno.EBADF
