"""
The journal of uploads, from the reactor's side.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from tests.support.frontends import open_frontend
from tests.support.waiting import reactor
from tests.support.ways import Way
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import CannotStart
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.observability import journal as module
from twisted_upload.observability.journal import INTERVAL, REPORT_INTERVAL, Journal
from twisted_upload.observability.journal_files import JournalFiles

STORED = UploadOutcome("stored", "", "192.0.2.7:50123", 4096, 0.0123, "1795328130123.bin")
REFUSED = UploadOutcome("refused", "scanner", "192.0.2.7:50123", 7, 1.0, code="too-large")
MOMENT = 1_795_351_404.291


@implementer(ILogObserver)
class Rig:
    """
    A journal whose disk works when the test tells it to.

    :ivar log: the lines that it has logged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        self.clock = Clock()
        self.disk = ManualDisk()
        self.log: list[str] = []
        files = JournalFiles(str(self.path), Files(), 0, 0)
        self.journal = Journal(files, self.disk, self.clock, lambda: MOMENT)

    def __call__(self, event: LogEvent) -> None:
        if event["log_namespace"] == "twisted_upload.observability.journal":
            self.log.append(formatEvent(event).replace(str(self.path), "FILE"))

    def end(self, *ends: UploadOutcome) -> None:
        """Let these uploads end."""
        for ended in ends:
            self.journal(ended)

    def pass_time(self, seconds: float = INTERVAL) -> None:
        """Let time pass, and the disk work."""
        self.clock.advance(seconds)
        self.disk.work()

    def close(self) -> Deferred[None]:
        """Close the journal."""
        return Deferred.fromCoroutine(self.journal.close())

    def break_disk(self) -> None:
        """Make all writes fail from now on."""
        self.path.mkdir()

    def fix_disk(self) -> None:
        """Let writes succeed again."""
        self.path.rmdir()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """All that was written."""
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text("ascii").splitlines()]

    @property
    def names(self) -> list[str | None]:
        """The names of the stored files that were written."""
        return [line.get("name") for line in self.objects]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A journal, and the lines that it logs."""
    rig = Rig(tmp_path)
    globalLogPublisher.addObserver(rig)
    yield rig
    globalLogPublisher.removeObserver(rig)
    assert rig.clock.getDelayedCalls() == [] or not rig.disk.waiting


def file(name: str) -> UploadOutcome:
    return STORED._replace(name=name)


def test_lines(rig: Rig) -> None:
    """Each ended upload is one line, with the fields of the JSON log, and the time."""
    rig.end(STORED, REFUSED)
    rig.pass_time()
    assert rig.objects == [
        {
            "time": "2026-11-22T12:43:24.291Z",
            "event": "stored",
            "peer": "192.0.2.7:50123",
            "size": 4096,
            "seconds": 0.0123,
            "name": "1795328130123.bin",
        },
        {
            "time": "2026-11-22T12:43:24.291Z",
            "event": "refused",
            "listener": "scanner",
            "peer": "192.0.2.7:50123",
            "size": 7,
            "seconds": 1.0,
            "code": "too-large",
        },
    ]


def test_lines_are_collected(rig: Rig) -> None:
    """There is one disk job for all uploads that end within the interval, and none while idle."""
    rig.end(file("1"))
    rig.clock.advance(INTERVAL / 2)
    rig.end(file("2"))
    assert rig.disk.waiting == 0
    rig.clock.advance(INTERVAL / 2)
    assert rig.disk.waiting == 1
    rig.disk.work()
    assert rig.names == ["1", "2"]
    rig.pass_time(1000)
    assert rig.clock.getDelayedCalls() == []


def test_slow_disk(rig: Rig) -> None:
    """While the disk is busy there is no second job; new lines are written afterwards."""
    rig.end(file("1"))
    rig.clock.advance(INTERVAL)
    rig.end(file("2"))
    rig.clock.advance(INTERVAL)
    rig.end(file("3"))
    rig.clock.advance(10 * INTERVAL)
    assert rig.disk.waiting == 1
    rig.disk.work()
    assert rig.names == ["1"]
    rig.pass_time()
    assert rig.names == ["1", "2", "3"]
    assert rig.log == []


def test_stalled_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting lines are bounded; those beyond are dropped and counted, and leave a gap."""
    monkeypatch.setattr(module, "MOST_WAITING", 300)
    rig.end(file("1"))
    rig.clock.advance(INTERVAL)
    rig.end(*[file("2")] * 5)
    assert rig.log == ["journal FILE: the disk is too slow; uploads continue; lines dropped: 1"]
    rig.disk.work()
    rig.pass_time()
    assert [line["event"] for line in rig.objects] == ["stored", "stored", "gap"]
    assert rig.objects[-1] == {"time": "2026-11-22T12:43:24.291Z", "event": "gap", "lines": 4}
    rig.end(file("3"))
    rig.pass_time()
    assert rig.names == ["1", "2", None, "3"]
    rig.pass_time(REPORT_INTERVAL)
    assert rig.log[1:] == ["journal FILE: the disk is too slow; uploads continue; lines dropped: 3"]
    rig.pass_time(REPORT_INTERVAL)
    assert rig.log[2:] == ["journal FILE: writing again"]


