"""
A world with one file system and one process, for tests of the file system.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler

__all__ = ["FOLDER", "SEEDS", "World", "outcomes", "raises"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY
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
    """Check that a call fails with an errno."""
    with pytest.raises(OSError, match=r".") as caught:
        call(*arguments, **more)
    assert caught.value.errno == number
