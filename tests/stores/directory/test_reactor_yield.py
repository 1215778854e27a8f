"""
The reactor yields to a quick job of a disk thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.support.waiting import PATIENCE, reactor
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import DiskThreads, PoolStopped
from twisted_upload.stores.directory.group_commit import ReactorYield


async def test_yields() -> None:
    """The reactor waits a moment for a quick job, and has its result at once."""
    disk = DiskThreads(reactor, 1)
    reactor_yield = ReactorYield(disk, time.monotonic)
    for number in range(3):
        done = reactor_yield.run(lambda _, number=number: number, PATIENCE)  # type: ignore[misc]
        assert done.called
        assert await done == number
    with pytest.raises(ZeroDivisionError):
        await reactor_yield.run(lambda _: 1 // 0, PATIENCE)
    disk.stop()


async def test_yielding_ends_with_the_work() -> None:
    """The reactor stops waiting for a job that announces that it will only wait."""
    disk = DiskThreads(reactor, 1)
    reactor_yield = ReactorYield(disk, time.monotonic)
    resume_reactor = threading.Event()

    def job(waiting: Callable[[], None]) -> bool:
        waiting()
        return resume_reactor.wait(PATIENCE)

    began = time.monotonic()
    done = reactor_yield.run(job, PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    assert reactor_yield._quick
    resume_reactor.set()
    assert await done
    disk.stop()


def test_yielding_has_an_end() -> None:
    """The reactor waits for a slow job once, then for none until one has been quick again."""
    disk = _Yielding()
    reactor_yield = ReactorYield(disk, time.monotonic)
    reactor_yield.run(lambda _: 0, PATIENCE)
    reactor_yield.run(lambda _: 0, PATIENCE)
    assert disk.asked == [PATIENCE]
    disk.work(1)  # the slow one
    assert not reactor_yield._quick
    disk.work(1)
    assert reactor_yield._quick
    reactor_yield.run(lambda _: 0, PATIENCE)
    assert disk.asked == [PATIENCE, PATIENCE]


def test_yielding_counts_the_work_only() -> None:
    """
    Without a waiting reactor, a job is quick if it soon begins to wait, however long that
    takes.
    """
    disk = _Yielding()
    reactor_yield = ReactorYield(disk, time.monotonic)
    quick: list[bool] = []

    def job(waiting: Callable[[], None]) -> None:
        waiting()
        quick.append(reactor_yield._quick)
        reactor_yield._quick = False
        waiting()  # which counts once
        quick.append(reactor_yield._quick)

    reactor_yield.run(lambda _: 0, PATIENCE)
    reactor_yield.run(job, PATIENCE)
    reactor_yield.run(lambda _: 0, 0.0)
    disk.work(2)
    assert quick == [True, False]
    disk.work()
    assert not reactor_yield._quick


def test_no_yielding_without_threads() -> None:
    """After the disk threads have stopped, the reactor does not yield."""
    disk = DiskThreads(reactor, 1)
    disk.stop()
    began = time.monotonic()
    done = ReactorYield(disk, time.monotonic).run(lambda _: 0, PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    done.addErrback(lambda failure: failure.trap(PoolStopped))


class _Yielding(ManualDisk):
    """:ivar asked: the seconds of each yield."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def yield_reactor(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return super().yield_reactor(seconds)