def test_full_disk(rig: Rig) -> None:
    """Lines that cannot be written wait for the next attempt, in order."""
    rig.break_disk()
    rig.end(file("1"))
    rig.clock.advance(INTERVAL)
    rig.end(file("2"))
    rig.disk.work()
    rig.pass_time()
    assert rig.log == ["journal FILE: cannot write: Is a directory; uploads continue"]
    rig.fix_disk()
    rig.pass_time()
    assert rig.names == ["1", "2"]
    assert rig.journal._waiting == 0


def test_complaints(rig: Rig) -> None:
    """A lasting failure is logged once a minute, and so is its end."""
    rig.break_disk()
    rig.end(file("1"))
    for _ in range(int(3 * REPORT_INTERVAL / INTERVAL)):
        rig.pass_time()
    assert rig.log == ["journal FILE: cannot write: Is a directory; uploads continue"] * 3
    rig.fix_disk()
    for _ in range(int(3 * REPORT_INTERVAL / INTERVAL)):
        rig.pass_time()
    assert rig.log[3:] in (
        ["journal FILE: writing again"],
        [
            "journal FILE: cannot write: Is a directory; uploads continue",
            "journal FILE: writing again",
        ],
    )
    assert rig.clock.getDelayedCalls() == []


def test_not_synced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are written but cannot be synced are reported, and not written again."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    rig.end(file("1"))
    rig.pass_time()
    rig.pass_time()
    assert rig.names == ["1"]
    assert rig.log == ["journal FILE: cannot sync: Input/output error; uploads continue"]


# The end


def test_close(rig: Rig) -> None:
    """Closing writes everything that waits."""
    rig.end(file("1"))
    closed = rig.close()
    assert not closed.called
    rig.disk.work()
    assert closed.called
    assert rig.names == ["1"]
    assert rig.log == []
    assert rig.clock.getDelayedCalls() == []


def test_close_while_it_writes(rig: Rig) -> None:
    """Closing also writes lines that arrived while the disk was busy."""
    rig.end(file("1"))
    rig.clock.advance(INTERVAL)
    rig.end(file("2"))
    closed = rig.close()
    while rig.disk.waiting:
        rig.disk.work()
    assert closed.called
    assert rig.names == ["1", "2"]
    assert rig.clock.getDelayedCalls() == []


def test_close_while_idle(rig: Rig) -> None:
    """With nothing to write, the journal is closed at once."""
    assert rig.close().called
    assert not rig.path.exists()


def test_close_with_a_broken_disk(rig: Rig) -> None:
    """Lines that cannot be written at the end are counted in the log."""
    rig.break_disk()
    rig.end(file("1"), file("2"))
    closed = rig.close()
    rig.disk.work()
    assert closed.called
    assert rig.log[-1] == "journal FILE: 2 lines could not be written"
    assert rig.clock.getDelayedCalls() == []


def test_waiting_for_a_dead_disk(rig: Rig) -> None:
    """Waiting for the end can be cancelled; lines that the disk still has count as not written."""
    rig.end(file("1"))
    rig.clock.advance(INTERVAL)
    rig.end(file("2"))
    closed = rig.close()
    closed.addErrback(lambda failure: None)
    closed.cancel()
    assert closed.called
    assert rig.log[-1] == "journal FILE: 2 lines could not be written"
    rig.disk.work()


def test_open(rig: Rig) -> None:
    """Any problem with the journal is reported before the first upload."""
    rig.journal.open()
    assert rig.path.exists()
    rig.path.unlink()
    rig.break_disk()
    with pytest.raises(CannotStart, match="--journal: "):
        rig.journal.open()


# With real uploads


async def test_observer(way: Way, tmp_path: Path) -> None:
    """Each upload of a front end is one line, at the latest when the journal is closed."""
    path = tmp_path / "journal"
    async with open_frontend(RawSettings(max_size=4)) as frontend:
        disk = DiskThreads(reactor, 1, "journal")
        journal = Journal(
            JournalFiles(str(path), Files(), 0, 0), disk, frontend.clock, lambda: MOMENT
        )
        frontend.factory.observers = (journal,)
        await way.send(frontend, b"1234")
        await way.send(frontend, b"12345")
        await frontend.is_quiet()
        await journal.close()
        await disk.stop()
        stored, refused = map(json.loads, path.read_text().splitlines())
    assert stored["name"] in frontend.store.files
    assert (refused["event"], refused["code"], refused["size"]) == ("refused", "too-large", 5)
