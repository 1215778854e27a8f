"""
The drop folder as a start creates it, and folders of ours inside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import open_store
from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import NewFolders, open_private
from twisted_upload.disk.testing import FaultyFiles, ManualDisk

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")

SOMEBODY, NOBODY, TEAM = 1001, 65534, 1234


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """As a user who is in no group but his own."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def above(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_created_durably(above: int, tmp_path: Path) -> None:
    """It is created once, for us alone, and the folder above is synced then."""
    files = FaultyFiles()
    for _ in range(2):
        os.close(open_private(above, ".ours", files))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700
    assert files.calls["fsync"] == 1


def test_closed_to_others(above: int, tmp_path: Path) -> None:
    """One that others can look into is closed to them."""
    (tmp_path / ".ours").mkdir(mode=0o755)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700


def test_no_link(above: int, tmp_path: Path) -> None:
    """A symbolic link, or a file, is not taken for it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".ours").symlink_to("elsewhere")
    (tmp_path / ".file").touch()
    for name in ".ours", ".file":
        with pytest.raises(OSError, match=r"directory|symbolic"):
            open_private(above, name, FaultyFiles())


# -- whose it is --------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_of_somebody_else(above: int, tmp_path: Path, mode: int) -> None:
    """What another user made first is not used, and stays as it is; the line says what to do."""
    theirs = tmp_path / ".ours"
    theirs.mkdir()
    theirs.chmod(mode)
    os.chown(theirs, SOMEBODY, SOMEBODY)
    with pytest.raises(PermissionError) as raised:
        open_private(above, ".ours", FaultyFiles())
    assert raised.value.strerror == (
        ".ours belongs to uid 1001, and this daemon runs as uid 0: chown -R it if an earlier run"
        " of this daemon created it, otherwise remove it"
    )
    assert stat.S_IMODE(theirs.stat().st_mode) == mode
    assert os.listdir(theirs) == []


@needs_root
def test_of_root(above: int, tmp_path: Path) -> None:
    """What a daemon that ran as root has left is not used by one that does not any more."""
    tmp_path.chmod(0o777)
    os.close(open_private(above, ".ours", FaultyFiles()))
    with (
        without_privileges(),
        pytest.raises(PermissionError, match=r"belongs to uid 0, and .* runs as uid 65534"),
    ):
        open_private(above, ".ours", FaultyFiles())


def test_where_all_belongs_to_somebody(
    above: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all that we make belongs to somebody else (NFS, FUSE), so may our folders."""
    monkeypatch.setattr("twisted_upload.disk.folders.os.geteuid", lambda: 4711)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert os.listdir(tmp_path / ".ours") == []


# -- what it passes on --------------------------------------------------------


@needs_root
@pytest.mark.parametrize("before", [True, False])
def test_setgid(above: int, tmp_path: Path, before: bool) -> None:
    """In a setgid folder it has the same group, and passes that on; it did not always."""
    if before:
        os.close(open_private(above, ".ours", FaultyFiles()))
    os.chown(tmp_path, -1, TEAM)
    tmp_path.chmod(0o2770)
    os.close(open_private(above, ".ours", FaultyFiles()))
    status = (tmp_path / ".ours").stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (TEAM, 0o2700)
    tmp_path.chmod(0o770)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700


@needs_root
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("inherited", [True, False])
def test_setgid_of_a_foreign_group(
    above: int, tmp_path: Path, before: bool, inherited: bool
) -> None:
    """Who is not in the group inherits it, but cannot give it to a folder that is there already."""
    os.chown(tmp_path, NOBODY, NOBODY)
    if before:
        with without_privileges():
            os.close(open_private(above, ".ours", FaultyFiles()))
        if inherited:  # the group, but not the bit, which the kernel would not let us set
            os.chown(tmp_path / ".ours", -1, TEAM)
    os.chown(tmp_path, -1, TEAM)
    tmp_path.chmod(0o2770)
    with without_privileges():
        if before:
            with pytest.raises(PermissionError, match=r"gid 1234, .* remove it while no daemon"):
                open_private(above, ".ours", FaultyFiles())
        else:
            os.close(open_private(above, ".ours", FaultyFiles()))
    assert (stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o2700) is not before


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl")
def test_default_acl(above: int, tmp_path: Path) -> None:
    """The default ACL of the folder above holds for it too, as it is then."""

    def entries() -> list[str]:
        done = subprocess.run(
            ["getfacl", "-dcnp", tmp_path / ".ours"], capture_output=True, text=True, check=True
        )
        return [line for line in done.stdout.splitlines() if ":1001:" in line]

    os.close(open_private(above, ".ours", FaultyFiles()))
    assert entries() == []
    if subprocess.run(["setfacl", "-dm", "u:1001:rw", tmp_path], check=False).returncode:
        pytest.skip("needs a file system with ACLs")
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert entries() == ["user:1001:rw-"]
    subprocess.run(["setfacl", "-k", tmp_path], check=True)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert entries() == []


# Folders that a start makes, and takes away again if it fails


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


@needs_root
def test_of_somebody_else_stays(tmp_path: Path) -> None:
    """What somebody else has put there meanwhile is not removed."""
    new = made(tmp_path / "one")
    os.chown(tmp_path / "one" / ".ours", 65534, 65534)
    new.remove()
    assert (tmp_path / "one" / ".ours").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give folders to a group")
@pytest.mark.parametrize("umask", [0, 0o77])
def test_made_in_a_setgid_folder(tmp_path: Path, umask: int) -> None:
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
