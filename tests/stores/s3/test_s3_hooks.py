"""
Programs for objects: each has a marker on the disk of the node before its sender is answered.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.support.hook_markers import lines, waiting
from tests.support.object_stores import ManualS3Rig
from twisted_upload.errors import NoSpace, StoreFailed, UploadRefused
from twisted_upload.hooks.folders import HOOKS, WAITING
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import Metadata, Receipt
from twisted_upload.stores.s3.errors import Unreachable


class Programs:
    """
    Programs that are not started.

    :ivar told: the markers of stored objects, and how many senders had been answered then.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Marker, int]] = []
        self.answered: list[object] = []

    def check(self) -> None:
        pass

    def start(self, queue: Callable[[], HookSpool | None]) -> None:
        pass

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        spool.release(marker)
        self.told.append((marker, len(self.answered)))

    def stop(self, seconds: float) -> Deferred[None]:
        return succeed(None)


@pytest.fixture
def programs() -> Programs:
    return Programs()


@pytest.fixture
def rig(tmp_path: Path, programs: Programs) -> Iterator[ManualS3Rig]:
    rig = ManualS3Rig(tmp_path / "inbox", hooks=programs)
    yield rig
    rig.close()


@pytest.mark.parametrize("parts", [0, 2])
def test_recorded_before_success(
    rig: ManualS3Rig, programs: Programs, small_part: int, parts: int
) -> None:
    """
    The marker is on disk, with the URL of the object, before its sender is answered; the program
    is told after that.
    """
    incoming, _, _ = rig.begin(digest=False, metadata=Metadata("photo.jpg"))
    incoming.write(b"x" * (parts * small_part + 1))
    found: list[list[str]] = []

    def answer(receipt: Receipt) -> None:
        found.append(waiting(rig.folder))
        programs.answered.append(receipt)

    incoming.commit().addCallback(answer)
    rig.work()
    ((name,),) = found
    (receipt,) = programs.answered
    assert isinstance(receipt, Receipt)
    (line,) = lines(rig.folder / HOOKS / WAITING / name)
    assert line["url"] == f"s3://uploads/box/{receipt.name}"
    assert line["name"] == receipt.name
    assert line["size"] == parts * small_part + 1
    assert len(line["sha256"]) == 64
    assert line["original_name"] == "photo.jpg"
    ((marker, answered),) = programs.told
    assert answered == 1
    assert marker.url == line["url"]


def test_durable(rig: ManualS3Rig) -> None:
    """It has been synced by then, and its folder."""
    assert isinstance(rig.store_upload(b"x"), Receipt)
    assert rig.files.calls["fsync"] == 2


@pytest.mark.parametrize(("number", "refusal"), [(errno.ENOSPC, NoSpace), (errno.EIO, StoreFailed)])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "close"])
def test_not_recorded(
    rig: ManualS3Rig, programs: Programs, call: str, number: int, refusal: type[UploadRefused]
) -> None:
    """If it cannot be written, the sender is refused, and the object is removed before that."""
    rig.files.fail(call, number)
    incoming, _, _ = rig.begin()
    incoming.write(b"x")
    visible: list[dict[str, bytes]] = []
    committed = incoming.commit()
    ends: list[object] = []

    def refused(failure: object) -> None:
        ends.append(failure)
        visible.append(rig.bucket.visible())

    committed.addErrback(lambda failure: refused(failure.type))
    rig.work()
    assert ends == [refusal]
    assert visible == [{}]
    assert waiting(rig.folder) == []
    assert programs.told == []
    rig.files.heal()
    rig.pass_time(3)
    assert isinstance(rig.store_upload(b"x"), Receipt)


def test_neither_recorded_nor_removed(rig: ManualS3Rig, programs: Programs) -> None:
    """If the object store is away then, the object is removed later."""
    rig.files.fail("create", errno.ENOSPC)
    rig.bucket.fail("remove", Unreachable("reset"))
    assert isinstance(rig.store_upload(b"x"), NoSpace)
    rig.work()
    assert rig.bucket.visible() == {}
    assert programs.told == []


@pytest.mark.parametrize("parts", [0, 2])
def test_cancelled(rig: ManualS3Rig, programs: Programs, small_part: int, parts: int) -> None:
    """A sender that gives up leaves neither an object nor a marker, however late it is."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * (parts * small_part + 1))
    committed = incoming.commit()
    committed.addErrback(lambda _: None)
    rig.disk.work()
    while not rig.bucket.visible():
        done, job = rig.requests._jobs.popleft()
        result = job()  # in the thread
        if rig.bucket.visible():
            assert len(waiting(rig.folder)) == 1
            committed.cancel()
        done.callback(result)  # in the reactor
    rig.work()
    assert rig.bucket.visible() == {}
    assert waiting(rig.folder) == []
    assert programs.told == []


def test_marker_is_removed_before_the_object(rig: ManualS3Rig, programs: Programs) -> None:
    """No program is started for an object that is gone: its marker goes first, durably."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x")
    committed = incoming.commit()
    committed.addErrback(lambda _: None)
    done, job = rig.requests._jobs.popleft()
    result = job()  # in the thread
    committed.cancel()
    rig.bucket.fail("remove", Unreachable("reset"))
    synced = rig.files.calls["fsync"]
    done.callback(result)
    rig.requests.work(1)
    assert len(rig.bucket.visible()) == 1
    assert waiting(rig.folder) == []
    assert rig.files.calls["fsync"] == synced + 1
    assert programs.told == []


def test_aborted(rig: ManualS3Rig, programs: Programs) -> None:
    """An aborted upload never has a marker."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x")
    incoming.abort()
    rig.work()
    assert waiting(rig.folder) == []
    assert programs.told == []
