"""
Owner, group and permissions of stored files: each row of the table in
docs/operations/files.md.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.support.daemon import SUCCESS, Daemon, run_twistd
from tests.support.stores import ARRIVAL, MILLISECONDS, Rig
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import StoreFailed
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import INCOMING, Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.health import SELF_TEST_INTERVAL

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to a group")
needs_acl = pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl")

TEAM, ANNA = 1234, 1001

Umask = Callable[[int], int]


@pytest.fixture
def umask() -> Iterator[Umask]:
    """Set the umask for the duration of the test."""
    before = os.umask(0o22)
    yield os.umask
    os.umask(before)


def opened(path: Path, mode: int = 0o640, *, by_rename: bool = True) -> Folder:
    files = FaultyFiles()
    if not by_rename:
        files.fail("rename", errno.EINVAL)
    return open_folder(str(path), files=files, suffix=lambda _: "", mode=mode)


def stored(folder: Folder) -> Iterator[Path]:
    """Store a small file and a large one, which are created in different ways."""
    for serial, pieces in enumerate([[], [b"large"]]):
        part = PartialFile(folder, (MILLISECONDS, serial), digest=False)
        for piece in pieces:
            part.append([piece])
        yield Path(folder.path) / commit_one(folder, part, [b"x"]).name


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def share(folder: Path) -> None:
    """Share a folder with a team."""
    os.chown(folder, -1, TEAM)
    folder.chmod(0o2770)


def set_acl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["setfacl", *arguments, folder], check=False)
    if done.returncode:
        pytest.skip("needs a file system with ACLs")


def may(path: Path) -> str:
    """Return what an ACL grants Anna: ``rw-``, or nothing if it does not name her."""
    done = subprocess.run(["getfacl", "-cnpe", path], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        if line.startswith(f"user:{ANNA}:"):
            return line.partition("effective:")[2].strip() or line.split(":")[2].split()[0]
    return ""


@pytest.mark.parametrize("mask", [0, 0o22, 0o77])
@pytest.mark.parametrize("mode", [0o400, 0o640, 0o666])
@pytest.mark.parametrize("by_rename", [True, False])
def test_mode(tmp_path: Path, umask: Umask, mask: int, mode: int, by_rename: bool) -> None:
    """The permissions of a file are those of --mode, with any umask."""
    umask(mask)
    for path in stored(opened(tmp_path, mode, by_rename=by_rename)):
        assert mode_of(path) == mode
        assert path.stat().st_uid == os.geteuid()


@needs_root
def test_no_setgid(tmp_path: Path) -> None:
    """Its group is the daemon's, not that of the directory."""
    share(tmp_path)
    tmp_path.chmod(0o770)
    for path in stored(opened(tmp_path)):
        assert path.stat().st_gid == os.getegid()


@needs_root
@pytest.mark.parametrize("mask", [0, 0o77])
@pytest.mark.parametrize("by_rename", [True, False])
def test_setgid(tmp_path: Path, umask: Umask, mask: int, by_rename: bool) -> None:
    """In a setgid directory its group is that of the directory, with the same permissions."""
    umask(mask)
    share(tmp_path)
    for path in stored(opened(tmp_path, 0o660, by_rename=by_rename)):
        assert (path.stat().st_gid, mode_of(path)) == (TEAM, 0o660)


@needs_root
def test_setgid_later(tmp_path: Path) -> None:
    """If a directory becomes setgid, that takes effect at the next start."""
    opened(tmp_path)
    share(tmp_path)
    for path in stored(opened(tmp_path)):
        assert path.stat().st_gid == TEAM


