"""
A failing disk, and a store that tests whether it works again.
"""

from __future__ import annotations

import errno
import shutil

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.support.stores import Rig, begin_upload, ends_of, store_upload
from twisted_upload.errors import StoreFailed
from twisted_upload.interfaces import Receipt
from twisted_upload.stores.health import SELF_TEST_INTERVAL


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "rename", "close"])
def test_unhealthy(rig: Rig, call: str, error: int) -> None:
    """A disk error stops uploads until a test of the whole write path has passed."""
    rig.files.fail(call, error)
    assert isinstance(store_upload(rig, b"one"), StoreFailed)
    assert rig.stored == {}
    assert rig.unfinished == []
    with pytest.raises(StoreFailed):
        begin_upload(rig.store)
    rig.files.fail("fsync", errno.EIO, times=100)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    with pytest.raises(StoreFailed):
        begin_upload(rig.store)
    rig.files.heal()
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert isinstance(store_upload(rig, b"two"), Receipt)
    assert [*rig.stored.values()] == [b"two"]
    assert rig.unfinished == []


def test_unfinished_file_is_removed_later(rig: Rig) -> None:
    """An unfinished file that cannot be removed is removed when the disk works again."""
    rig.files.fail("rename", errno.EROFS)
    rig.files.fail("unlink", errno.EROFS)
    assert isinstance(store_upload(rig, b"one"), StoreFailed)
    assert len(rig.unfinished) == 1
    rig.files.fail("create", errno.EROFS)  # the folder is opened again
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert isinstance(store_upload(rig, b"two"), Receipt)
    assert rig.unfinished == []


def test_same_failure_again(rig: Rig) -> None:
    """A test that fails again for the same reason is one log line a minute; others are at once."""
    with capturedLogs() as events:
        rig.files.fail("create", errno.EROFS, times=1000)
        store_upload(rig, b"one")
        for _ in range(60):
            rig.clock.advance(SELF_TEST_INTERVAL)
            rig.disk.work()
        rig.files.fail("create", errno.EIO, times=1000)
        rig.clock.advance(SELF_TEST_INTERVAL)
        rig.disk.work()
        rig.files.heal()
        rig.clock.advance(SELF_TEST_INTERVAL)
        rig.disk.work()
    lines = [str(formatEvent(event)).partition(": ")[2] for event in events]
    still = f"still UNHEALTHY: cannot store files in the directory {rig.folder}: "
    assert lines[1:] == [
        f"{still}Read-only file system",
        f"{still}Read-only file system",
        f"{still}Input/output error",
        "healthy again, accepting uploads",
    ]


def test_in_flight_when_unhealthy(rig: Rig) -> None:
    """Uploads in flight when the disk fails depend on their own system calls only."""
    incoming, _, _ = begin_upload(rig.store)
    rig.files.fail("create", errno.EIO)
    store_upload(rig, b"one")
    incoming.write(b"two")
    ends = ends_of(incoming.commit())
    rig.disk.work()
    assert isinstance(ends[0], Receipt)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()


def test_closed_while_unhealthy(rig: Rig) -> None:
    """A store that is closed no longer tests itself."""
    rig.files.fail("create", errno.EIO)
    store_upload(rig, b"one")
    rig.store.close()
    assert rig.clock.getDelayedCalls() == []


def test_folder_is_made_again(rig: Rig) -> None:
    """A folder that was removed and is there again is used again automatically."""
    shutil.rmtree(rig.folder)
    assert isinstance(store_upload(rig, b"one"), StoreFailed)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert isinstance(store_upload(rig, b"two"), Receipt)
    assert [*rig.stored.values()] == [b"two"]


@pytest.mark.parametrize("left", [[], ["inbox"], ["inbox", "inbox/of-others"]])
def test_folder_without_its_disk(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    """The bare mount point of a missing disk is not mistaken for the folder, and stays bare."""
    shutil.rmtree(rig.folder)
    for name in left:
        (rig.folder.parent / name).mkdir()
    store_upload(rig, b"one")
    monkeypatch.setattr(
        "twisted_upload.stores.directory.store.same_file_system", lambda one, other, files: False
    )
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    with pytest.raises(StoreFailed):
        begin_upload(rig.store)
    assert len(rig.clock.getDelayedCalls()) == 1
    assert [
        str(path.relative_to(rig.folder.parent)) for path in rig.folder.parent.rglob("*")
    ] == left
