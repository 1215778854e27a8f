"""
The simulated file system: its faults.
"""

from __future__ import annotations

import errno
import os
from math import inf

import pytest

from tests.simulation.filesystem import PROFILES
from tests.simulation.filesystem.rig import World, outcomes, raises
from tests.simulation.scheduler import Killed

ALL = pytest.mark.parametrize("profile", [*PROFILES])
JOURNALS = pytest.mark.parametrize("profile", ["ext4", "xfs"])


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
