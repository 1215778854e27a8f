"""
The upload directory as a start creates it, and the daemon's folders inside it.
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

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

OTHER_USER, NOBODY, TEAM = 1001, 65534, 1234


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Run as a user without supplementary groups."""
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
    """It is created once, accessible only to its owner, and then its parent is synced."""
    files = FaultyFiles()
    for _ in range(2):
        os.close(open_private(above, ".ours", files))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700
    assert files.calls["fsync"] == 1


def test_closed_to_others(above: int, tmp_path: Path) -> None:
    """Permissions of others on an existing one are removed."""
    (tmp_path / ".ours").mkdir(mode=0o755)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700


def test_no_link(above: int, tmp_path: Path) -> None:
    """A symbolic link or a file in its place is an error."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".ours").symlink_to("elsewhere")
    (tmp_path / ".file").touch()
    for name in ".ours", ".file":
        with pytest.raises(OSError, match=r"directory|symbolic"):
            open_private(above, name, FaultyFiles())


# -- the owner ----------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_of_another_user(above: int, tmp_path: Path, mode: int) -> None:
    """A folder of another user is neither used nor changed; the error says what to do."""
    theirs = tmp_path / ".ours"
    theirs.mkdir()
    theirs.chmod(mode)
    os.chown(theirs, OTHER_USER, OTHER_USER)
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
    """A daemon that is not root does not use a folder that an earlier one as root created."""
    tmp_path.chmod(0o777)
    os.close(open_private(above, ".ours", FaultyFiles()))
    with (
        without_privileges(),
        pytest.raises(PermissionError, match=r"belongs to uid 0, and .* runs as uid 65534"),
    ):
        open_private(above, ".ours", FaultyFiles())


def test_file_system_that_assigns_owners(
    above: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all new files belong to another user (NFS, FUSE), folders may too."""
    monkeypatch.setattr("twisted_upload.disk.folders.os.geteuid", lambda: 4711)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert os.listdir(tmp_path / ".ours") == []


# -- inheritance --------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("before", [True, False])
def test_setgid(above: int, tmp_path: Path, before: bool) -> None:
    """In a setgid folder it has the same group and setgid, even if it was created without."""
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
    """A user outside the group inherits it, but cannot assign it to an existing folder."""
    os.chown(tmp_path, NOBODY, NOBODY)
    if before:
        with without_privileges():
            os.close(open_private(above, ".ours", FaultyFiles()))
        if inherited:  # the group, but not the bit, which the kernel would not set
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
    """The current default ACL of the parent applies to it too."""

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


# Folders that a start creates, and removes again if it fails


def made(path: Path) -> NewFolders:
    new = NewFolders(str(path), Files(), [".ours", ".ours/within"])
    new.make()
    (path / ".ours" / "within").mkdir(parents=True)
    return new


def test_removed(tmp_path: Path) -> None:
    """New folders are removed with their contents, and nothing else."""
    made(tmp_path / "one" / "two").remove()
    assert [*tmp_path.iterdir()] == []


def test_existing_folders_stay(tmp_path: Path) -> None:
    """A folder that existed before stays, and so does one that is not empty."""
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
    """A folder that another daemon uses by then stays."""
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
def test_files_of_other_users_stay(tmp_path: Path) -> None:
    """Files that other programs have put there by then are not removed."""
    new = made(tmp_path / "one")
    os.chown(tmp_path / "one" / ".ours", 65534, 65534)
    new.remove()
    assert (tmp_path / "one" / ".ours").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give folders to a group")
@pytest.mark.parametrize("umask", [0, 0o77])
def test_made_in_a_setgid_folder(tmp_path: Path, umask: int) -> None:
    """A folder created in a setgid folder inherits group and setgid, with any umask."""
    os.chown(tmp_path, -1, 1234)
    tmp_path.chmod(0o2775)
    before = os.umask(umask)
    try:
        NewFolders(str(tmp_path / "one" / "two"), Files()).make()
    finally:
        os.umask(before)
    for folder in tmp_path / "one", tmp_path / "one" / "two":
        status = folder.stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 0o2750)


def test_store_is_opened_twice(tmp_path: Path) -> None:
    """A store that is opened twice, as by twistd, still knows which folders it created."""
    store = open_store(tmp_path / "one" / "two", ManualDisk())
    store.open()
    store.undo()
    assert [*tmp_path.iterdir()] == []
