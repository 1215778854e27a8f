"""
Uploads that no sender waits for any more, while they wait for a stalled disk: refused
after a while, aborted, or ended by a shutdown.
"""

from __future__ import annotations

import errno
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.support.processes import open_descriptors
from tests.support.stores import ARRIVAL, MILLISECONDS, Rig
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import Busy, UploadRefused
from twisted_upload.interfaces import ICommitsTo, IMayBeVisible, Receipt
from twisted_upload.stores.directory import store as directory
from twisted_upload.stores.directory.file_queue import SMALL
from twisted_upload.stores.directory.group_commit import BATCHES_AT_A_TIME


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "inbox")
    before = open_descriptors(rig.folder)
    yield rig
    rig.disk.work()
    assert (rig.store.memory.held, rig.store.memory.given_up, rig.unfinished) == (0, 0, [])
    assert open_descriptors(rig.folder) == before
    rig.close()


class _Sender:
    """A sender that is told of failures, and can give its upload up."""

    give_up: Callable[[], None]

    def stored(self, receipt: Receipt) -> None:
        raise AssertionError(receipt)

    def failed(self, refusal: UploadRefused) -> None:
        raise AssertionError(refusal)


def _commit(rig: Rig, content: bytes) -> tuple[Deferred[Receipt], list[object]]:
    incoming = rig.store.begin(ARRIVAL, _Sender().failed)
    incoming.write(content)
    committed = incoming.commit()
    ends: list[object] = []
    committed.addBoth(ends.append)
    return committed, ends


# -- what it holds ------------------------------------------------------------


@pytest.mark.parametrize("size", [60_000, SMALL])
@pytest.mark.parametrize("ahead", [0, BATCHES_AT_A_TIME + 1])
@pytest.mark.parametrize("how", ["abort", "cancel", "give up"])
def test_holds_nothing(rig: Rig, size: int, ahead: int, how: str) -> None:
    """
    An upload that is given up holds no bytes, and nothing of its sender, while the disk
    is stalled.
    """
    for _ in range(ahead):
        _commit(rig, b"x")
    content, frontend = b"x" * size, _Sender()
    before = sys.getrefcount(content)
    incoming = rig.store.begin(ARRIVAL, frontend.failed)
    incoming.write(content)
    if how == "cancel":
        committed = incoming.commit()
        committed.addErrback(lambda _: None)
        committed.cancel()
        del committed
    elif how == "give up":
        frontend.give_up = ICommitsTo(incoming).commit_to(frontend.stored, frontend.failed)
        frontend.give_up()
        frontend.give_up()
        assert rig.store.memory.given_up == 1
    else:
        incoming.abort()
    frontend_is_there = weakref.ref(frontend)
    del incoming, frontend
    gc.collect()
    assert sys.getrefcount(content) == before
    assert frontend_is_there() is None
    assert rig.store.memory.held == ahead


