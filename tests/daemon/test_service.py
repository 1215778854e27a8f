"""
Stopping a daemon that has several directories.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.logger import capturedLogs

from tests.support.frontends import open_frontend
from tests.support.waiting import turns, until
from twisted_upload.daemon.listeners import BoundPort, ListenerSpec
from twisted_upload.daemon.service import (
    DISK_TIMEOUT,
    HANDSHAKES_TIMEOUT,
    OBJECTS_TIMEOUT,
    UploadService,
)
from twisted_upload.daemon.storage import ObjectStorage, Storage
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import CannotStart, UploadRefused
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.hooks.command import GRACE
from twisted_upload.interfaces import Arrival
from twisted_upload.net.networks import NetworkSet, TrustedProxies
from twisted_upload.stores.directory.store import DirectoryStore


class DeadDisk(DiskThreads):
    """Disk threads that never stop."""

    def stop(self) -> Deferred[None]:
        """Never fires."""
        return Deferred()


class Programs:
    """
    Programs that run until the test ends them.

    :ivar calls: what they were told.
    """

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.ended: Deferred[None] = Deferred()

    def check(self) -> None:
        self.calls.append("check")

    def start(self, queue: object) -> None:
        self.calls.append("start")

    def stored(self, spool: object, marker: object) -> None:
        pass

    def stop(self, seconds: float) -> Deferred[None]:
        self.calls.append(seconds)
        return self.ended


class ObjectStore:
    """
    A store in front of that of a directory, as for objects.

    :ivar calls: what it was told.
    """

    path = "s3://inbox"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.health = Health()
        self.says: UploadRefused | None = None

    def open(self) -> None:
        self.calls.append("open")

    def start(self) -> None:
        self.calls.append("start")

    def stop(self, seconds: float) -> Deferred[None]:
        self.calls.append("stop")
        return succeed(None)

    def close(self) -> None:
        self.calls.append("close")

    def undo(self) -> None:
        self.calls.append("undo")

    def refusal(self) -> UploadRefused | None:
        return self.says


class Health:
    well = True


class Threads(DiskThreads):
    """Threads that stop when the test says so."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.told = False
        self.ended: Deferred[None] = Deferred()

    def stop(self) -> Deferred[None]:
        self.told = True
        return self.ended


class Rig:
    """A service with a good directory and one on a dead disk."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        reactor: Any = MemoryReactor()
        good = DiskThreads(reactor)
        dead = DeadDisk(reactor)
        self.programs = Programs()
        self.stores = [
            DirectoryStore(str(folder / name), disk, self.clock, time.time, hooks=hooks)
            for name, disk, hooks in (("good", good, self.programs), ("dead", dead, None))
        ]
        specs = [
            ListenerSpec(f"l{number}", [], UploadFactory(store, self.clock), store.path)
            for number, store in enumerate(self.stores)
        ]
        storages = [
            Storage(store.path, disk, [store])
            for store, disk in zip(self.stores, (good, dead), strict=True)
        ]
        self.service = UploadService(specs, storages, self.clock, drain=10)

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
    """Every directory is opened."""
    rig.service.open()
    assert (tmp_path / "good" / ".incoming").is_dir()
    assert (tmp_path / "dead" / ".incoming").is_dir()


def test_programs_that_cannot_be_started(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails at the programs is explained once, and nothing claims to listen."""

    def cannot(_: object) -> None:
        raise CannotStart("--on-upload: cannot start a process: x")

    monkeypatch.setattr(rig.programs, "start", cannot)
    with capturedLogs() as events, pytest.raises(CannotStart):
        rig.service.startService()
    assert events == []

    def explain(error: CannotStart) -> None:
        raise SystemExit(str(error))

    rig.service.cannot_start = explain
    with pytest.raises(SystemExit, match="cannot start a process"):
        rig.service.startService()


def test_dead_disk_does_not_block_the_others(rig: Rig) -> None:
    """A good directory is closed at once; the wait for a dead disk is limited."""
    rig.programs.ended.callback(None)
    rig.service.startService()
    stopped = rig.service.stopService()
    assert not rig.is_open(0)
    assert rig.is_open(1)
    rig.clock.advance(DISK_TIMEOUT - 0.1)
    assert not stopped.called
    rig.clock.advance(0.1)
    assert stopped.called
    assert rig.clock.getDelayedCalls() == []