@needs_root
def test_setgid_of_a_foreign_group() -> None:
    """The daemon need not be in the group, but must have created .incoming after the change."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        inbox = folder / "inbox"
        inbox.mkdir()
        os.chown(inbox, 65534, 65534)
        general = ("--uid=65534", "--gid=65534")
        with Daemon(folder, general=general) as daemon:
            assert daemon.send(b"before") == SUCCESS
            assert [file.stat().st_gid for file in daemon.files()] == [65534]
        share(inbox)
        result = run_twistd(
            folder, "-n", "--pidfile=", *general, "upload", "--port=0", f"--directory={inbox}"
        )
        assert "remove it while no daemon is running; it will be recreated" in result.stderr
        shutil.rmtree(inbox / INCOMING)
        with Daemon(folder, general=general) as daemon:
            for content in b"small", bytes(1_000_000):
                assert daemon.send(content) == SUCCESS
            assert sorted(file.stat().st_gid for file in daemon.files()) == [TEAM, TEAM, 65534]


@needs_acl
@pytest.mark.parametrize(
    ("mode", "access"), [(0o600, "---"), (0o640, "r--"), (0o660, "rw-"), (0o666, "rw-")]
)
@pytest.mark.parametrize("mask", [0, 0o77])
def test_default_acl(tmp_path: Path, umask: Umask, mode: int, access: str, mask: int) -> None:
    """A file has the entries of a default ACL, within what --mode grants to the group."""
    umask(mask)
    set_acl(tmp_path, "-dm", f"u:{ANNA}:rw")
    for path in stored(opened(tmp_path, mode)):
        assert (mode_of(path), may(path)) == (mode, access)


@needs_acl
@pytest.mark.parametrize("entries", [f"u:{ANNA}:rw,m::r", f"u:{ANNA}:rw,m::-", "g::-", "o::rwx"])
def test_narrow_default_acl(tmp_path: Path, entries: str) -> None:
    """The mask of a default ACL does not affect --mode, whether it grants less or more."""
    set_acl(tmp_path, "-dm", entries)
    for path in stored(opened(tmp_path, 0o660)):
        assert mode_of(path) == 0o660
        assert may(path) == ("rw-" if str(ANNA) in entries else "")


@needs_acl
def test_default_acl_later(tmp_path: Path) -> None:
    """A new default ACL takes effect at the next start, and so does its removal."""
    folder = opened(tmp_path)
    set_acl(tmp_path, "-dm", f"u:{ANNA}:r")
    for path in stored(folder):
        assert may(path) == ""
        path.unlink()
    for path in stored(opened(tmp_path)):
        assert may(path) == "r--"
        path.unlink()
    set_acl(tmp_path, "-k")
    for path in stored(opened(tmp_path)):
        assert may(path) == ""


@needs_root
@needs_acl
def test_setgid_and_default_acl(tmp_path: Path) -> None:
    """Both take effect."""
    share(tmp_path)
    set_acl(tmp_path, "-dm", f"u:{ANNA}:r")
    for path in stored(opened(tmp_path)):
        assert (path.stat().st_gid, mode_of(path), may(path)) == (TEAM, 0o640, "r--")


@needs_root
@needs_acl
def test_unfinished_files_are_private(tmp_path: Path) -> None:
    """No other user can enter .incoming, in any directory."""
    share(tmp_path)
    set_acl(tmp_path, "-m", f"d:u:{ANNA}:rwx,u:{ANNA}:rwx")
    opened(tmp_path)
    assert mode_of(tmp_path / INCOMING) == 0o2700
    assert may(tmp_path / INCOMING) == "---"


@needs_root
def test_new_directory(tmp_path: Path, umask: Umask) -> None:
    """A directory that the daemon creates has mode 0750, with the group of a setgid parent."""
    umask(0o77)
    opened(tmp_path / "plain")
    assert mode_of(tmp_path / "plain") == 0o750
    share(tmp_path)
    for path in stored(opened(tmp_path / "team")):
        assert path.stat().st_gid == TEAM
    assert mode_of(tmp_path / "team") == 0o2750


def test_without_acls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without ACLs is no error."""

    def none(*_: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("twisted_upload.disk.folders.os.getxattr", none)
    folder = open_folder(str(tmp_path), files=Files(), suffix=lambda _: "")
    for path in stored(folder):
        assert mode_of(path) == 0o640


@needs_root
def test_incoming_of_another_user_at_run_time(tmp_path: Path) -> None:
    """
    If .incoming is removed while the daemon runs, and another user creates a new one, it is
    not used, and the log says why nothing is stored.
    """
    rig = Rig(tmp_path)
    with capturedLogs() as events:
        shutil.rmtree(tmp_path / INCOMING)
        (tmp_path / INCOMING).mkdir()
        os.chown(tmp_path / INCOMING, ANNA, ANNA)
        incoming = rig.store.begin(ARRIVAL, lambda _: None)
        incoming.write(b"something")
        ended: list[object] = []
        incoming.commit().addBoth(ended.append)
        rig.disk.work()
        rig.clock.advance(SELF_TEST_INTERVAL)
        rig.disk.work()
    (failure,) = ended
    assert isinstance(failure, Failure)
    assert failure.check(StoreFailed)
    assert not rig.store.health.well
    assert [*(tmp_path / INCOMING).iterdir()] == []
    assert rig.stored == {}
    why = str(events[-1]["error"])
    assert f"{INCOMING} belongs to uid {ANNA}, and this daemon runs as uid 0" in why
    (tmp_path / INCOMING).rmdir()
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert rig.store.health.well
    rig.close()
