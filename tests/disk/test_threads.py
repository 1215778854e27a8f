"""
The disk threads.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests.support.waiting import PATIENCE, reactor, turns, until
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import NICENESS, DiskThreads, PoolStopped, ThreadCalls


class Started(ThreadCalls):
    """The real calls; remembers the threads."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def start(self, function: Callable[[], object], name: str) -> None:
        before = {*threading.enumerate()}
        super().start(function, name)
        self.threads += {*threading.enumerate()} - before


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
def disk(started: Started) -> Iterator[DiskThreads]:
    disk = DiskThreads(reactor, 3, "test-disk", started)
    yield disk
    stopped = disk.stop()
    assert stopped.called
    for thread in started.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


async def test_result(disk: DiskThreads) -> None:
    """The result of a job is delivered in the reactor's thread."""
    threads = []

    def job() -> int:
        threads.append(threading.current_thread())
        return 42

    def here(result: int) -> int:
        threads.append(threading.current_thread())
        return result

    assert await disk.run(job).addCallback(here) == 42
    there, back = threads
    assert there.name.startswith("test-disk")
    assert there.daemon
    assert back is threading.main_thread()


async def test_exception(disk: DiskThreads) -> None:
    """The exception of a job is delivered, and the thread continues."""
    with pytest.raises(ZeroDivisionError):
        await disk.run(lambda: 1 // 0)
    assert await disk.run(lambda: "still there") == "still there"


async def test_base_exception(disk: DiskThreads) -> None:
    """The same for an exception that is not an `Exception`."""

    def leave() -> None:
        raise SystemExit(3)

    ends: list[type[BaseException] | None] = []
    disk.run(leave).addErrback(lambda failure: ends.append(failure.check(SystemExit)))
    await until(lambda: ends)
    assert ends == [SystemExit]
    assert await disk.run(lambda: "still there") == "still there"


async def test_result_after_return(disk: DiskThreads) -> None:
    """No result is delivered before `run` has returned."""
    done = disk.run(lambda: None)
    assert not done.called
    await done


async def test_order(disk: DiskThreads) -> None:
    """With one thread, jobs run in the order in which they were submitted."""
    one = DiskThreads(reactor, 1)
    order: list[int] = []
    await gatherResults([one.run(partial(order.append, number)) for number in range(100)])
    assert order == [*range(100)]
    one.stop()


async def test_number_of_threads(disk: DiskThreads, started: Started) -> None:
    """As many jobs run at a time as there are threads, and no more."""
    barrier = threading.Barrier(3, timeout=PATIENCE)
    at_work, most = [0], [0]
    lock = threading.Lock()

    def job() -> None:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        barrier.wait()
        with lock:
            at_work[0] -= 1

    await gatherResults([disk.run(job) for _ in range(9)])
    assert most == [3]
    assert len(started.threads) == 3


async def test_threads_as_needed(disk: DiskThreads, started: Started) -> None:
    """Threads are started on demand: sequential jobs need only one."""
    assert started.threads == []
    for _ in range(5):
        await disk.run(lambda: None)
    assert len(started.threads) == 1


async def test_stuck_job_does_not_block_the_others(disk: DiskThreads) -> None:
    """A job that waits for a dead disk occupies only one thread."""
    resume_reactor = threading.Event()
    stuck = disk.run(lambda: resume_reactor.wait(PATIENCE))
    assert await gatherResults([disk.run(lambda: 1) for _ in range(20)]) == [1] * 20
    assert not stuck.called
    resume_reactor.set()
    assert await stuck is True


async def test_jobs_from_results(disk: DiskThreads) -> None:
    """The callback of a result may submit the next job."""

    def again(count: int) -> Deferred[int] | int:
        return disk.run(lambda: count - 1).addCallback(again) if count else 0

    assert await disk.run(lambda: 50).addCallback(again) == 0


async def test_yield_reactor(disk: DiskThreads) -> None:
    """yield_reactor delivers results at once, without waking the reactor."""
    done = disk.run(lambda: 42)
    assert disk.yield_reactor(PATIENCE)
    assert done.result == 42
    wakes: list[object] = []
    disk._reactor = SimpleNamespace(callFromThread=wakes.append)  # type: ignore[assignment]
    resume_reactor = threading.Event()
    late = disk.run(lambda: resume_reactor.wait(PATIENCE))
    soon = disk.run(lambda: 43)
    assert disk.yield_reactor(PATIENCE)
    assert (soon.called, late.called, wakes) == (True, False, [])
    disk._reactor = reactor
    resume_reactor.set()  # the reactor is not yielded: it is woken again
    assert await late


async def test_yield_times_out(disk: DiskThreads) -> None:
    """yield_reactor ends after its timeout, and the job's result is still delivered."""
    resume_reactor = threading.Event()
    done = disk.run(lambda: resume_reactor.wait(PATIENCE))
    assert not disk.yield_reactor(0.0)
    resume_reactor.set()
    assert await done


async def test_result_at_the_last_moment(
    disk: DiskThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that arrives just when yield_reactor times out is still delivered."""
    results = disk._results

    class Late:
        """Times out, and only then a job ends, which still takes the reactor for yielded."""

        def get(self, timeout: float) -> NoReturn:
            assert not disk._asleep
            ended.set()
            while not results.qsize():
                pass
            raise queue.Empty

        def __getattr__(self, name: str) -> Any:
            return getattr(results, name)

    ended = threading.Event()
    done = disk.run(lambda: ended.wait(PATIENCE))
    monkeypatch.setattr(disk, "_results", Late())
    assert not disk.yield_reactor(PATIENCE)
    assert done.called


async def test_resume_reactor(disk: DiskThreads) -> None:
    """A running job can end yield_reactor; without one, resume_reactor does nothing."""
    done = []
    resume_reactor = threading.Event()

    def job() -> bool:
        disk.resume_reactor()
        return resume_reactor.wait(PATIENCE)

    done.append(disk.run(job))
    assert disk.yield_reactor(PATIENCE)
    assert not done[0].called
    resume_reactor.set()
    await done[0]
    done.append(disk.run(job))
    await done[1]
    last = disk.run(lambda: 1)
    disk.yield_reactor(PATIENCE)
    assert await last == 1


async def test_yield_within_a_result(disk: DiskThreads) -> None:
    """A callback of a result may submit jobs and call yield_reactor itself."""
    order: list[int] = []

    def next_one(number: int) -> None:
        order.append(number)
        if number < 50:
            disk.run(lambda: number + 1).addCallback(next_one)
            disk.yield_reactor(PATIENCE)

    disk.run(lambda: 1).addCallback(next_one)
    disk.yield_reactor(PATIENCE)
    await until(lambda: len(order) == 50)
    assert order == [*range(1, 51)]


async def test_no_yield_at_the_end(disk: DiskThreads) -> None:
    """Jobs that follow from the last results still run: yield_reactor does not take those early."""
    resume_reactor = threading.Event()
    followed: list[int] = []

    def last(_: object) -> None:
        done = disk.run(lambda: 1)
        assert not disk.yield_reactor(PATIENCE)
        done.addCallback(lambda result: disk.run(lambda: followed.append(result)))

    disk.run(lambda: resume_reactor.wait(PATIENCE)).addCallback(last)
    stopped = disk.stop()
    resume_reactor.set()
    await stopped
    assert followed == [1]
    assert disk._ended


async def test_results_in_separate_turns(disk: DiskThreads) -> None:
    """Results that arrive while results are delivered wait for the next turn of the reactor."""
    turn = [0]
    turns_of_results: list[int] = []
    counted = False

    def count() -> None:
        nonlocal counted
        turn[0] += 1
        if len(turns_of_results) < 5:
            reactor.callLater(0, count)
        else:
            counted = True

    def again(_: object = None) -> None:
        turns_of_results.append(turn[0])
        if len(turns_of_results) < 5:
            done = threading.Event()
            disk.run(lambda: None).addCallback(again)
            disk.run(done.set)
            done.wait(PATIENCE)  # by then the first one has most likely ended

    reactor.callLater(0, count)
    disk.run(lambda: None).addCallback(again)
    await until(lambda: counted)
    assert len({*turns_of_results}) == 5


async def test_many(disk: DiskThreads) -> None:
    """Of very many jobs none is lost, and each gets its result."""
    results = await gatherResults([disk.run(partial(int, number)) for number in range(2000)])
    assert results == [*range(2000)]


async def test_stop_waits(disk: DiskThreads) -> None:
    """stop waits for submitted jobs and those that follow, and may be called twice."""
    resume_reactor = threading.Event()
    done = [disk.run(lambda: resume_reactor.wait(PATIENCE)) for _ in range(6)]
    stopped, again = disk.stop(), disk.stop()
    await turns()
    assert not stopped.called
    cleaned_up: list[None] = []
    done[0].addCallback(lambda _: disk.run(lambda: cleaned_up.append(None)))
    resume_reactor.set()
    await gatherResults([stopped, again])
    assert all(one.called for one in done)
    assert cleaned_up == [None]
    refused: list[Failure] = []
    disk.run(lambda: None).addErrback(refused.append)
    assert [failure.type for failure in refused] == [PoolStopped]


async def test_cancel_stop(disk: DiskThreads) -> None:
    """Waiting for the end can be cancelled."""
    resume_reactor = threading.Event()
    done = disk.run(lambda: resume_reactor.wait(PATIENCE))
    stopped = disk.stop()
    ends: list[type[BaseException] | None] = []
    stopped.addErrback(lambda failure: ends.append(failure.check(CancelledError)))
    stopped.cancel()
    assert ends == [CancelledError]
    resume_reactor.set()
    await done


async def test_result_cannot_be_delivered(disk: DiskThreads, expected_errors: list[str]) -> None:
    """A result that cannot be delivered does not affect the others of its batch."""
    expected_errors.append("AlreadyCalledError")
    resume_reactor = threading.Event()
    results: list[int] = []
    for number in range(3):
        done = disk.run(partial(_after, resume_reactor, number))
        done.addCallback(results.append)
        if number == 1:
            done.callback(99)  # other code has fired it
    resume_reactor.set()
    await until(lambda: not disk._unfinished)
    assert sorted(results) == [0, 2, 99]


def _after(event: threading.Event, number: int) -> int:
    event.wait(PATIENCE)
    return number


async def test_no_threads(disk: DiskThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, a job fails and does not count; existing threads run it."""

    def cannot(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(OSError, match="can't start new thread") as failed:
            await disk.run(lambda: 1)
        assert failed.value.errno == errno.EAGAIN
    assert await disk.run(lambda: 2) == 2
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        assert await gatherResults([disk.run(lambda: 3) for _ in range(5)]) == [3] * 5


async def test_long_jobs(disk: DiskThreads) -> None:
    """Long jobs run in separate threads with lower priority; neither kind waits for the other."""
    resume_reactor = threading.Event()

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here = niceness()
    stuck = [disk.run_in_background(lambda: resume_reactor.wait(PATIENCE)) for _ in range(5)]
    assert await disk.run(niceness) == here
    resume_reactor.set()
    assert await gatherResults(stuck) == [True] * 5
    assert await disk.run_in_background(niceness) == min(here + NICENESS, 19)


async def test_priority_cannot_be_lowered(
    disk: DiskThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the priority cannot be lowered, long jobs still run, and that is logged once."""

    def forbidden(*_: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setpriority", forbidden)
    together = threading.Barrier(3)
    with capturedLogs() as events:
        jobs = [disk.run_in_background(lambda: together.wait(PATIENCE)) for _ in range(3)]
        assert sorted(await gatherResults(jobs)) == [0, 1, 2]
        await disk.run_in_background(lambda: None)
    assert [formatEvent(event) for event in events] == [
        "cannot lower the priority of threads with long jobs: Operation not permitted"
    ]


async def test_stop_waits_for_long_jobs(disk: DiskThreads) -> None:
    """stop also waits for long jobs and for those that follow from them."""
    resume_reactor = threading.Event()
    done = disk.run_in_background(lambda: resume_reactor.wait(PATIENCE))
    cleaned_up = done.addCallback(lambda _: disk.run(lambda: "cleaned up"))
    stopped = disk.stop()
    assert not stopped.called
    resume_reactor.set()
    await stopped
    assert await cleaned_up == "cleaned up"


def test_stop_unused() -> None:
    """Threads that were never started are stopped at once."""
    assert DiskThreads(reactor).stop().called


def test_manual_disk() -> None:
    """The fake runs jobs on request, and those that follow from them."""
    disk, order = ManualDisk(), []

    def first(_: object) -> None:
        order.append("first")
        disk.run(lambda: order.append("third"))

    disk.run(lambda: None).addCallback(first)
    disk.run(lambda: order.append("second"))
    failures: list[Failure] = []
    disk.run(lambda: 1 // 0).addErrback(failures.append)
    assert (disk.waiting, order) == (3, [])
    disk.work(1)
    assert (disk.waiting, order) == (3, ["first"])
    disk.work()
    assert (disk.waiting, order) == (0, ["first", "second", "third"])
    assert [failure.type for failure in failures] == [ZeroDivisionError]
