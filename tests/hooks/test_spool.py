"""
The queue of ``--on-upload``, as the next daemon finds it.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.hook_markers import (
    failed,
    hooked_folder,
    marked,
    queue_of,
    store_marked,
    waiting,
)
from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.marked_file import sha256_of
from twisted_upload.hooks.orphans import kill_orphans
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING
from twisted_upload.hooks.spool_scan import _Scan, scan
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import Folder

MOMENT = MILLISECONDS, 0
NAME = f"{MILLISECONDS}.bin"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return hooked_folder(tmp_path)


def names(folder: Folder, most: int = 100) -> list[str]:
    """Return the files of the markers that are found."""
    return [marker.name for marker in scan(queue_of(folder), most, ()).markers]


def owners(path: Path) -> list[str]:
    """Return the locks of the processes that have the queue open."""
    return [name for name in os.listdir(path / HOOKS) if name.startswith("owner-")]


def test_layout(folder: Folder, tmp_path: Path) -> None:
    """There is one more hidden folder; without programs there is none."""
    assert sorted(os.listdir(tmp_path)) == [".incoming", HOOKS]
    assert sorted(os.listdir(tmp_path / HOOKS)) == [FAILED, *owners(tmp_path), WAITING]
    assert (tmp_path / HOOKS).stat().st_mode & 0o777 == 0o700


def test_cannot_be_used(tmp_path: Path) -> None:
    """Another file in its place is an error of one line."""
    (tmp_path / HOOKS).write_text("a file")
    with pytest.raises(CannotStart, match=rf"cannot use {tmp_path}/{HOOKS}: Not a directory"):
        hooked_folder(tmp_path)


def test_not_found_before_the_answer(folder: Folder) -> None:
    """A marker is not found before its upload is stored and its sender answered."""
    part, marker = marked(folder, MOMENT)
    commit_one(folder, part, [b"hello"])
    assert names(folder) == []
    queue_of(folder).release(marker)
    assert names(folder) == [NAME]


def test_known_markers_are_not_found(folder: Folder) -> None:
    """Known markers are not found again."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    queue_of(folder).release(marker)
    assert scan(queue_of(folder), 10, {marker.identity}).markers == []


