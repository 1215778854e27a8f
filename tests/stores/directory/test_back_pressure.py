"""
How many bytes uploads may hold, and which senders are paused for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stores import Rig, begin_upload, ends_of
from twisted_upload.interfaces import Receipt
from twisted_upload.stores.directory.file_queue import CRUMB, MOST_HELD, SMALL
from twisted_upload.stores.memory_budget import MemoryBudget


def test_pauses_and_resumes(rig: Rig) -> None:
    """
    A producer is paused when its upload holds as much as it may, and resumed when that is
    written.
    """
    incoming, _, producer = begin_upload(rig.store)
    written = 0
    while not producer.paused:
        incoming.write(b"x" * 65536)
        written += 65536
    assert written == MOST_HELD
    assert rig.store.memory.held == written
    rig.disk.work()
    assert producer.told == ["pause", "resume"]
    assert rig.store.memory.held < SMALL
    incoming.abort()


def test_commit_unregisters(rig: Rig) -> None:
    """A producer that has sent everything is not resumed."""
    incoming, _, producer = begin_upload(rig.store)
    incoming.write(b"x" * MOST_HELD)
    incoming.commit()
    rig.disk.work()
    assert producer.told == ["pause"]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 400_000), st.integers(0, 3)),
        min_size=1,
        max_size=40,
    )
)
def test_held_is_bounded(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """From a producer that obeys, one upload holds at most a fixed amount and one more piece."""
    rig = Rig(tmp_path_factory.mktemp("inbox"))
    incoming, failures, producer = begin_upload(rig.store)
    sent = 0
    for size, jobs in steps:
        if not producer.paused:
            incoming.write(b"x" * size)
            sent += size
        assert rig.store.memory.held < MOST_HELD + 400_000
        assert producer.paused or rig.store.memory.held < MOST_HELD
        rig.disk.work(jobs)
    ends = ends_of(incoming.commit())
    rig.disk.work()
    assert isinstance(ends[0], Receipt)
    assert ends[0].size == sent
    assert rig.store.memory.held == 0
    assert failures == []
    assert all(one != other for one, other in zip(producer.told, producer.told[1:], strict=False))
    rig.close()


def test_all_together_are_bounded(tmp_path: Path) -> None:
    """
    When all uploads together hold too much, each new piece is written at once, and pauses
    its sender.
    """
    rig = Rig(tmp_path, memory=MemoryBudget(100_000))
    uploads = [begin_upload(rig.store) for _ in range(20)]
    for incoming, _, producer in uploads:
        for _ in range(10):
            if not producer.paused:
                incoming.write(b"x" * 10_000)
    assert rig.store.memory.held <= 100_000 + 20 * 10_000
    assert sum(producer.paused for _, _, producer in uploads) >= 10
    rig.disk.work()
    assert not any(producer.paused for _, _, producer in uploads)
    assert rig.store.memory.held <= 100_000
    ends = [ends_of(incoming.commit()) for incoming, _, _ in uploads]
    rig.disk.work()
    assert all(isinstance(end[0], Receipt) for end in ends)
    assert rig.store.memory.held == 0
    rig.close()


@pytest.mark.parametrize("size", [1, 2, 100, CRUMB - 1, CRUMB, CRUMB + 1])
@pytest.mark.parametrize("others", [[], [CRUMB], [1, 5000, 7]])
def test_small_pieces(rig: Rig, size: int, others: list[int]) -> None:
    """However small the pieces, they take little more memory than their bytes."""
    incoming: Any = begin_upload(rig.store)[0]
    content = b""
    for number in range(200):
        for length in [size] * 10 + (others if number % 50 == 0 else []):
            piece = bytes([number]) * length
            incoming.write(piece)
            content += piece
    rig.disk.work()
    assert rig.store.memory.held == incoming._waiting
    held = sum(map(sys.getsizeof, [*incoming._pieces, incoming._crumbs]))
    assert held <= 1.2 * rig.store.memory.held + 1000
    ends_of(incoming.commit())
    rig.disk.work()
    assert [*rig.stored.values()] == [content]
