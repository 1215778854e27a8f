"""
A share of the threads that wait for an object store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred, fail

from tests.support.object_stores import ManualS3Rig, make_parts_small
from tests.support.partials import result_of
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import PoolStopped
from twisted_upload.interfaces import Receipt
from twisted_upload.stores.s3.lane import Lane
from twisted_upload.stores.s3.store import MOST_PARTS_SENT

T = TypeVar("T")


def test_in_order() -> None:
    """Jobs are run in order of arrival, no more than so many at a time; each has its result."""
    threads, ran = ManualDisk(), list[int]()
    lane = Lane(threads, 2)

    def job(number: int) -> int:
        ran.append(number)
        return number

    results = [result_of(lane.run(partial(job, number))) for number in range(5)]
    assert threads.waiting == 2
    threads.work(1)
    assert (threads.waiting, ran) == (2, [0])
    threads.work()
    assert ran == [*range(5)]
    assert results == [[number] for number in range(5)]


def test_errors() -> None:
    """A job that fails makes room for the next one."""
    threads = ManualDisk()
    lane = Lane(threads, 1)
    failing, working = result_of(lane.run(lambda: 1 // 0)), result_of(lane.run(lambda: 1))
    threads.work()
    assert isinstance(failing[0], ZeroDivisionError)
    assert working == [1]


def test_stopped() -> None:
    """When the threads accept nothing more, all that wait hear it, however many they are."""

    class Stopped(ManualDisk):
        def run(self, job: Callable[[], T]) -> Deferred[T]:
            return super().run(job) if self.waiting < 1 else fail(PoolStopped())

    lane = Lane(Stopped(), 2)
    results = [result_of(lane.run(int)) for _ in range(5000)]
    assert results[0] == []
    assert {type(it[0]) for it in results[1:]} == {PoolStopped}


def test_many_large_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many large uploads there are, threads are left for small ones and for tests."""
    size = make_parts_small(monkeypatch)
    rig = ManualS3Rig(tmp_path / "inbox")
    large = [rig.begin()[0] for _ in range(MOST_PARTS_SENT)]
    for incoming in large:
        incoming.write(b"x" * (2 * size + 1))
    assert rig.requests.waiting == MOST_PARTS_SENT
    small = rig.begin()[0]
    small.write(b"hello")
    rig.store.health.check()
    ends = rig.commit(small)
    assert rig.requests.waiting == MOST_PARTS_SENT + 2
    all_ends = [rig.commit(incoming) for incoming in large]
    rig.work()
    assert all(isinstance(it, Receipt) for (it,) in [ends, *all_ends])
    assert len(rig.bucket.visible()) == MOST_PARTS_SENT + 1
    rig.close()
