"""
Folders that a start makes, and takes away again if it fails.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.stores import open_store
from twisted_upload.disk.files import Files
from twisted_upload.disk.new_folders import NewFolders
from twisted_upload.testing import ManualDisk


def made(path: Path) -> NewFolders:
    new = NewFolders(str(path), [".ours", ".ours/within"])
    new.make(Files())
    (path / ".ours" / "within").mkdir(parents=True)
    return new


def test_removed(tmp_path: Path) -> None:
    """What was not there before is gone, with what is inside it, and nothing else."""
    made(tmp_path / "one" / "two").remove()
    assert [*tmp_path.iterdir()] == []


def test_what_was_there_stays(tmp_path: Path) -> None:
    """A folder that was there stays, and so does what is not empty."""
    (tmp_path / "one" / ".ours").mkdir(parents=True)
    made(tmp_path / "one").remove()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "one", tmp_path / "one" / ".ours"]
    new = made(tmp_path / "two")
    (tmp_path / "two" / ".ours" / "file").touch()
    new.remove()
    assert [*(tmp_path / "two").rglob("*")] == [
        tmp_path / "two" / ".ours",
        tmp_path / "two" / ".ours" / "file",
    ]


def test_claimed(tmp_path: Path) -> None:
    """What another daemon has begun to use meanwhile stays."""
    new = made(tmp_path / "one")
    other = os.open(tmp_path / "one" / ".ours", os.O_RDONLY)
    try:
        Files().claim(other, 7)
        new.remove()
        assert (tmp_path / "one" / ".ours").exists()
    finally:
        os.close(other)
    new.remove()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_of_somebody_else(tmp_path: Path) -> None:
    """What somebody else has put there meanwhile is not removed."""
    new = made(tmp_path / "one")
    os.chown(tmp_path / "one" / ".ours", 65534, 65534)
    new.remove()
    assert (tmp_path / "one" / ".ours").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give folders to a group")
@pytest.mark.parametrize("umask", [0, 0o77])
def test_setgid(tmp_path: Path, umask: int) -> None:
    """Made in a setgid folder, it has that group and passes it on, whatever the umask."""
    os.chown(tmp_path, -1, 1234)
    tmp_path.chmod(0o2775)
    before = os.umask(umask)
    try:
        NewFolders(str(tmp_path / "one" / "two")).make(Files())
    finally:
        os.umask(before)
    for folder in tmp_path / "one", tmp_path / "one" / "two":
        status = folder.stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 0o2750)


def test_a_store_that_is_opened_twice(tmp_path: Path) -> None:
    """A store that was opened, as twistd does, twice, still knows what it has made."""
    store = open_store(tmp_path / "one" / "two", ManualDisk())
    store.open()
    store.undo()
    assert [*tmp_path.iterdir()] == []
