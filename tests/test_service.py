"""
Stopping a daemon that has several directories.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from twisted_upload.binding import Doorway
from twisted_upload.directory import DirectoryStore
from twisted_upload.disk import DiskThreads
from twisted_upload.errors import CannotStart
from twisted_upload.interfaces import Arrival
from twisted_upload.raw import UploadFactory
from twisted_upload.service import DISK_PATIENCE, Storage, UploadService


class DeadDisk(DiskThreads):
    """One that never lets go of its threads."""

    def stop(self) -> Deferred[None]:
        """Never fires."""
        return Deferred()


class Rig:
    """A service with a good directory and one on a dead disk."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        reactor: Any = MemoryReactor()
        good = DiskThreads(reactor)
        dead = DeadDisk(reactor)
        self.stores = [
            DirectoryStore(str(folder / name), disk, self.clock, time.time)
            for name, disk in (("good", good), ("dead", dead))
        ]
        doorways = [
            Doorway(f"l{number}", [], UploadFactory(store, self.clock), store.path)
            for number, store in enumerate(self.stores)
        ]
        storages = [
            Storage(store.path, disk, [store])
            for store, disk in zip(self.stores, (good, dead), strict=True)
        ]
        self.service = UploadService(doorways, storages, self.clock, drain=10)

    def is_open(self, number: int) -> bool:
        try:
            self.stores[number].begin(Arrival("peer"), lambda _: None).abort()
        except CannotStart:
            return False
        return True


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_opens_every_store(rig: Rig, tmp_path: Path) -> None:
    """Every directory is made ready."""
    rig.service.open()
    assert (tmp_path / "good" / ".incoming").is_dir()
    assert (tmp_path / "dead" / ".incoming").is_dir()


def test_dead_disk_holds_up_no_other(rig: Rig) -> None:
    """A good directory is closed at once; a dead disk is waited for so long, and not longer."""
    rig.service.startService()
    stopped = rig.service.stopService()
    assert not rig.is_open(0)
    assert rig.is_open(1)
    rig.clock.advance(DISK_PATIENCE - 0.1)
    assert not stopped.called
    rig.clock.advance(0.1)
    assert stopped.called
    assert rig.clock.getDelayedCalls() == []


def test_description(rig: Rig, tmp_path: Path) -> None:
    """Of several listeners each is told with its name and its directory."""
    assert rig.service.description.endswith(f" (l0, to {tmp_path}/good),  (l1, to {tmp_path}/dead)")