def test_order_and_number(folder: Folder) -> None:
    """A scan finds the requested number of the oldest, and whether there are more."""
    moments = [(MILLISECONDS + n // 3, n) for n in range(12)]
    for moment in reversed(moments):
        _, marker = store_marked(folder, moment, b"x")
        queue_of(folder).release(marker)
    found = scan(queue_of(folder), 5, ())
    identities = [marker.identity[:20] for marker in found.markers]
    assert identities == [f"{ms}-{serial:06d}" for ms, serial in moments[:5]]
    assert found.more
    assert not scan(queue_of(folder), 12, ()).more


def test_removed(folder: Folder, tmp_path: Path) -> None:
    """A removed marker is not found again; removing it twice is no error."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    held = queue_of(folder).lock(marker, kill_orphans)
    assert held is not None
    os.close(held)
    queue_of(folder).remove(marker)
    queue_of(folder).remove(marker)
    with pytest.raises(FileNotFoundError):
        queue_of(folder).lock(marker, kill_orphans)
    assert waiting(tmp_path) == []


# -- after a crash ------------------------------------------------------------


def test_taken_over(folder: Folder, tmp_path: Path) -> None:
    """The next daemon finds what a dead one left, and takes it over."""
    store_marked(folder, MOMENT, b"hello")
    other = hooked_folder(tmp_path)
    assert names(other) == []
    owner = queue_of(folder).owner
    _die(folder)
    assert names(other) == [NAME]
    assert owner not in waiting(tmp_path)[0].split(".")
    assert names(other) == [NAME]
    assert len(owners(tmp_path)) == 1


def test_lock_cannot_be_checked(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken over from an owner whose lock cannot be checked, until it can."""
    store_marked(folder, MOMENT, b"hello")
    other = hooked_folder(tmp_path)
    _die(folder)
    real = os.open

    def fail(path: str, *arguments: Any, **more: Any) -> int:
        if path.startswith("owner-"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        assert names(other) == []
    assert names(other) == [NAME]


def test_killed(tmp_path: Path) -> None:
    """A real process is killed with SIGKILL during one upload and after another."""
    program = """
import os, signal, sys
from pathlib import Path
from tests.support.hook_markers import *
folder = hooked_folder(Path(sys.argv[1]))
store_marked(folder, (1795328130123, 0), b"hello")
part, marker = marked(folder, (1795328130123, 1))
part.finish([b"unfinished"])
part.mark()
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    assert len(waiting(tmp_path)) == 2
    folder = hooked_folder(tmp_path)
    found = scan(queue_of(folder), 10, ())
    assert ([marker.name for marker in found.markers], found.gone) == ([NAME], 1)
    assert len(waiting(tmp_path)) == 1


def test_two_take_over(folder: Folder, tmp_path: Path) -> None:
    """If two daemons find the same marker, only one gets it."""
    for serial in range(20):
        store_marked(folder, (MILLISECONDS, serial), b"hello")
    others = [hooked_folder(tmp_path) for _ in range(2)]
    _die(folder)
    scans = [_Scan(queue_of(other)) for other in others]
    listed = [list(one._names(())[1]) for one in scans]
    assert listed[0] == listed[1]
    taken = [[marker for name in listed[0] if (marker := one._take(name))] for one in scans]
    assert [len(one) for one in taken] == [20, 0]


def test_published_under_another_name(folder: Folder, tmp_path: Path) -> None:
    """A file that was published under another name is found, and no unrelated file."""
    (tmp_path / NAME).write_bytes(b"a stranger's")
    store_marked(folder, MOMENT, b"one")
    store_marked(folder, (MILLISECONDS, 1), b"two")
    other = hooked_folder(tmp_path)
    _die(folder)
    assert names(other) == [f"{MILLISECONDS}-1.bin", f"{MILLISECONDS}-2.bin"]


def test_file_removed(folder: Folder, tmp_path: Path) -> None:
    """A marker whose file was removed or replaced is removed."""
    for serial in range(3):
        store_marked(folder, (MILLISECONDS, serial), b"hello")
    (tmp_path / NAME).unlink()
    os.replace(tmp_path / f"{MILLISECONDS}-1.bin", tmp_path / "elsewhere")
    other = hooked_folder(tmp_path)
    _die(folder)
    found = scan(queue_of(other), 10, ())
    assert [marker.name for marker in found.markers] == [f"{MILLISECONDS}-2.bin"]
    assert found.gone == 2
    assert len(waiting(tmp_path)) == 1


def test_changed_in_place(folder: Folder, tmp_path: Path) -> None:
    """A file that was modified in place is still the same file."""
    store_marked(folder, MOMENT, b"hello")
    (tmp_path / NAME).write_bytes(b"other and more")
    other = hooked_folder(tmp_path)
    _die(folder)
    assert names(other) == [NAME]


def test_unstable_inodes(folder: Folder, tmp_path: Path) -> None:
    """On a file system with unstable inodes, a file is recognized by size and time."""
    for serial in range(2):
        store_marked(folder, (MILLISECONDS, serial), b"hello" * (serial + 1))
    other = hooked_folder(tmp_path)
    _die(folder)
    for name in waiting(tmp_path):
        path = tmp_path / HOOKS / WAITING / name
        facts = json.loads(path.read_text())
        facts["inode"] += 1_000_000
        facts["marker"] += 1_000_000
        path.write_text(json.dumps(facts) + "\n")
    (tmp_path / f"{MILLISECONDS}-1.bin").write_bytes(b"x")
    assert names(other) == [NAME]


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "{",
        "[]",
        "5",
        "{}",
        '{"name": 5}',
        "\xff",
        '{"name": "../x", "listener": "", "peer": "", "size": 1, "inode": 1, "modified": 1,'
        ' "arrived": 1, "sha256": null, "marker": 1}',
    ],
)
def test_unreadable(folder: Folder, tmp_path: Path, text: str) -> None:
    """An invalid marker is set aside, and no program is started for it."""
    store_marked(folder, MOMENT, b"hello")
    (name,) = waiting(tmp_path)
    (tmp_path / HOOKS / WAITING / name).write_bytes(text.encode("latin-1") + b"\n")
    other = hooked_folder(tmp_path)
    _die(folder)
    found = scan(queue_of(other), 10, ())
    assert (found.markers, [one.aside for one in found.bad]) == ([], [True])
    assert len(failed(tmp_path)) == queue_of(other).count_set_aside() == 1


@pytest.mark.parametrize("length", [0, 1, 100])
def test_killed_while_writing(folder: Folder, tmp_path: Path, length: int) -> None:
    """A marker that was not completely written has no file, and is removed."""
    part, _ = marked(folder, MOMENT)
    part.finish([b"hello"])
    part.mark()
    (name,) = waiting(tmp_path)
    os.truncate(tmp_path / HOOKS / WAITING / name, length)
    other = hooked_folder(tmp_path)
    _die(folder)
    found = scan(queue_of(other), 10, ())
    assert (found.markers, found.gone, found.bad) == ([], 1, [])
    assert (waiting(tmp_path), failed(tmp_path)) == ([], [])
    part.discard()


def test_foreign_files(folder: Folder, tmp_path: Path) -> None:
    """Files without the name of a marker are ignored."""
    (tmp_path / HOOKS / WAITING / "notes.txt").write_text("a stranger's")
    (tmp_path / HOOKS / FAILED / "notes.txt").write_text("a stranger's")
    assert scan(queue_of(folder), 10, ()).markers == []
    assert queue_of(folder).count_set_aside() == 0
    assert waiting(tmp_path) == ["notes.txt"]


# -- owners -------------------------------------------------------------------


def test_locks_of_dead_processes(tmp_path: Path) -> None:
    """Opening the queue removes the locks of dead processes, and no others."""
    folder = hooked_folder(tmp_path)
    (tmp_path / HOOKS / "owner-0123456789ab").touch()
    other = hooked_folder(tmp_path)
    mine = {f"owner-{queue_of(one).owner}" for one in (folder, other)}
    assert {*owners(tmp_path)} == mine


def test_lock_removed_before_locking(tmp_path: Path) -> None:
    """A lock file that was removed before it was locked is created again."""
    files = FaultyFiles()
    real = files.lock
    removed: list[str] = []

    def lock(descriptor: int) -> bool:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if "owner-" in path and not removed:
            removed.append(path)
            os.unlink(path)
        return real(descriptor)

    files.lock = lock  # type: ignore[method-assign]
    folder = hooked_folder(tmp_path, files)
    assert removed
    assert owners(tmp_path) == [f"owner-{queue_of(folder).owner}"]


def test_removed_lock(folder: Folder, tmp_path: Path) -> None:
    """If its lock is removed, a live process creates it again at the next scan."""
    owner = f"owner-{queue_of(folder).owner}"
    store_marked(folder, MOMENT, b"hello")
    other = hooked_folder(tmp_path)
    for there in ("nothing", "another file"):
        (tmp_path / HOOKS / owner).unlink()
        if there != "nothing":
            (tmp_path / HOOKS / owner).touch()
        assert names(folder, most=0) == []
        assert names(other) == []
        assert len(owners(tmp_path)) == 2
    _die(folder)
    assert names(other) == [NAME]
    assert len(owners(tmp_path)) == 1


@pytest.mark.parametrize("durable", [True, False])
def test_marker_removed_too_early(tmp_path: Path, durable: bool) -> None:
    """
    If other processes took the daemon for dead and removed the marker of an unfinished
    upload, it is written again, equally durable, before its file is published.
    """
    files = FaultyFiles()
    real = files.fsync
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(_path(str(descriptor)))
        real(descriptor)

    folder = hooked_folder(tmp_path, files, durable=durable)
    files.fsync = fsync  # type: ignore[method-assign]
    part, marker = marked(folder, MOMENT)
    part.finish([b"hello"])
    part.mark()
    (tmp_path / HOOKS / f"owner-{queue_of(folder).owner}").unlink()
    other = hooked_folder(tmp_path)
    found = scan(queue_of(other), 10, ())
    assert (found.markers, found.gone, waiting(tmp_path)) == ([], 1, [])
    real_rename = files.rename
    place = str(tmp_path / HOOKS / WAITING)

    def rename(source: int, name: str, target: int, new_name: str) -> None:
        (marker_name,) = waiting(tmp_path)
        assert synced == ([f"{place}/{marker_name}", place] if durable else [])
        real_rename(source, name, target, new_name)

    files.rename = rename  # type: ignore[method-assign]
    part.publish()
    marker.stored_as(part.stored_file().name)
    held = queue_of(folder).lock(marker, kill_orphans)
    assert held is not None
    assert sha256_of(queue_of(folder), marker) is not None
    os.close(held)
    queue_of(folder).release(marker)
    assert names(folder) == [NAME]


def test_lock_cannot_be_recreated(folder: Folder, tmp_path: Path) -> None:
    """If that fails, it is reported, and the rest of the scan continues."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    queue_of(folder).release(marker)
    owner = tmp_path / HOOKS / f"owner-{queue_of(folder).owner}"
    owner.unlink()
    owner.mkdir()
    found = scan(queue_of(folder), 10, ())
    assert [one.name for one in found.markers] == [NAME]
    assert found.error is not None
    assert found.error.errno == errno.EISDIR
    owner.rmdir()
    assert scan(queue_of(folder), 10, ()).error is None
    assert sorted(os.listdir(tmp_path / HOOKS)) == [FAILED, owner.name, WAITING]


def _die(folder: Folder) -> None:
    """Release the lock, as by death."""
    (tmp_path,) = {os.path.join(folder.path, HOOKS)}
    (lock,) = (
        int(one)
        for one in os.listdir("/proc/self/fd")
        if _path(one) == f"{tmp_path}/owner-{queue_of(folder).owner}"
    )
    # The file descriptor stays open, so that its owner can still close it.
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, lock, inheritable=False)
    os.close(null)


def _path(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""
