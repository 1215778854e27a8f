"""
What a watched folder reports: lines, and the status.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import os
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from twisted_upload.client.file_lock import lock_file
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.client.watch.folder import FolderScan, Found
from twisted_upload.client.watch.record import Identity, SentFile
from twisted_upload.client.watch.report import STILL_LINE, WatchReport
from twisted_upload.client.watch.status import (
    LOCK,
    LockedFolder,
    WatchStatus,
    is_watched,
    read_status,
    write_status,
)
from twisted_upload.errors import CouldNotConnect, TooLarge

FOUND = Found("a.pdf", Identity(2048, 7, 9), 0.0)
SENT = SentFile(FOUND.identity, "0" * 64, "1.pdf", 3.0)
SCAN = FolderScan([FOUND], 0, 2048, [], {}, more=False)


class Rig:
    """A report: its lines, and what it has written."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.written: list[WatchStatus] = []
        self.status = WatchStatus("/scans", "http://server/", 1000.0)
        self.report = WatchReport(
            self.status,
            self.lines.append,
            lambda status: self.written.append(copy.deepcopy(status)),
            self.clock,
            self.clock.seconds,
        )

    def fail(self, times: int, seconds: float) -> None:
        """Let the server be away."""
        for _ in range(times):
            self.report.failed(FOUND, CouldNotConnect("connection refused"), 2.0, alone=False)
            self.clock.advance(seconds)


@pytest.fixture
def rig() -> Rig:
    """A report."""
    return Rig()


def test_stored(rig: Rig) -> None:
    """There is a line for each stored file: its name here and there, and what was done."""
    rig.report.stored(FOUND, SENT, "deleted")
    assert rig.lines == ["a.pdf: stored as 1.pdf, 2.0 KiB; deleted"]


def test_names_are_harmless(rig: Rig) -> None:
    """No name can draw on a terminal."""
    rig.report.stored(Found("\x1b[2J\n", FOUND.identity, 0.0), SENT, "")
    assert rig.lines == ["\\x1b[2J\\n: stored as 1.pdf, 2.0 KiB"]


def test_lasting_trouble(rig: Rig) -> None:
    """Trouble that lasts is told when it begins, from time to time, and when it ends."""
    rig.report.scanned(SCAN, 1)
    rig.fail(100, 1.0)
    assert rig.lines == ["connection refused; 1 file waiting; next attempt in 2.0 s"]
    rig.fail(2, STILL_LINE)
    assert rig.lines[1:] == [
        "connection refused (for 11.7 min); 1 file waiting; next attempt in 2.0 s"
    ]
    rig.report.stored(FOUND, SENT, "")
    assert rig.lines[2] == "files are stored again, after 21.7 min"
    assert not rig.status.trouble


def test_refused(rig: Rig) -> None:
    """A refused file is told once, and is in the status until it is stored or gone."""
    for _ in range(3):
        rig.report.failed(FOUND, TooLarge("too large"), 60.0, alone=True)
    assert rig.lines == ["a.pdf: too-large: too large; next attempt in 1.0 min"]
    assert rig.status.refused == {"a.pdf": "too-large: too large"}
    rig.report.scanned(FolderScan([], 0, 0, [], {}, more=False), 0)
    assert rig.status.refused == {}


def test_left_alone(rig: Rig) -> None:
    """What is not a regular file, or cannot be read, is told once."""
    scan = FolderScan([], 0, 0, ["link"], {"sub": "Permission denied"}, more=False)
    for _ in range(3):
        rig.report.scanned(scan, 0)
    assert rig.lines == [
        "link: not a regular file: left alone",
        "sub: cannot be read: Permission denied",
    ]


def test_folder_that_cannot_be_read(rig: Rig) -> None:
    """It is told when a folder cannot be read, and when it can be read again."""
    rig.report.not_scanned(OSError(2, "No such file or directory"))
    rig.clock.advance(60.0)
    rig.report.scanned(SCAN, 1)
    assert rig.lines == [
        "the folder cannot be read: No such file or directory; 0 files waiting",
        "the folder can be read again, after 1.0 min",
    ]


def test_status_is_written_seldom(rig: Rig) -> None:
    """The status is written at most once a second, and at the end."""
    rig.report.begun(FOUND)
    for sent in range(100):
        rig.report.progress("a.pdf", sent, 2048)
        rig.clock.advance(0.02)
    assert len(rig.written) == 2
    rig.report.ended(FOUND)
    rig.report.close()
    assert rig.written[0].sending == {"a.pdf": [49, 2048]}
    assert rig.written[-1].sending == {}


def test_status_is_read(tmp_path: Path, rig: Rig) -> None:
    """Others read the status as it was written; without one, or with a damaged one, none."""
    assert read_status(str(tmp_path)) is None
    rig.report.failed(FOUND, TooLarge("too large"), 60.0, alone=True)
    write_status(str(tmp_path), rig.status)
    assert read_status(str(tmp_path)) == rig.status
    (tmp_path / "status.json").write_bytes(b"\0" * 100)
    assert read_status(str(tmp_path)) is None


def test_one_process(tmp_path: Path) -> None:
    """One process at a time watches a folder."""
    state = str(tmp_path / "state")
    assert not is_watched(state)
    locked = LockedFolder(state)
    assert is_watched(state)
    with pytest.raises(BlockingIOError):
        LockedFolder(state)
    locked.close()
    assert not is_watched(state)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_two_that_look_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that only looks whether a folder is watched is not taken for one that watches."""
    state = str(tmp_path / "state")
    LockedFolder(state).close()
    looks = lock_file(os.path.join(state, LOCK), SYSTEM.files)
    assert looks is not None
    monkeypatch.setattr(ClientSystem, "pause", lambda system, seconds: looks())
    assert not is_watched(state)


def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is told as that, and not as another process."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks available"):
        LockedFolder(str(tmp_path / "state"))
