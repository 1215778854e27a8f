"""
Uploads of which several are committed together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred

from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.group_commit import GroupCommit
from twisted_upload.stores.directory.partial_file import PartialFile


def part_of(folder: Folder, serial: int = 0) -> PartialFile:
    return PartialFile(folder, (MILLISECONDS, serial), digest=True)


def uploads_of(folder: Folder, number: int) -> list[tuple[PartialFile, list[bytes]]]:
    return [(part_of(folder, serial), [b"number ", b"%d" % serial]) for serial in range(number)]


def contents_of(number: int, *but: int) -> dict[str, bytes]:
    return {
        f"{MILLISECONDS}{f'-{serial}' if serial else ''}.bin": b"number %d" % serial
        for serial in range(number)
        if serial not in but
    }


class ManualCommits:
    """A group commit whose disk works when the test tells it to."""

    def __init__(self, folder: Folder) -> None:
        self.disk = ManualDisk()
        self.commits = GroupCommit(self.disk, time.monotonic)
        self.folder = folder
        self.results: dict[int, object] = {}
        self.serial = 0

    def commit(self, size: int = 10) -> Deferred[None]:
        serial = self.serial
        self.serial += 1
        done: Deferred[Any] = Deferred()
        part = part_of(self.folder, serial)
        self.commits.commit(self.folder, part, [b"x" * 10], size, done.callback)
        return done.addBoth(lambda result: self.results.__setitem__(serial, result))


def broken(*_: object) -> NoReturn:
    """Raise what a disk never raises."""
    raise ZeroDivisionError


class OddDisk(ManualDisk):
    """Disk threads of which one call raises."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True
        self.times = 1

    def run(self, job: Callable[[], Any]) -> Deferred[Any]:
        """See `IDisk.run`."""
        if self.broken:
            self.times -= 1
            self.broken = self.times > 0
            raise RuntimeError("can't start new thread")
        return super().run(job)
