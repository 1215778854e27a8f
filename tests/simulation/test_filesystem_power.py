"""
The simulated file system: what syncs make durable, and what power cuts leave.
"""

from __future__ import annotations

import stat

import pytest

from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES
from tests.simulation.filesystem.rig import FOLDER, World, outcomes
from tests.simulation.filesystem.scripts import POWER, Actor, script

ALL = pytest.mark.parametrize("profile", [*PROFILES])
JOURNALS = pytest.mark.parametrize("profile", ["ext4", "xfs"])


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
    """A file that was not synced may be empty, shorter, or zeros, though its name is durable."""

    def script(world: World) -> None:
        world.write("a", b"content" * 3000)
        world.publish("a")
        world.files.fsync(world.inbox)

    found = outcomes(profile, script, "/inbox/a")
    assert {b"", b"content" * 3000} < found
    assert None not in found
    whole = b"content" * 3000
    zeros = {it for it in found if isinstance(it, bytes) and not whole.startswith(it)}
    assert zeros


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
    here, there, twice = (b"content", None), (None, b"content"), (b"content", b"content")
    assert outcomes("weakest", script, *both) == {here, there, twice}
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


def test_only_the_new_folder_of_a_moved_file_is_synced() -> None:
    """On btrfs, both names may be left, as where POSIX promises no more; in a journal, one."""

    def script(world: World) -> None:
        world.files.fsync(world.write("a", b"content"))
        world.files.fsync(world.new)
        world.files.replace(world.new, "a", world.inbox, "a")
        world.files.fsync(world.inbox)

    both = "/inbox/new/a", "/inbox/a"
    there, twice = (None, b"content"), (b"content", b"content")
    for profile in "btrfs", "weakest":
        assert outcomes(profile, script, *both) == {there, twice}
    for profile in "ext4", "xfs":
        assert outcomes(profile, script, *both) == {there}


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


@JOURNALS
def test_what_is_left_is_allowed(profile: str) -> None:
    """Whatever a power cut leaves is among what the comparison with real file systems allows."""
    for seed in range(100):
        worlds = World(profile, seed), World(profile, seed)
        for world in worlds:
            world.system.plant_folder("/inbox/d")
            actor = Actor(world.files, "/inbox")
            for step in script(Choices(seed), 30, POWER):
                actor.do(step)
        worlds[0].process.kill()
        worlds[0].system.cut()
        found = {
            path: None if stat.S_ISDIR(inode.mode) else worlds[0].system.content(path)
            for path, inode in worlds[0].system.walk()
        }
        assert worlds[1].system.allows(found)
