"""
What a process that receives uploads reports of itself.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.partials import ManualRig
from tests.support.senders import read_all
from tests.support.stores import ARRIVAL, Rig
from tests.support.waiting import in_thread, until
from tests.support.ways import Way
from twisted_upload.core.text import Reserve
from twisted_upload.daemon.storage import ObjectStorage, Storage
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import Busy, UploadRefused
from twisted_upload.net.tls.failures import FAILURES
from twisted_upload.observability.counters import Counters, DiskTimes
from twisted_upload.observability.metrics import (
    CONNECTIONS,
    DRAINING,
    FORWARDED,
    FREE,
    FREE_INODES,
    FSYNC,
    HANDSHAKE_FAILURES,
    HEALTHY,
    IN_FLIGHT,
    LAG,
    PARTIAL_BYTES,
    PARTIALS,
    REJECTED,
    RESERVE,
    STORE_REQUESTS,
    UPLOADS,
    WORST_LAG,
)
from twisted_upload.observability.object_counts import ForwardCounts, RequestCounts
from twisted_upload.observability.report import SPACE_TIMEOUT, ProcessReporter, Report
from twisted_upload.stores.directory.space import FAILED_TESTS
from twisted_upload.stores.directory.space_budget import LOOK_IS_FRESH
from twisted_upload.stores.memory_budget import MOST_GIVEN_UP


class _Disk(FaultyFiles):
    """A file system whose free space the test sets."""

    space = Space(50, 100)

    def free(self, directory: int) -> Space:
        return self.space


class _Health:
    well = True


class _ObjectStore:
    """A store of objects, of which only this is reported."""

    path = "s3://inbox"

    def __init__(self) -> None:
        self.health = _Health()
        self.says: UploadRefused | None = None

    def open(self) -> None: ...

    def start(self) -> None: ...

    def stop(self, seconds: float) -> Deferred[None]:
        return succeed(None)

    def close(self) -> None: ...

    def undo(self) -> None: ...

    def refusal(self) -> UploadRefused | None:
        return self.says


class Reporting:
    """A process with a front end and a store, and its reporter."""

    def __init__(self, folder: Path, frontend: OpenFrontend) -> None:
        self.disk = _Disk()
        self.rig = Rig(folder, files=self.disk, reserve=Reserve(percent=10))
        self.path = str(folder)
        self.frontend = frontend
        self.counters = Counters([frontend.factory.name], lambda: 1001.0)
        frontend.factory.observers = (self.counters,)
        disk: Any = self.rig.disk
        storage = Storage(self.path, disk, [self.rig.store], DiskTimes())
        self.reporter = ProcessReporter(
            [frontend.factory], [storage], self.counters, self.rig.clock
        )

    def store(self, content: bytes) -> None:
        """Let a small file be stored or refused."""
        incoming = self.rig.store.begin(ARRIVAL, lambda _: None)
        incoming.write(content)
        incoming.commit().addErrback(lambda _: None)
        self.rig.disk.work()

    def ask(self) -> Deferred[Report]:
        """Request a report at a time when free space has to be looked up again."""
        self.rig.clock.advance(LOOK_IS_FRESH)
        return self.reporter.report()

    def report(self) -> Report:
        """Return a report while the disk works."""
        reports: list[Report] = []
        self.ask().addCallback(reports.append)
        self.rig.disk.work()
        (report,) = reports
        return report


@contextlib.asynccontextmanager
async def open_reporting(tmp_path: Path) -> AsyncIterator[Reporting]:
    async with open_frontend() as frontend:
        frontend.factory.name = "scanner"
        reporting = Reporting(tmp_path, frontend)
        try:
            yield reporting
        finally:
            reporting.rig.close()


async def test_ready(tmp_path: Path) -> None:
    """A process that can receive uploads is ready, and reports all that it measures."""
    async with open_reporting(tmp_path) as reporting:
        report = reporting.report()
        assert report.trouble is None
        samples = report.samples
        assert samples[HEALTHY.name] == {(reporting.path,): 1}
        assert samples[FREE.name] == {(reporting.path,): 50}
        assert samples[RESERVE.name] == {(reporting.path,): 10}
        assert samples[DRAINING.name] == {(): 0}
        assert samples[WORST_LAG.name] == {(): 0}
        assert {FSYNC.name, LAG.name} < set(samples)


def test_partial_uploads(tmp_path: Path) -> None:
    """Unfinished resumable uploads are counted, and what has been committed of them."""
    rig = ManualRig(tmp_path)
    disk: Any = rig.disk
    storage = Storage(str(tmp_path), disk, [rig.store])
    reporter = ProcessReporter([], [storage], Counters([], lambda: 1001.0), rig.clock)
    rig.write(rig.create(4), b"abc")
    rig.write(rig.create(3), b"abc")  # stored
    rig.create(None)
    samples = rig.do(reporter.report()).samples
    assert samples[PARTIALS.name] == {(str(tmp_path),): 2}
    assert samples[PARTIAL_BYTES.name] == {(str(tmp_path),): 3}
    rig.close()


async def test_without_partial_uploads(tmp_path: Path) -> None:
    """A store that has no resumable uploads reports none."""
    async with open_reporting(tmp_path) as reporting:
        assert not {PARTIALS.name, PARTIAL_BYTES.name} & {*reporting.report().samples}


async def test_object_store(tmp_path: Path) -> None:
    """An object store is reported beside the directory in front of it, under its own name."""
    async with open_reporting(tmp_path) as reporting:
        counts, forwards, store = RequestCounts(), ForwardCounts(), _ObjectStore()
        counts.finished("put", "ok", 0.1)
        disk: Any = reporting.rig.disk
        objects = ObjectStorage("s3://inbox", disk, list, [store], [counts], [forwards])
        storage = Storage(reporting.path, disk, [reporting.rig.store], objects=objects)
        reporting.reporter = ProcessReporter([], [storage], reporting.counters, reporting.rig.clock)
        report = reporting.report()
        assert report.trouble is None
        assert report.samples[HEALTHY.name] == {(reporting.path,): 1, ("s3://inbox",): 1}
        assert report.samples[FREE.name] == {(reporting.path,): 50}
        assert report.samples[STORE_REQUESTS.name] == {("s3://inbox", "put", "ok"): 1}
        assert report.samples[FORWARDED.name] == {(reporting.path,): 0}
        store.says = Busy()
        assert reporting.report().trouble == "uploads are refused with busy: s3://inbox"
        store.health.well = False
        report = reporting.report()
        assert report.trouble == "the store is unhealthy: s3://inbox"
        assert report.samples[HEALTHY.name]["s3://inbox",] == 0


async def test_uploads(tmp_path: Path) -> None:
    """Connections and uploads in flight are reported, and so are ended uploads."""
    async with open_reporting(tmp_path) as reporting:
        await reporting.frontend.send(b"stored")
        idle, sending = reporting.frontend.connect(), reporting.frontend.connect()
        sending.sendall(b"more")
        await reporting.frontend.has_received(4)
        samples = reporting.report().samples
        assert samples[UPLOADS.name]["scanner", "stored", ""] == 1
        assert samples[IN_FLIGHT.name] == {("scanner",): 1}
        assert samples[CONNECTIONS.name] == {("scanner",): 2}
        idle.close()


async def test_being_committed(way: Way, tmp_path: Path) -> None:
    """An upload that the store is committing is in flight, and its connection is open."""
    async with open_reporting(tmp_path) as reporting:
        frontend = reporting.frontend
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        samples = reporting.report().samples
        assert samples[IN_FLIGHT.name] == {("scanner",): 1}
        assert samples[CONNECTIONS.name] == {("scanner",): 1}
        frontend.store.release()
        await in_thread(read_all, peer)
        await frontend.is_quiet()
        samples = reporting.report().samples
        assert samples[IN_FLIGHT.name] == {("scanner",): 0}
        assert samples[CONNECTIONS.name] == {("scanner",): 0}
        assert samples[UPLOADS.name]["scanner", "stored", ""] == 1


async def test_rejected(way: Way, tmp_path: Path) -> None:
    """A rejected connection is counted apart from uploads, by code."""
    async with open_reporting(tmp_path) as reporting:
        assert sum(reporting.report().samples[REJECTED.name].values()) == 0
        reporting.frontend.factory.drain()
        assert b"shutting-down" in await way.send(reporting.frontend, b"content")
        samples = reporting.report().samples
        assert samples[REJECTED.name]["scanner", "shutting-down"] == 1
        assert sum(samples[REJECTED.name].values()) == 1
        assert sum(samples[UPLOADS.name].values()) == 0


async def test_handshakes(tmp_path: Path) -> None:
    """Failed handshakes are counted by kind, and all kinds are reported."""
    async with open_reporting(tmp_path) as reporting:
        gate = reporting.frontend.factory.gate
        slot = gate.admit(None)
        assert slot is not None
        gate.handshake_failed(slot, "certificate-rejected")
        samples = reporting.report().samples[HANDSHAKE_FAILURES.name]
        assert samples == {
            ("scanner", kind): int(kind == "certificate-rejected") for kind in FAILURES
        }
        reporting.frontend.factory.refusals.log_summary()


async def test_draining(tmp_path: Path) -> None:
    """A stopping process is not ready."""
    async with open_reporting(tmp_path) as reporting:
        reporting.frontend.factory.drain()
        report = reporting.report()
        assert report.trouble == "draining"
        assert report.samples[DRAINING.name] == {(): 1}


async def test_below_the_reserve(tmp_path: Path) -> None:
    """Below the reserve it is not ready, even without senders; above it again it is."""
    async with open_reporting(tmp_path) as reporting:
        reporting.disk.space = Space(9, 100)
        report = reporting.report()
        assert report.trouble == f"free space is below the reserve: {reporting.path}"
        assert report.samples[FREE.name] == {(reporting.path,): 9}
        reporting.disk.space = Space(11, 100)
        assert reporting.report().trouble is None


async def test_no_inodes(tmp_path: Path) -> None:
    """Without inodes it is not ready, however much space is free."""
    async with open_reporting(tmp_path) as reporting:
        reporting.disk.space = Space(50, 100, 0, 7)
        report = reporting.report()
        assert report.trouble == f"no inodes are free: {reporting.path}"
        assert report.samples[FREE_INODES.name] == {(reporting.path,): 0}
        reporting.disk.space = Space(50, 100, 1, 7)
        assert reporting.report().trouble is None


async def test_inodes_that_are_not_counted(tmp_path: Path) -> None:
    """If a file system does not count inodes, their number is not reported."""
    async with open_reporting(tmp_path) as reporting:
        assert FREE_INODES.name not in reporting.report().samples


async def test_not_healthy(tmp_path: Path) -> None:
    """After a disk failure it is not ready."""
    async with open_reporting(tmp_path) as reporting:
        reporting.disk.fail("fsync", errno.EIO)
        reporting.store(b"content")
        report = reporting.report()
        assert report.trouble == f"the store is unhealthy: {reporting.path}"
        assert report.samples[HEALTHY.name] == {(reporting.path,): 0}


async def test_quota(tmp_path: Path) -> None:
    """If no file fits although space is free, it is not ready until one fits."""
    async with open_reporting(tmp_path) as reporting:
        reporting.rig.store.start()
        reporting.disk.fail("create", errno.EDQUOT, times=100)
        reporting.store(b"content")
        for _ in range(FAILED_TESTS - 1):
            assert reporting.report().trouble is None
        assert reporting.report().trouble == f"not even a small file fits: {reporting.path}"
        reporting.disk.heal()
        assert reporting.report().trouble is None


async def test_too_much_left_to_discard(tmp_path: Path) -> None:
    """If the store refuses uploads for any other reason, it is not ready."""
    async with open_reporting(tmp_path) as reporting:
        reporting.rig.store.memory.given_up = MOST_GIVEN_UP
        assert reporting.report().trouble == f"uploads are refused with busy: {reporting.path}"
        reporting.rig.store.memory.given_up = 0
        assert reporting.report().trouble is None


async def test_stalled_disk(tmp_path: Path) -> None:
    """A stalled disk is waited for briefly, and reported with the last known values."""
    async with open_reporting(tmp_path) as reporting:
        reports: list[Report] = []
        for _ in range(3):
            reporting.ask().addCallback(reports.append)
        assert reporting.rig.disk.waiting == 1
        reporting.rig.clock.advance(SPACE_TIMEOUT)
        for report in reports:
            assert report.trouble == f"the disk is not responding: {reporting.path}"
            assert report.samples[FREE.name] == {(reporting.path,): 50}
        assert len(reports) == 3
        reporting.rig.disk.work()
        assert reporting.report().trouble is None


async def test_free_space_is_looked_at_once_a_second(tmp_path: Path) -> None:
    """Frequent requests do not cause more disk calls."""
    async with open_reporting(tmp_path) as reporting:
        reporting.report()
        reports: list[Report] = []
        reporting.reporter.report().addCallback(reports.append)
        assert len(reports) == 1
        assert reporting.rig.disk.waiting == 0


async def test_lag(tmp_path: Path) -> None:
    """Time during which the reactor was blocked is reported."""
    async with open_reporting(tmp_path) as reporting:
        reporting.reporter.startService()
        reporting.rig.clock.advance(1.25)
        reporting.reporter.stopService()
        samples = reporting.report().samples
        assert samples[WORST_LAG.name] == {(): 1.0}
        assert samples[LAG.name][()][-1] == 1.0
