"""
The simulated file system: its calls.
"""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.simulation.filesystem import PROFILES, SimulatedFiles
from tests.simulation.filesystem.rig import FOLDER, SEEDS, World, raises
from tests.simulation.process import Process
from twisted_upload.disk.file_calls import FileCalls
from twisted_upload.disk.files import Files
from twisted_upload.observability.counters import DiskTimes

ALL = pytest.mark.parametrize("profile", [*PROFILES])
JOURNALS = pytest.mark.parametrize("profile", ["ext4", "xfs"])


# Locks and claims


def test_locks() -> None:
    """A lock is that of an open file: another one waits for it, and gets it at a death."""
    world = World("ext4")
    descriptor = world.write("a", b"x")
    assert world.files.lock(descriptor)
    again = world.files.duplicate(descriptor)
    assert world.files.lock(again)
    other = Process(world.scheduler, "other", world.machine)
    files: SimulatedFiles = world.system.files(other)
    file = files.open("/inbox/new/a", os.O_RDWR)
    assert not files.lock(file)
    assert not files.lock_shared(file)
    world.files.close(descriptor)
    assert not files.lock(file)
    got = []

    def waiting() -> None:
        files.wait_for_lock(file)
        got.append(world.scheduler.now)

    world.scheduler.spawn(waiting, other, "waiting")
    world.scheduler.call_later(5.0, world.process.kill)
    world.scheduler.run()
    assert got == [5.0]


def test_claims() -> None:
    """A claim is seen through other open files of the folder, not through duplicates."""
    world = World("ext4")
    world.files.claim(world.new, 7)
    assert not world.files.is_claimed(world.new)
    assert not world.files.is_claimed(world.files.duplicate(world.new), 7)
    other = world.files.open("/inbox/new", FOLDER)
    assert world.files.is_claimed(other, 7)
    assert world.files.is_claimed(other)
    assert not world.files.is_claimed(other, 8)
    world.files.unclaim(world.new, 7)
    assert not world.files.is_claimed(other)


# Splicing


class Socket:
    """A socket with bytes to be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, length: int) -> bytes:
        taken, self.data = self.data[:length], self.data[length:]
        return taken

    def release(self) -> None:
        pass


def test_splice() -> None:
    """Bytes move from a socket through a pipe into a file; what does not fit stays in the pipe."""
    world = World("ext4", capacity=2 * 4096)
    socket = world.process.descriptors.add(Socket(b"x" * 10_000))
    reading, writing = world.files.pipe()
    file = world.files.create(world.new, "a", 0o600)
    assert world.files.receive(socket, writing, 1 << 20) == 10_000
    assert world.files.receive(socket, writing, 1 << 20) == 0
    assert world.files.splice(reading, file, 10_000) == 8192
    raises(errno.ENOSPC, world.files.splice, reading, file, 10_000)
    assert world.files.read(reading, 10_000) == b"x" * (10_000 - 8192)
    assert world.files.links(file) == 1


# The rest


def test_all_calls_are_simulated() -> None:
    """No call of the real class reaches the kernel of this machine."""
    real = {name for it in (FileCalls, Files) for name in vars(it) if not name.startswith("_")}
    assert [it for it in real if getattr(SimulatedFiles, it) is getattr(Files, it)] == []


def test_descriptors_run_out() -> None:
    """Without a free file descriptor nothing is created; creating a file waits for one."""
    world = World("ext4")
    world.process.descriptors.limit = len(world.process.descriptors)
    raises(errno.EMFILE, world.files.open, "/inbox/a", os.O_RDWR | os.O_CREAT)
    assert world.system.names("/inbox") == ["new"]
    times = []

    def task() -> None:
        raises(errno.EMFILE, world.files.create, world.new, "a", 0o600)
        times.append(world.scheduler.now)

    world.scheduler.spawn(task, world.process, "task")
    world.scheduler.run()
    assert 2.0 <= times[0] <= 2.1
    assert world.system.names("/inbox/new") == []


def test_names_while_they_change() -> None:
    """A scan of a large folder does not return what was removed before the scan came to it."""
    world = World("ext4")
    names = [f"{number}" for number in range(1200)]
    for name in names:
        world.files.close(world.files.create(world.new, name, 0o600))
    with world.files.scan(world.new) as found:
        first = next(found)
        for name in names:
            world.files.unlink(world.new, name)
        left = [*found]
    assert len({first, *left}) == 500


def test_open_files_of_before_a_cut() -> None:
    """Closing what was open before a power cut changes nothing of what it has left."""
    world = World("ext4", inodes=100)
    world.write("a", b"content")
    world.files.unlink(world.new, "a")
    world.system.cut()
    before = world.system.space()
    world.process.kill()
    assert world.system.space() == before


@ALL
def test_space_after_a_cut(profile: str) -> None:
    """After a power cut, the space in use is that of the files that are left."""
    for seed in SEEDS:
        world = World(profile, seed, capacity=1 << 20, inodes=100)
        for name in "a", "b", "c":
            world.write(name, b"content" * 1000)
        world.publish("a")
        world.files.unlink(world.new, "b")
        world.files.fsync(world.new)
        world.cut()
        files = [inode for _, inode in world.system.walk()]
        space = world.system.space()
        assert space.all_inodes - space.inodes == 1 + len(files)
        pages = sum(-(-inode.size // 4096) for inode in files if stat.S_ISREG(inode.mode))
        assert space.total - space.free == pages * 4096
        assert len({inode.number for inode in files}) == len(files)


def test_other_users() -> None:
    """Where others may create files, a user can remove only those that are theirs."""
    world = World("ext4")
    world.system.plant_folder("/shared", owner=0, mode=0o1777)
    world.system.plant("/shared/a", b"secret", owner=7, mode=0o600)
    raises(errno.EACCES, world.files.open, "/shared/a", os.O_RDONLY)
    raises(errno.EPERM, world.files.remove, "/shared/a")
    world.files.close(world.files.open("/shared/b", os.O_RDWR | os.O_CREAT))
    world.files.remove("/shared/b")
    world.system.plant_folder("/closed", owner=7, mode=0o700)
    raises(errno.EACCES, world.files.status_of, "/closed/a")
    assert not world.files.can_write("/closed")
    assert world.files.can_write("/shared")


def test_times_are_told() -> None:
    """How long syncs take, in virtual time, is reported."""
    world = World("ext4")
    times = DiskTimes()
    files = world.system.files(world.process, times)
    descriptor = world.write("a", b"x")
    world.system.faults.slow("fsync", 2.0, 2.0)
    world.scheduler.spawn(lambda: files.fsync_all([descriptor]), world.process, "task")
    world.scheduler.run()
    *counts, total = times.fsync.sample()
    assert (sum(counts), total) == (1, 2.0)
