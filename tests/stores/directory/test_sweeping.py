"""
A drop folder is swept when a daemon starts: leftovers of dead daemons are removed, and
nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import LEFTOVER, leave_unlocked, open_drop_folder
from tests.support.stores import contents, leftovers
from twisted_upload.disk.files import Files
from twisted_upload.stores.directory.folder import INCOMING, sweep


def test_leftovers_of_the_dead(incoming: Path) -> None:
    """Unfinished files of a dead daemon are removed at the next start."""
    for number in range(3):
        (incoming / f"upload-0123456789ab-{number}").write_bytes(b"half a file")
    open_drop_folder(incoming.parent)
    assert leftovers(incoming.parent) == []


def test_of_the_living(incoming: Path) -> None:
    """Files that a living daemon of another process has locked stay."""
    (incoming / LEFTOVER).write_bytes(b"on its way")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\n"
            "file = open(sys.argv[1], 'r+b')\n"
            "fcntl.flock(file, fcntl.LOCK_EX)\n"
            "print('locked', flush=True)\n"
            "sys.stdin.read()\n",
            str(incoming / LEFTOVER),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        open_drop_folder(incoming.parent)
        assert (incoming / LEFTOVER).read_bytes() == b"on its way"
        holder.kill()
    open_drop_folder(incoming.parent)
    assert leftovers(incoming.parent) == []


def test_of_the_living_in_this_process(incoming: Path) -> None:
    """Files that another store of this process has locked stay."""
    with (incoming / LEFTOVER).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        open_drop_folder(incoming.parent)
        assert leftovers(incoming.parent) == [LEFTOVER]
    open_drop_folder(incoming.parent)
    assert leftovers(incoming.parent) == []


def test_closed_but_not_published(inbox: Path) -> None:
    """
    A file that a living daemon has closed stays though it is not locked; it is removed
    when the daemon is dead.
    """
    living = open_drop_folder(inbox)
    name = leave_unlocked(living)
    open_drop_folder(inbox)
    assert leftovers(inbox) == [name]
    del living
    open_drop_folder(inbox)
    assert leftovers(inbox) == []


def test_the_dead_beside_the_living(inbox: Path) -> None:
    """Leftovers of one daemon are removed even if another one lives."""
    living, dead = open_drop_folder(inbox), open_drop_folder(inbox)
    names = [leave_unlocked(living), leave_unlocked(dead)]
    del dead
    open_drop_folder(inbox)
    assert leftovers(inbox) == names[:1]
    del living
    open_drop_folder(inbox)
    assert leftovers(inbox) == []


def test_a_daemon_that_is_stopped(inbox: Path) -> None:
    """Files of another process stay while it lives, even if it is suspended."""
    inbox.mkdir()
    program = """
import os, signal, sys
from pathlib import Path
from tests.support.folders import leave_unlocked, open_drop_folder
folder = open_drop_folder(Path(sys.argv[1]))
print(leave_unlocked(folder), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
    other = subprocess.Popen([sys.executable, "-c", program, inbox], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        name = other.stdout.readline().decode().strip()
        os.waitid(os.P_PID, other.pid, os.WSTOPPED)
        open_drop_folder(inbox)
        assert leftovers(inbox) == [name]
    finally:
        other.kill()
        other.communicate()
    open_drop_folder(inbox)
    assert leftovers(inbox) == []


def test_without_claims(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel has no such locks, the folder works, and a locked file still stays."""

    def fcntl_without(*_: object) -> bytes:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("twisted_upload.disk.files.fcntl.fcntl", fcntl_without)
    living = open_drop_folder(inbox)
    name = leave_unlocked(living)
    with (inbox / INCOMING / name).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        open_drop_folder(inbox)
        assert leftovers(inbox) == [name]
    open_drop_folder(inbox)
    assert leftovers(inbox) == []


@pytest.mark.parametrize(
    "name",
    [
        "upload-0123456789ab-0.bak",
        "upload-0123456789AB-0",
        "upload-short-0",
        "my-upload-0123456789ab-0",
        "upload-0123456789ab-0\n",
        "photo.jpg",
    ],
)
def test_foreign_files(incoming: Path, name: str) -> None:
    """A file that is not named as ours are is not removed."""
    (incoming / name).write_bytes(b"not ours")
    open_drop_folder(incoming.parent)
    assert (incoming / name).read_bytes() == b"not ours"
    (incoming / name).unlink()


def test_final_files(incoming: Path) -> None:
    """Nothing in the folder itself is touched, whatever its name."""
    for name in LEFTOVER, "1795328130123.jpg", ".hidden":
        (incoming.parent / name).write_bytes(b"stored")
    open_drop_folder(incoming.parent)
    assert len(contents(incoming.parent)) == 3


def test_linked_leftover(incoming: Path) -> None:
    """After a crash between link and unlink, the temporary name is removed, and the file stays."""
    (incoming / LEFTOVER).write_bytes(b"whole")
    os.link(incoming / LEFTOVER, incoming.parent / "1795328130123.jpg")
    open_drop_folder(incoming.parent)
    assert contents(incoming.parent) == {"1795328130123.jpg": b"whole"}
    assert leftovers(incoming.parent) == []


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_not_a_file(incoming: Path, tmp_path: Path, what: str) -> None:
    """
    Something that has the name of a leftover but is no file neither blocks nor fails the
    start.
    """
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    if what == "link":
        (incoming / LEFTOVER).symlink_to(outside)
    elif what == "folder":
        (incoming / LEFTOVER).mkdir()
    else:
        os.mkfifo(incoming / LEFTOVER)
    try:
        open_drop_folder(incoming.parent)
        assert outside.read_bytes() == b"not ours"
    finally:
        if what == "folder":
            (incoming / LEFTOVER).rmdir()
        else:
            (incoming / LEFTOVER).unlink(missing_ok=True)


def test_vanishing_leftovers(incoming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two daemons that start at once may sweep the same leftovers."""
    (incoming / LEFTOVER).write_bytes(b"half a file")
    listing = [LEFTOVER, "upload-0123456789ab-1"]
    monkeypatch.setattr("twisted_upload.stores.directory.folder.os.listdir", lambda _: listing)
    descriptor = os.open(incoming, os.O_RDONLY)
    try:
        assert sweep(Files(), descriptor) == 1
        assert sweep(Files(), descriptor) == 0
    finally:
        os.close(descriptor)
