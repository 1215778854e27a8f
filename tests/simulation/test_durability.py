"""
What is durable at a moment, and who was told too early that a file is stored.
"""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.simulation.filesystem import PROFILES
from tests.simulation.filesystem.rig import World, raises
from tests.simulation.history import History, Violation
from tests.simulation.oracles.durability import Durability
from twisted_upload.core.outcome import UploadOutcome

PATH = "/inbox/a"


@pytest.fixture(name="world", params=[*PROFILES])
def a_world(request: Any) -> World:
    return World(request.param)


def told_of(world: World, process: str = "daemon") -> Any:
    """Return what happens when a process reports that the file is stored."""
    history = History(lambda: 1.0)
    observe = Durability(history, world.system, "/inbox").observer(process)
    observe(UploadOutcome("stored", "raw", "10.0.0.7:1", 7, 0.1, "a"))


def test_durable(world: World) -> None:
    """A file is durable when it, and then its folder, have been synced."""
    descriptor = world.write("a", b"content")
    world.files.fsync(descriptor)
    world.publish("a")
    world.files.fsync(world.inbox)
    assert world.system.is_durable(PATH)
    told_of(world)


def test_name_is_not_durable(world: World) -> None:
    """A name is not durable before its folder has been synced."""
    descriptor = world.write("a", b"content")
    world.files.fsync(descriptor)
    world.publish("a")
    assert not world.system.is_durable(PATH)
    with pytest.raises(Violation, match="not durable"):
        told_of(world)


def test_content_is_not_durable(world: World) -> None:
    """A file is not durable before its content has been synced; what is not there is not."""
    world.write("a", b"content")
    world.publish("a")
    world.files.fsync(world.inbox)
    for path in (PATH, "/inbox/b", "/inbox/a/b"):
        assert not world.system.is_durable(path)


def test_content_is_lost(world: World) -> None:
    """A file whose content could not be written is not durable, whatever is synced later."""
    descriptor = world.write("a", b"content")
    world.system.faults.fail("fsync", errno.EIO)
    raises(errno.EIO, world.files.fsync, descriptor)
    world.files.fsync(descriptor)
    world.publish("a")
    world.files.fsync(world.inbox)
    assert world.system.content(PATH) != b"content" or not world.system.is_durable(PATH)


def test_who_was_told_that_a_name_is_not_durable(world: World) -> None:
    """Who was told that its folder cannot be synced must not call it stored after that."""
    descriptor = world.write("a", b"content")
    world.files.fsync(descriptor)
    world.publish("a")
    world.system.faults.fail("fsync", errno.EIO)
    raises(errno.EIO, world.files.fsync, world.inbox)
    world.files.fsync(world.inbox)
    assert world.system.is_durable(PATH)
    assert not world.system.is_durable(PATH, "daemon")
    told_of(world, "another")
    with pytest.raises(Violation, match="not durable"):
        told_of(world)


def test_published_anew(world: World) -> None:
    """A file that is published after a sync has failed is durable with the next one."""
    world.system.faults.fail("fsync", errno.EIO)
    raises(errno.EIO, world.files.fsync, world.inbox)
    test_durable(world)


def test_taken_away(world: World) -> None:
    """A file that has been taken away meanwhile was durable, or was not: nobody knows."""
    told_of(world)
