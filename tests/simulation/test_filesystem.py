"""
The simulated file system: its calls, what syncs make durable, what power cuts leave, faults.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from math import inf

import pytest

from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES, FileSystem, SimulatedFiles
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Killed, Scheduler
from twisted_upload.disk.file_calls import FileCalls
from twisted_upload.disk.files import Files
from twisted_upload.observability.counters import DiskTimes

FOLDER = os.O_RDONLY | os.O_DIRECTORY
ALL = pytest.mark.parametrize("profile", [*PROFILES])
JOURNALS = pytest.mark.parametrize("profile", ["ext4", "xfs"])
SEEDS = range(60)


class World:
    """A file system with one process, and a durable folder ``/inbox`` with ``new`` in it."""

    def __init__(self, profile: str, seed: int = 1, **more: int) -> None:
        choices = Choices(seed)
        self.scheduler = Scheduler(choices.fork("scheduler"))
        self.system = FileSystem(self.scheduler, choices.fork("files"), PROFILES[profile], **more)
        self.system.plant_folder("/inbox/new")
        self.machine = Machine("here")
        self.start()

    def start(self) -> None:
        """Start a process."""
        self.process = Process(self.scheduler, "daemon", self.machine)
        self.files = self.system.files(self.process)
        self.inbox = self.files.open("/inbox", FOLDER)
        self.new = self.files.open("/inbox/new", FOLDER)

    def cut(self) -> None:
        """Let the power fail, and start again."""
        self.process.kill()
        self.system.cut()
        self.start()

    def write(self, name: str, content: bytes) -> int:
        """Write a file in ``new``, without a sync."""
        descriptor = self.files.create(self.new, name, 0o600)
        assert self.files.write(descriptor, content) == len(content)
        return descriptor

    def publish(self, name: str) -> None:
        """Move a file from ``new`` to the inbox."""
        try:
            self.files.rename(self.new, name, self.inbox, name)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.files.link(self.new, name, self.inbox, name)
            self.files.unlink(self.new, name)

    def seen(self, path: str) -> bytes | None:
        """Return the content of a file, if it exists."""
        return self.system.content(path) if self.system.exists(path) else None


def outcomes(profile: str, script: Callable[[World], object], *paths: str) -> set[object]:
    """Return what is found at paths after power cuts at the end of a script."""
    found: set[object] = set()
    for seed in SEEDS:
        world = World(profile, seed)
        script(world)
        world.cut()
        seen = tuple(world.seen(path) for path in paths)
        found.add(seen if len(paths) > 1 else seen[0])
    return found


def raises(number: int, call: Callable[..., object], *arguments: object, **more: object) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        call(*arguments, **more)
    assert caught.value.errno == number


# What is durable


@ALL
def test_the_write_path(profile: str) -> None:
    """What has been written, synced, published and synced as a name is there after a cut."""

    def script(world: World) -> None:
        descriptor = world.write("a", b"content")
        world.files.fsync(descriptor)
        world.publish("a")
        world.files.fsync(world.inbox)

    assert outcomes(profile, script, "/inbox/a") == {b"content"}


@ALL
def test_content_without_sync(profile: str) -> None:
    """A file that was not synced may be empty or shorter, though its name is durable."""

    def script(world: World) -> None:
        world.write("a", b"content" * 3000)
        world.publish("a")
        world.files.fsync(world.inbox)

    found = outcomes(profile, script, "/inbox/a")
    assert {b"", b"content" * 3000} < found
    assert None not in found
    whole = b"content" * 3000
    zeros = {it for it in found if isinstance(it, bytes) and not whole.startswith(it)}
    assert bool(zeros) == PROFILES[profile].zeros


@ALL
def test_name_without_sync(profile: str) -> None:
    """A name that was not synced may be the old one or the new one; none is lost."""

    def script(world: World) -> None:
        descriptor = world.write("a", b"content")
        world.files.fsync(descriptor)
        world.files.fsync(world.new)
        world.publish("a")

    found = outcomes(profile, script, "/inbox/new/a", "/inbox/a")
    assert {(b"content", None), (None, b"content")} <= found
    if PROFILES[profile].noreplace:
        assert (None, None) not in found


def test_halves_of_a_rename() -> None:
    """Where POSIX promises no more, a rename may leave both names, but never neither."""

    def script(world: World) -> None:
        world.files.fsync(world.write("a", b"content"))
        world.files.fsync(world.new)
        world.files.replace(world.new, "a", world.inbox, "a")

    def synced(world: World) -> None:
        script(world)
        world.files.fsync(world.new)

    both = "/inbox/new/a", "/inbox/a"
    here, there = (b"content", None), (None, b"content")
    assert outcomes("weakest", script, *both) == {here, there, (b"content", b"content")}
    assert outcomes("weakest", synced, *both) == {there}


def test_sync_of_a_file_is_not_one_of_its_name() -> None:
    """Where POSIX promises no more, a file that was synced may have no name; elsewhere it has."""

    def script(world: World) -> None:
        world.files.fsync(world.write("a", b"content"))

    assert outcomes("weakest", script, "/inbox/new/a") == {None, b"content"}
    for profile in "ext4", "xfs", "btrfs":
        assert outcomes(profile, script, "/inbox/new/a") == {b"content"}


def test_what_else_a_sync_makes_durable() -> None:
    """A journal keeps the order of all names; btrfs syncs only what was asked for."""

    def script(world: World) -> None:
        world.write("before", b"")
        world.files.fsync(world.write("a", b"content"))

    both = "/inbox/new/before", "/inbox/new/a"
    for profile in "ext4", "xfs":
        assert outcomes(profile, script, *both) == {(b"", b"content")}
    assert outcomes("btrfs", script, *both) == {(b"", b"content"), (None, b"content")}


@ALL
def test_removed_files_come_back(profile: str) -> None:
    """A file that was removed may be there after a cut, unless its folder was synced."""

    def script(world: World) -> None:
        descriptor = world.write("a", b"content")
        world.files.fsync(descriptor)
        world.files.fsync(world.new)
        world.files.unlink(world.new, "a")

    def synced(world: World) -> None:
        script(world)
        world.files.fsync(world.new)

    assert outcomes(profile, script, "/inbox/new/a") == {None, b"content"}
    assert outcomes(profile, synced, "/inbox/new/a") == {None}


@ALL
def test_replaced_file(profile: str) -> None:
    """In place of a replaced file there is the old or the new one, whole if it was synced."""

    def script(world: World) -> None:
        for content in b"old", b"new":
            descriptor = world.write("a", content)
            world.files.fsync(descriptor)
            world.files.close(descriptor)
            world.files.replace(world.new, "a", world.inbox, "a")
            if content == b"old":
                world.files.fsync(world.inbox)

    assert outcomes(profile, script, "/inbox/a") == {b"old", b"new"}


@ALL
def test_overwritten_pages(profile: str) -> None:
    """Each page that was overwritten without a sync is the old or the new one."""
    old, new = b"o" * 8192, b"n" * 8192

    def script(world: World) -> None:
        descriptor = world.write("a", old)
        world.files.fsync(descriptor)
        world.files.fsync(world.new)
        world.files.write_at(descriptor, new, 0)

    pages = {old[:4096], new[:4096]}
    for found in outcomes(profile, script, "/inbox/new/a"):
        assert isinstance(found, bytes)
        assert len(found) == 8192
        if not PROFILES[profile].tears:
            assert {found[:4096], found[4096:]} <= pages


def test_new_folder() -> None:
    """Where POSIX promises no more, a new folder is lost if the one above it is not synced."""

    def script(world: World) -> None:
        world.files.make_folder("day", 0o700, folder=world.inbox)
        day = world.files.open("day", FOLDER, folder=world.inbox)
        descriptor = world.files.create(day, "a", 0o600)
        world.files.fsync(descriptor)
        world.files.fsync(day)

    assert outcomes("weakest", script, "/inbox/day/a") == {None, b""}
    for profile in "ext4", "xfs", "btrfs":
        assert outcomes(profile, script, "/inbox/day/a") == {b""}


@ALL
def test_two_cuts(profile: str) -> None:
    """What one power cut has left is durable for the next."""
    world = World(profile, 3)
    world.write("a", b"content" * 1000)
    world.cut()
    left = world.seen("/inbox/new/a")
    world.cut()
    assert world.seen("/inbox/new/a") == left


# Faults


@ALL
def test_failed_sync(profile: str) -> None:
    """After a failed sync, another succeeds, and what was lost is not on the device."""

    def script(world: World) -> None:
        descriptor = world.write("a", b"content")
        world.system.faults.fail("fsync", errno.EIO)
        raises(errno.EIO, world.files.fsync, descriptor)
        world.files.fsync(descriptor)
        world.files.fsync(world.new)

    found = outcomes(profile, script, "/inbox/new/a")
    assert b"\0" * 7 in found
    assert None not in found


def test_each_open_file_is_told_of_a_failure() -> None:
    """A failure to write is reported once to everybody who had the file open."""
    world = World("ext4")
    descriptor = world.write("a", b"content")
    other = world.files.open_record(world.new, "a", create=False)
    world.system.faults.fail("fsync", errno.EIO)
    raises(errno.EIO, world.files.fsync, descriptor)
    raises(errno.EIO, world.files.fsync, other)
    world.files.fsync(other)
    world.files.fsync(world.files.open_record(world.new, "a", create=False))


def test_full_disk() -> None:
    """Writes are short when space ends, then fail; what is removed gives space back."""
    world = World("ext4", capacity=3 * 4096)
    descriptor = world.files.create(world.new, "a", 0o600)
    assert world.files.write(descriptor, b"x" * 20_000) == 3 * 4096
    raises(errno.ENOSPC, world.files.write, descriptor, b"x")
    assert world.files.free(world.new).free == 0
    world.files.unlink(world.new, "a")
    assert world.files.free(world.new).free == 0  # it is still open
    world.files.close(descriptor)
    assert world.files.free(world.new).free == 3 * 4096


def test_quota() -> None:
    """More than the quota is refused with an error that says so."""
    world = World("ext4")
    world.system.faults.quota = 4096
    descriptor = world.files.create(world.new, "a", 0o600)
    assert world.files.write(descriptor, b"x" * 5000) == 4096
    raises(errno.EDQUOT, world.files.write, descriptor, b"x")
    world.system.faults.none()
    assert world.files.write(descriptor, b"x") == 1


def test_no_inodes() -> None:
    """If there are no inodes, no file can be created until one has been removed."""
    world = World("ext4", inodes=4)
    world.files.close(world.files.create(world.new, "a", 0o600))
    raises(errno.ENOSPC, world.files.create, world.new, "b", 0o600)
    raises(errno.ENOSPC, world.files.make_folder, "b", 0o700, folder=world.new)
    world.files.unlink(world.new, "a")
    world.files.create(world.new, "b", 0o600)


def test_read_only() -> None:
    """A file system that has become read-only fails all changes, and can be read."""
    world = World("ext4")
    descriptor = world.write("a", b"content")
    world.system.faults.make_read_only()
    raises(errno.EROFS, world.files.write, descriptor, b"x")
    raises(errno.EROFS, world.files.create, world.new, "b", 0o600)
    raises(errno.EROFS, world.files.open, "/inbox/new/a", os.O_RDWR)
    raises(errno.EROFS, world.files.unlink, world.new, "a")
    raises(errno.EROFS, world.files.fsync, descriptor)
    assert world.files.read_at(descriptor, 7, 0) == b"content"
    assert world.files.free(world.new).read_only
    world.system.faults.none()
    world.files.fsync(descriptor)


def test_errors_of_calls() -> None:
    """Some calls fail, as many as was said, and as late as was said."""
    world = World("ext4")
    faults = world.system.faults
    faults.fail("create", errno.EIO, after=1, times=2)
    for name, number in ("a", 0), ("b", errno.EIO), ("c", errno.EIO), ("d", 0):
        if number:
            raises(number, world.files.create, world.new, name, 0o600)
        else:
            world.files.create(world.new, name, 0o600)
    assert world.system.names("/inbox/new") == ["a", "d"]
    faults.fail("write", errno.EIO, times=inf)
    for _ in range(10):
        raises(errno.EIO, world.write, "e", b"x")
        world.files.unlink(world.new, "e")


def test_slow_and_stalled_calls() -> None:
    """Slow calls take virtual time, stalled ones until they are healed."""
    world = World("ext4")
    faults = world.system.faults
    faults.slow("fsync", 2.0, 3.0)
    faults.stall("unlink")
    times = []

    def task() -> None:
        descriptor = world.write("a", b"x")
        world.files.fsync(descriptor)
        times.append(world.scheduler.now)
        world.files.unlink(world.new, "a")
        times.append(world.scheduler.now)

    world.scheduler.spawn(task, world.process, "task")
    world.scheduler.call_later(10.0, faults.none)
    world.scheduler.run()
    assert 2.0 <= times[0] <= 3.0
    assert times[1] == 10.0


def test_death_in_a_slow_call() -> None:
    """A process that dies in a slow call changes nothing any more."""
    world = World("ext4")
    world.system.faults.slow("create", 2.0, 3.0)
    world.scheduler.spawn(
        lambda: print(world.files.create(world.new, "a", 0o600)), world.process, "task"
    )
    world.scheduler.call_later(1.0, world.process.kill)
    world.scheduler.run()
    assert world.system.names("/inbox/new") == []
    with pytest.raises(Killed):
        world.files.create(world.new, "a", 0o600)


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


@JOURNALS
def test_sync_of_content_only(profile: str) -> None:
    """A sync of the content of a file whose size is the same leaves its new name in doubt."""

    def script(world: World) -> None:
        descriptor = world.write("a", b"old")
        world.files.fsync(descriptor)
        world.publish("a")
        world.files.write_at(descriptor, b"new", 0)
        world.files.datasync(descriptor)

    both = "/inbox/new/a", "/inbox/a"
    assert outcomes(profile, script, *both) == {(b"new", None), (None, b"new")}


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
