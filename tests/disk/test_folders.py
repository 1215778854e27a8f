"""
Folders of ours inside a drop folder.
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

from twisted_upload.disk.folders import open_private
from twisted_upload.testing import FaultyFiles

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
        ".ours belongs to uid 1001, and this daemon runs as uid 0: chown -R it if an earlier"
        " daemon of yours made it, otherwise remove it"
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