def test_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The number of such uploads is bounded: beyond it, new ones are refused until the disk
    works.
    """
    monkeypatch.setattr(directory, "MOST_GIVEN_UP", 3)
    for size in 1, SMALL, 1:
        committed, _ = _commit(rig, b"x" * size)
        committed.cancel()
    with pytest.raises(Busy, match="disk"):
        rig.store.begin(ARRIVAL, _Sender().failed)
    rig.disk.work()
    _, ends = _commit(rig, b"content")
    rig.disk.work()
    assert isinstance(ends[0], Receipt)
    assert [*rig.stored.values()] == [b"content"]


# -- what reaches the disk ----------------------------------------------------


@pytest.mark.parametrize("size", [1, SMALL])
def test_is_not_written(rig: Rig, size: int) -> None:
    """
    A disk that works again does nothing for such an upload: a watcher of the folder sees
    nothing.
    """
    committed, _ = _commit(rig, b"x" * size)
    committed.cancel()
    rig.disk.work()
    assert not rig.files.calls.keys() & {"create", "write", "writev", "fsync", "rename"}
    assert rig.store.health.well


def test_others_are_stored(rig: Rig) -> None:
    """Uploads that wait for the disk together with such an upload are stored."""
    uploads = [_commit(rig, b"%d" % number) for number in range(BATCHES_AT_A_TIME + 3)]
    uploads[BATCHES_AT_A_TIME + 1][0].cancel()
    rig.disk.work()
    stored = [isinstance(end, Receipt) for _, (end,) in uploads]
    assert stored == [number != BATCHES_AT_A_TIME + 1 for number in range(BATCHES_AT_A_TIME + 3)]
    assert sorted(rig.stored.values()) == [b"0", b"1", b"2", b"4"]
    assert rig.files.calls["rename"] == BATCHES_AT_A_TIME + 2


class _During(FaultyFiles):
    """File calls during which something happens while a file is being synced."""

    happens: Callable[[], None] | None = None

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()


@pytest.mark.parametrize("size", [1, SMALL])
def test_given_up_while_it_is_synced(tmp_path: Path, size: int) -> None:
    """An upload that is given up during its fsync, the longest step, gets no name."""
    files = _During()
    rig = Rig(tmp_path / "inbox", files=files)
    committed, _ = _commit(rig, b"x" * size)
    files.happens = committed.cancel
    rig.disk.work()
    assert files.happens is None
    assert rig.files.calls["rename"] == 0
    assert (rig.stored, rig.unfinished) == ({}, [])
    assert (rig.store.memory.held, rig.store.memory.given_up) == (0, 0)
    rig.close()


def test_given_up_when_it_has_its_name(tmp_path: Path) -> None:
    """The name of an upload that is given up between publishing and the answer is taken back."""
    files = FaultyFiles()
    rig = Rig(tmp_path / "inbox", files=files)
    rename = files.rename
    committed, _ = _commit(rig, b"x")

    def renames(*arguments: int | str) -> None:
        rename(*arguments)  # type: ignore[arg-type]
        committed.cancel()

    files.rename = renames  # type: ignore[method-assign, assignment]
    rig.disk.work(1)
    assert [*rig.stored] == [f"{MILLISECONDS}.bin"]
    rig.disk.work()
    assert (rig.stored, rig.unfinished) == ({}, [])
    assert (rig.store.memory.held, rig.store.memory.given_up) == (0, 0)
    rig.close()


@pytest.mark.parametrize("when", ["fsync", "rename", "unlink"])
def test_may_be_visible(tmp_path: Path, when: str) -> None:
    """
    An upload that is given up may be visible from its publication until its name has been
    taken back.
    """
    files = _During()
    rig = Rig(tmp_path / "inbox", files=files)
    incoming = rig.store.begin(ARRIVAL, _Sender().failed)
    incoming.write(b"x")
    committed = incoming.commit()
    committed.addErrback(lambda _: None)
    visible: list[bool] = []

    def give_up() -> None:
        committed.cancel()
        visible.append(IMayBeVisible(incoming).may_be_visible())

    def give_up_later() -> None:
        files.happens = give_up

    if when == "unlink":
        files.fail("unlink", errno.EIO)
    files.happens = give_up if when == "fsync" else give_up_later
    rig.disk.work(1)
    assert visible == [when != "fsync"]
    assert len(rig.stored) == (when != "fsync")
    rig.disk.work()
    assert IMayBeVisible(incoming).may_be_visible() == (when == "unlink")
    assert len(rig.stored) == (when == "unlink")
    rig.close()


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_fails_and_is_given_up(rig: Rig, failing: str) -> None:
    """A disk failure in the batch of such an upload is reported as usual."""
    given_up, _ = _commit(rig, b"given up")
    _, ends = _commit(rig, b"waited for")
    given_up.cancel()
    rig.files.fail(failing, errno.EIO)
    rig.disk.work()
    assert not isinstance(ends[0], Receipt)
    assert not rig.store.health.well
    assert rig.stored == {}
