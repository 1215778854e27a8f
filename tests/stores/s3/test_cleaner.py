"""
When pending uploads are cleaned up, and what is logged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent

from twisted_upload.core.names import file_name
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import PoolStopped
from twisted_upload.stores.s3.bucket import MARK, About
from twisted_upload.stores.s3.cleaner import INTERVAL, LONG_INTERVAL, STILL_LINE, PendingCleaner
from twisted_upload.stores.s3.errors import Unreachable
from twisted_upload.stores.s3.pending import PendingUploads
from twisted_upload.testing import MemoryBucket

ABOUT = About("text/plain", {MARK: "0" * 32})
NAME = file_name(1, 0, "", node="one", token="0" * 16)


class Rig:
    """A cleaner, and what it uses."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_328_000)
        self.threads = ManualDisk()
        self.bucket = MemoryBucket(now=self.clock.seconds)
        descriptor = os.open(folder, os.O_RDONLY)
        self.uploads = PendingUploads(
            *(self.bucket, descriptor, Files(), "one", self.clock.seconds),
        )
        os.close(descriptor)
        self.cleaner = PendingCleaner("s3://in", self.uploads, self.threads, self.clock)

    def passes(self, seconds: float) -> None:
        """Let time pass, a minute at a time."""
        for _ in range(round(seconds / INTERVAL)):
            self.clock.advance(INTERVAL)
            self.threads.work()

    def looks(self) -> int:
        """Return how often the list of the object store was looked at."""
        return sum(operation == "pending" for operation, _ in self.bucket.calls)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.uploads.close()


@pytest.fixture
def lines() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as lines:
        yield lines


def test_intervals(rig: Rig) -> None:
    """It looks at the list at the start and every hour, and tries aborts every minute."""
    rig.cleaner.start()
    rig.threads.work()
    assert rig.looks() == 1
    rig.passes(LONG_INTERVAL - INTERVAL)
    assert rig.looks() == 1
    rig.passes(INTERVAL)
    assert rig.looks() == 2
    identity = rig.uploads.bucket.begin(NAME, ABOUT)
    rig.bucket.fail("abort", Unreachable("away"))
    with pytest.raises(Unreachable):
        rig.uploads.bucket.abort(NAME, identity)
    rig.passes(INTERVAL)
    assert rig.uploads.count() == 0


def test_one_pass_at_a_time(rig: Rig) -> None:
    """While a pass waits, there is no other one."""
    rig.cleaner.start()
    rig.clock.advance(100 * INTERVAL)
    assert rig.threads.waiting == 1


def test_old(rig: Rig, lines: Sequence[LogEvent]) -> None:
    """What was old and is gone is counted in one line."""
    rig.bucket.begin(NAME, ABOUT)
    rig.clock.advance(3601)
    rig.cleaner.start()
    rig.threads.work()
    assert [*rig.bucket.pending()] == []
    assert [formatEvent(it) for it in lines] == [
        "s3://in: aborted 1 old multipart upload that nobody was going to complete"
    ]


def test_failures(rig: Rig, lines: Sequence[LogEvent]) -> None:
    """A look that failed is repeated after a minute; every ten minutes, a line says why."""
    rig.bucket.fail("pending", Unreachable("s3://in: pending: no connection"), 30)
    rig.cleaner.start()
    rig.threads.work()
    rig.passes(STILL_LINE + INTERVAL)
    assert rig.looks() == 12
    assert [formatEvent(it) for it in lines] == [
        "s3://in: parts of multipart uploads remain for now: s3://in: pending: no connection"
    ] * 2


def test_stop(rig: Rig) -> None:
    """Stopping waits for the pass that runs; then nothing is done any more."""
    rig.cleaner.start()
    stopped = rig.cleaner.stop()
    assert not stopped.called
    rig.threads.work()
    assert stopped.called
    assert rig.looks() == 0
    rig.passes(10 * INTERVAL)
    assert rig.threads.waiting == 0


def test_stop_between(rig: Rig) -> None:
    """Between two passes, stopping closes the notes at once."""
    rig.cleaner.start()
    rig.threads.work()
    stopped = rig.cleaner.stop()
    rig.threads.work()
    assert stopped.called
    assert rig.clock.getDelayedCalls() == []


class _NoThreads(ManualDisk):
    def run(self, job: object) -> object:  # type: ignore[override]
        raise PoolStopped


def test_threads_are_stopped(rig: Rig, lines: Sequence[LogEvent]) -> None:
    """Without threads, it stops as well, and complains about nothing."""
    cleaner = PendingCleaner("s3://in", rig.uploads, _NoThreads(), rig.clock)  # type: ignore[arg-type]
    cleaner.start()
    assert cleaner.stop().called
    assert lines == []
