"""
Concatenations that take long: parts stay, and what is asked for again is done once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.support.partials import ManualRig, result_of
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import Busy, NoSpace, NotFound, StoreFailed
from twisted_upload.interfaces import Arrival, Metadata, PartialTerms, PartialUpload
from twisted_upload.stores.directory import concatenation
from twisted_upload.stores.directory.partial_index import PartialLimits
from twisted_upload.stores.directory.repeats import REMEMBERED_FOR
from twisted_upload.stores.health import SELF_TEST_INTERVAL

DAY = 86400.0
TERMS = PartialTerms(Arrival("x"))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualRig]:
    rig = ManualRig(tmp_path / "inbox", files=FaultyFiles())
    yield rig
    rig.close()


@pytest.fixture
def parts(rig: ManualRig) -> list[str]:
    """Two complete parts, which expire soon."""
    parts = [rig.create(3, is_part=True, expires=rig.now() + 100) for _ in range(2)]
    for identity in parts:
        rig.write(identity, b"abc")
    return parts


def begin(
    rig: ManualRig, parts: list[str], terms: PartialTerms = TERMS
) -> tuple[Deferred[PartialUpload], list[Any]]:
    concatenating = rig.store.concatenate(terms, parts)
    return concatenating, result_of(concatenating)


def test_repeated_while_it_is_running(rig: ManualRig, parts: list[str]) -> None:
    """What is asked for again while it is being done is done once, also for one that has gone."""
    first, first_result = begin(rig, parts)
    rig.disk.work(2)
    _, second_result = begin(rig, parts)
    first.cancel()
    rig.disk.work()
    assert isinstance(first_result[0], Exception)
    (upload,) = second_result
    assert rig.stored == {upload.receipt.name: b"abcabc"}
    assert rig.find(upload.identity).receipt == upload.receipt


def test_repeated_later(rig: ManualRig, parts: list[str]) -> None:
    """So is what is asked for again within an hour, as long as it is remembered."""
    upload = rig.do(rig.store.concatenate(TERMS, parts))
    again = rig.do(rig.store.concatenate(TERMS._replace(note="at another time"), parts))
    assert (again.identity, again.receipt) == (upload.identity, upload.receipt)
    rig.do(rig.store.remove(upload.identity))
    assert rig.do(rig.store.concatenate(TERMS, parts)).receipt is not None
    assert len(rig.stored) == 2
    rig.clock.advance(REMEMBERED_FOR)
    assert isinstance(rig.do(rig.store.concatenate(TERMS, parts)), NotFound)  # expired


def test_one_is_told_and_stops_another(rig: ManualRig, parts: list[str]) -> None:
    """One that is told may have another one that waits stop waiting."""
    first = rig.store.concatenate(TERMS, parts)
    second, second_result = begin(rig, parts)
    _, third_result = begin(rig, parts)
    first.addCallback(lambda _: second.cancel())
    rig.disk.work()
    assert isinstance(second_result[0], CancelledError)
    assert third_result[0].receipt is not None


def test_bytes_that_are_being_copied(tmp_path: Path, parts: list[str]) -> None:
    """What is being copied counts for the bounds before it is committed."""
    limits = PartialLimits(most_bytes=10)
    rig = ManualRig(tmp_path / "inbox", limits=limits)
    _, first_result = begin(rig, parts)
    rig.disk.work(2)
    _, second_result = begin(rig, parts[::-1])
    rig.disk.work()
    assert first_result[0].receipt is not None
    assert isinstance(second_result[0], NoSpace)
    assert rig.do(rig.store.concatenate(TERMS, parts[::-1])).receipt is not None
    rig.close()


def test_parts_are_in_use(rig: ManualRig, parts: list[str]) -> None:
    """Parts that have been concatenated are not idle, for other processes either."""
    records = [*(rig.folder / ".incoming/partial").glob("*.record")]
    for path in records:
        os.utime(path, (0, 0))
    rig.do(rig.store.concatenate(TERMS, parts))
    assert min(path.stat().st_mtime for path in records) > 0


def test_others_are_not_repeats(rig: ManualRig, parts: list[str]) -> None:
    """Another order, or name makes another file."""
    other = TERMS._replace(arrival=Arrival("x", metadata=Metadata("a.txt")))
    for terms in TERMS, other:
        rig.do(rig.store.concatenate(terms, parts))
    rig.do(rig.store.concatenate(TERMS, parts[::-1]))
    assert len(rig.stored) == 3


def test_all_hear_of_a_failure(rig: ManualRig, parts: list[str]) -> None:
    """If it fails, all that have asked for it hear that, and can ask again."""
    results = [begin(rig, parts)[1] for _ in range(2)]
    rig.files.fail("copy", errno.EIO)
    rig.disk.work()
    assert [type(result) for (result,) in results] == [StoreFailed, StoreFailed]
    assert len(rig.files_left) == 4
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert rig.do(rig.store.concatenate(TERMS, parts)).receipt is not None


def test_parts_stay(rig: ManualRig, parts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """While parts are being copied, they do not expire, give way, or go by request."""
    monkeypatch.setattr(concatenation, "STEP", 1)
    _, result = begin(rig, [parts[0]] * 5 + [parts[1]])
    rig.disk.work(2)
    removing = result_of(rig.store.remove(parts[0]))
    rig.disk.work(2)
    assert isinstance(removing[0], Busy)
    for path in (rig.folder / ".incoming/partial").iterdir():
        os.utime(path, (0, 0))
    rig.clock.advance(DAY)
    assert not rig.store._keeper.free(10)
    rig.do(rig.store._keeper.scan())
    assert result[0].receipt.size == 18
    assert [*rig.stored.values()] == [b"abc" * 6]
    rig.do(rig.store._keeper.scan())
    assert not [name for name in rig.files_left if name.endswith(".data")]