def test_programs(rig: Rig) -> None:
    """Programs start with the service, and may continue during the drain time, like uploads."""
    rig.service.startService()
    assert rig.programs.calls == ["check", "start"]
    stopped = rig.service.stopService()
    assert rig.programs.calls == ["check", "start", 10]
    rig.clock.advance(5)
    assert rig.is_open(0)
    rig.programs.ended.callback(None)
    assert not rig.is_open(0)
    rig.clock.advance(DISK_TIMEOUT)
    assert stopped.called


def test_programs_that_do_not_end(rig: Rig) -> None:
    """The wait for a program that survives SIGKILL is limited."""
    rig.service.startService()
    rig.service.stopService()
    rig.clock.advance(10 + GRACE)
    assert rig.is_open(0)
    rig.clock.advance(1)
    assert not rig.is_open(0)
    rig.clock.advance(DISK_TIMEOUT)
    assert rig.clock.getDelayedCalls() == []


def test_slots_in_use(rig: Rig) -> None:
    """New slots after a reload count the slots in use."""
    slots = rig.service.frontends[0].slots
    slot = rig.service.frontends[0].gate.admit(None)
    assert slot is not None
    settings = {spec.name: RawSettings() for spec in rig.service.specs}
    rig.service.reconfigure(settings, 5, ConnectionSlots(1, most_splices=3))
    admission = rig.service.frontends[0].gate.admission
    assert (slots.most, slots.most_splices, slots.taken) == (1, 3, 1)
    assert admission.refusal(None, None) is not None
    slot.release()
    assert (admission.slots.taken, admission.refusal(None, None)) == (0, None)


def test_description(rig: Rig, tmp_path: Path) -> None:
    """The description has the name and the directory of each listener."""
    assert rig.service.description.endswith(f" (l0, to {tmp_path}/good),  (l1, to {tmp_path}/dead)")


class ObjectRig:
    """A service whose only directory is in front of an object store."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        reactor: Any = MemoryReactor()
        self.disk, self.threads = Threads(reactor), Threads(reactor)
        local = DirectoryStore(str(folder), self.disk, self.clock, time.time)
        self.store = ObjectStore()
        objects = ObjectStorage("s3://inbox", self.threads, self.give_up, [self.store])
        storage = Storage(local.path, self.disk, [local], objects=objects)
        self.service = UploadService([], [storage], self.clock, drain=10)
        self.given_up = False

    def give_up(self) -> None:
        self.given_up = True


def test_store_of_objects(tmp_path: Path) -> None:
    """A store of objects is opened instead of the one behind it; its threads stop first."""
    rig = ObjectRig(tmp_path)
    rig.service.startService()
    assert rig.store.calls == ["open", "start"]
    assert [*tmp_path.iterdir()] == []
    assert rig.service.disks == [rig.disk], "the watchdog does not watch a network"
    stopped = rig.service.stopService()
    assert (rig.threads.told, rig.disk.told, rig.given_up) == (True, False, False)
    rig.threads.ended.callback(None)
    assert rig.given_up
    assert rig.disk.told
    assert rig.store.calls == ["open", "start", "stop"]
    rig.disk.ended.callback(None)
    assert rig.store.calls == ["open", "start", "stop", "close"]
    assert stopped.called


def test_dead_object_store(tmp_path: Path) -> None:
    """An object store that does not respond delays the stop no longer than a dead disk would."""
    rig = ObjectRig(tmp_path)
    rig.service.startService()
    stopped = rig.service.stopService()
    with capturedLogs() as events:
        rig.clock.advance(OBJECTS_TIMEOUT)
    (line,) = (event["log_format"].format(**event) for event in events)
    assert line.startswith("s3://inbox: the object store is not responding")
    assert rig.given_up
    assert rig.disk.told
    rig.clock.advance(DISK_TIMEOUT - OBJECTS_TIMEOUT)
    assert stopped.called
    assert "close" not in rig.store.calls


async def test_stop_behind_a_balancer(tmp_path: Path) -> None:
    """Behind a load balancer, a stop first ends new connections, so that none is reset later."""
    settings = RawSettings(trusted_proxies=TrustedProxies(NetworkSet([])))
    clock = Clock()
    async with open_frontend(settings, clock=clock) as frontend:
        spec = ListenerSpec("l0", [], frontend.factory, "x")
        service = UploadService([spec], [], clock, drain=10)
        endpoint: Any = None
        service.ports = [BoundPort(spec, endpoint, frontend.port)]
        stopped = service.stopService()
        with socket.socket() as late:
            late.setblocking(False)
            assert late.connect_ex(frontend.address) == errno.EINPROGRESS
            assert select.select([], [late], [], 0)[1] == [], "it is connected"
            while not stopped.called:
                clock.advance(HANDSHAKES_TIMEOUT)
                await turns()
            await until(lambda: late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
