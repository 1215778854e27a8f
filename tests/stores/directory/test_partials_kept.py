"""
Uploads that stay open for a moment after a commit: the next request needs no disk job to
open them, and nobody else has to wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.partial_files import OrderedFiles
from tests.support.partials import ManualRig, Writing
from twisted_upload.errors import NotFound
from twisted_upload.stores.directory.partial_kept import KEEP_FOR, MOST_KEPT
from twisted_upload.stores.directory.partial_uses import LOOK_EVERY


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualRig]:
    rig = ManualRig(tmp_path / "inbox", files=OrderedFiles())
    yield rig
    rig.close()


def opened(rig: ManualRig) -> int:
    """Return how many files have been opened since the last time."""
    assert isinstance(rig.files, OrderedFiles)
    count = rig.files.order.count("open_record")
    rig.files.order.clear()
    return count


def closed(rig: ManualRig) -> int:
    """Return how many files have been closed since the last time."""
    assert isinstance(rig.files, OrderedFiles)
    count = rig.files.order.count("close")
    rig.files.order.clear()
    return count


def test_next_request(rig: ManualRig) -> None:
    """The next request finds and appends without a disk job; the bytes are all there."""
    identity = rig.create(15)
    rig.write(identity, b"hello")
    opened(rig)
    results: list[int] = []
    rig.store.find(identity).addCallback(lambda upload: results.append(upload.offset))
    assert results == [5]
    writing = Writing(rig.store, identity)
    assert writing.append.offset == 5
    writing.append.write(b"world")
    assert rig.do(writing.append.commit()).offset == 10
    assert opened(rig) == 0
    assert rig.write(identity, b"again").receipt is not None
    assert [*rig.stored.values()] == [b"helloworldagain"]


def test_bytes_that_do_not_count(rig: ManualRig) -> None:
    """What the next writer discards is cut off, and the one after it begins where it did."""
    identity = rig.create(10)
    rig.write(identity, b"hello")
    writing = rig.begin(identity, whole=True)
    writing.append.write(b"wrong")
    rig.do(writing.append.abort())
    assert rig.find(identity).offset == 5
    rig.write(identity, b"world")
    assert [*rig.stored.values()] == [b"helloworld"]


def test_for_a_moment(rig: ManualRig) -> None:
    """It is closed soon, and then nothing goes on looking."""
    identity = rig.create(10)
    rig.write(identity, b"hello")
    closed(rig)
    for _ in range(int(KEEP_FOR / LOOK_EVERY) + 2):
        rig.clock.advance(LOOK_EVERY)
        rig.disk.work()
    assert closed(rig) == 2
    assert rig.clock.getDelayedCalls() == []
    assert rig.find(identity).offset == 5


def test_not_too_many(rig: ManualRig) -> None:
    """Only a few stay open; the others are closed when they are committed, as ever."""
    identities = [rig.create(10) for _ in range(MOST_KEPT + 3)]
    closed(rig)
    for identity in identities:
        rig.write(identity, b"hello")
    assert closed(rig) == 2 * 3
    for identity in identities:
        assert rig.write(identity, b"world").receipt is not None


def test_shutdown(rig: ManualRig, tmp_path: Path) -> None:
    """What is open is closed when the store is."""
    before = len(os.listdir("/proc/self/fd"))
    other = ManualRig(tmp_path / "other")
    other.write(other.create(10), b"hello")
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_folder_opened_again(rig: ManualRig) -> None:
    """When the store has opened its folder again, the next request uses that."""
    identity = rig.create(10)
    rig.write(identity, b"hello")
    rig.store.open()
    opened(rig)
    assert rig.find(identity).offset == 5
    assert opened(rig) == 2
    rig.store.open()
    assert rig.write(identity, b"world").receipt is not None
    assert [*rig.stored.values()] == [b"helloworld"]


def test_expires(rig: ManualRig) -> None:
    """It expires all the same."""
    identity = rig.create(10, expires=rig.now() + KEEP_FOR / 2)
    rig.write(identity, b"hello")
    rig.clock.advance(KEEP_FOR / 2)
    assert isinstance(rig.find(identity), NotFound)


def test_removed(rig: ManualRig) -> None:
    """It is removed at once."""
    identity = rig.create(10)
    rig.write(identity, b"hello")
    assert rig.do(rig.store.remove(identity)) is None
    assert rig.files_left == []
    assert isinstance(rig.find(identity), NotFound)


def test_length(rig: ManualRig) -> None:
    """Its length can be set at once; if it is complete then, it is stored."""
    identity = rig.create(None)
    rig.write(identity, b"hello")
    assert rig.do(rig.store.set_length(identity, 5)).receipt is not None
    assert [*rig.stored.values()] == [b"hello"]


def test_no_id(rig: ManualRig) -> None:
    """Text that is no id finds nothing."""
    rig.write(rig.create(10), b"hello")
    for identity in "", "\udc80", "x" * 32:
        assert isinstance(rig.find(identity), NotFound)
