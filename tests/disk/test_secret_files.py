"""Files that decide who may upload: who may write them, and how they are replaced."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from twisted_upload.disk import secret_files
from twisted_upload.disk.files import Files
from twisted_upload.disk.secret_files import (
    LARGEST_SECRET_FILE,
    change_secret_file,
    read_secret_file,
)
from twisted_upload.disk.testing import FaultyFiles

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_bytes(b"old")
    path.chmod(0o600)
    return path


def change(path: Path, content: bytes, files: Files | None = None, *, private: bool = True) -> None:
    change_secret_file(str(path), lambda _: content, files or Files(), private=private)


@pytest.mark.parametrize(
    ("mode", "public", "private"),
    [
        (0o600, True, True),
        (0o400, True, True),
        (0o640, True, True),
        (0o644, True, False),
        (0o620, False, False),
        (0o602, False, False),
        (0o601, True, False),
    ],
)
def test_permissions(path: Path, mode: int, public: bool, private: bool) -> None:
    """No other user may write it; others may not read a private one, but its group may."""
    path.chmod(mode)
    for is_private, accepted in ((False, public), (True, private)):
        if accepted:
            assert read_secret_file(str(path), Files(), private=is_private) == b"old"
        else:
            with pytest.raises(ValueError, match="other users may"):
                read_secret_file(str(path), Files(), private=is_private)


@ROOT
def test_owner(path: Path) -> None:
    """A file of another user is not used, neither for reading nor for a change."""
    os.chown(path, 65534, -1)
    with pytest.raises(ValueError, match="it belongs to uid 65534"):
        read_secret_file(str(path), Files(), private=True)
    with pytest.raises(ValueError, match="it belongs to uid 65534"):
        change(path, b"new")
    assert path.read_bytes() == b"old"


def test_too_large(path: Path) -> None:
    """A file of any other size is not read completely."""
    os.truncate(path, LARGEST_SECRET_FILE)
    assert len(read_secret_file(str(path), Files(), private=True)) == LARGEST_SECRET_FILE
    os.truncate(path, LARGEST_SECRET_FILE + 1)
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_secret_file(str(path), Files(), private=True)


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_change(path: Path, mode: int) -> None:
    """The new content has a new file with the permissions of the old one; nothing is left."""
    path.chmod(mode)
    before = path.stat()
    change_secret_file(str(path), lambda old: old + b", new", Files(), private=True)
    after = path.stat()
    assert path.read_bytes() == b"old, new"
    assert before.st_ino != after.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid,
        before.st_gid,
        before.st_mode,
    )
    assert os.listdir(path.parent) == [path.name]


@ROOT
def test_owner_stays(path: Path) -> None:
    """A change by root leaves the group of the daemon that reads it."""
    os.chown(path, 0, 65534)
    change(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 65534)


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_new(tmp_path: Path, private: bool, mode: int) -> None:
    """A missing file is created, readable by others only if it is not private."""
    mask = os.umask(0o022)
    try:
        change(tmp_path / "new", b"x", private=private)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def test_link(path: Path, tmp_path: Path) -> None:
    """A symbolic link stays one: what it points to is replaced."""
    link = tmp_path / "link"
    link.symlink_to(path)
    change(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["create", "write", "fsync", "replace", "chmod"])
def test_failure(path: Path, call: str) -> None:
    """If anything fails before the end, the old content is there, and nothing else."""
    files = FaultyFiles()
    files.fail(call, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        change(path, b"new", files)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_failure_of_a_new_file(tmp_path: Path) -> None:
    """If a new file cannot be written, there is none."""
    files = FaultyFiles()
    files.fail("fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        change(tmp_path / "new", b"x", files)
    with pytest.raises(ZeroDivisionError):
        change_secret_file(str(tmp_path / "new"), lambda _: b"%d" % (1 // 0), Files(), private=True)
    assert os.listdir(tmp_path) == []


def test_durable(path: Path) -> None:
    """The file is synced before it is renamed, and its folder after that."""
    calls: list[str] = []

    class Recording(Files):
        def fsync(self, descriptor: int) -> None:
            calls.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync")

        def replace(self, source: int, name: str, target: int, new_name: str) -> None:
            calls.append("replace")
            super().replace(source, name, target, new_name)

    change(path, b"new", Recording())
    assert calls == ["fsync", "replace", "fsync folder"]


def test_together(path: Path) -> None:
    """No change is lost if several are made at the same time."""
    path.write_bytes(b"")

    def add(number: int) -> None:
        change_secret_file(str(path), lambda old: old + b"%d\n" % number, Files(), private=True)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, path.read_bytes().split())) == [*range(12)]


def test_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process has it locked for too long, the change fails."""
    monkeypatch.setattr(secret_files, "LOCK_TIME", 0.05)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="another command is changing it"):
            change(path, b"new")
    assert path.read_bytes() == b"old"


def test_replaced_before_it_is_locked(path: Path) -> None:
    """A change that another process makes between opening and locking the file is not lost."""

    class Interrupted(Files):
        interrupted = False

        def lock(self, descriptor: int) -> bool:
            if not self.interrupted:
                self.interrupted = True
                change_secret_file(str(path), lambda old: old + b", other", Files(), private=True)
            return super().lock(descriptor)

    change_secret_file(str(path), lambda old: old + b", ours", Interrupted(), private=True)
    assert path.read_bytes() == b"old, other, ours"
