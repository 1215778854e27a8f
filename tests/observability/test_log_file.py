"""
The file of the log, and what happens if there is no space for another one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from tests.support.daemon import PATIENCE
from twisted_upload.observability.log import LineObserver
from twisted_upload.observability.log_file import LogFile

LENGTH = 100
LINE = b"x" * (LENGTH - 1) + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def file(path: Path) -> Iterator[LogFile]:
    path.touch(0o640)
    path.chmod(0o640)
    file = LogFile(str(path), LENGTH)
    yield file
    file.close()


class Disk:
    """
    A disk on which no file can be created, or nothing written, while the test says so.

    :ivar full: a new file cannot be created.
    :ivar room: the number of bytes that can be written.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.full = False
        self.space = 10**6
        opens, writes = os.open, os.write

        def opened(name: Any, flags: int, *more: Any, **others: Any) -> int:
            if self.full and name == str(path) and not path.exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return opens(name, flags, *more, **others)

        def written(descriptor: int, data: bytes) -> int:
            if not self.space:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count = writes(descriptor, data[: self.space])
            self.space -= count
            return count

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "write", written)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, path: Path) -> Disk:
    return Disk(monkeypatch, path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_umask_stays(file: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A new file has the permissions of the old one; the umask, which all threads share, is
    not changed.
    """

    def umask(_: int) -> int:
        raise AssertionError("other threads create files")

    monkeypatch.setattr(os, "umask", umask)
    file.write(LINE)
    file.write(b"more\n")
    file.rotate()
    path.unlink()
    file.reopen()
    assert mode(path) == mode(path.with_name("log.1")) == mode(path.with_name("log.2")) == 0o640


def test_rotation(file: LogFile, path: Path) -> None:
    """A long file is rotated before the next line; old ones move up, and none is lost."""
    for number in range(4):
        file.write(b"%d" % number + LINE)
    assert [path.with_name(f"log.{n}").read_bytes()[:1] for n in (1, 2, 3)] == [b"2", b"1", b"0"]
    assert path.read_bytes()[:1] == b"3"


def test_no_space_for_another(file: LogFile, path: Path, disk: Disk) -> None:
    """
    If no other file can be created, lines are appended to the old one, under its name;
    that is logged once.
    """
    file.write(LINE)
    disk.full = True
    with capturedLogs() as events:
        for number in range(3):
            file.write(b"%d\n" % number)
    assert path.read_bytes() == LINE + b"0\n1\n2\n"
    assert not path.with_name("log.1").exists()
    (event,) = [event for event in events if "cannot rotate" in event["log_format"]]
    assert event["why"] == "No space left on device"
    disk.full = False
    for _ in range(3):
        file.write(b"after\n")
    assert path.read_bytes() == b"after\n" * 3


def test_reopening_fails(file: LogFile, path: Path, disk: Disk) -> None:
    """If the file cannot be reopened, lines are appended to the old one."""
    moved = path.rename(path.with_name("moved"))
    disk.full = True
    file.reopen()
    file.write(b"still\n")
    assert moved.read_bytes() == b"still\n"


def test_full_disk(path: Path, disk: Disk) -> None:
    """
    After a disk was full, lines are written again, each whole, with the number of missing
    ones.
    """
    file = LogFile(str(path), 10 * LENGTH)
    observer = LineObserver(lambda text: file.write(text.encode()), file=file)
    observer.begin()
    disk.full, disk.space = True, len(LINE) + 4
    observer.write(LINE.decode())
    observer.write("torn line\n")
    observer.rotate()
    observer.finish(PATIENCE)
    observer.write("lost\n")
    disk.full, disk.space = False, 10**6
    observer.write("after\n")
    lines = path.read_text().splitlines()
    assert "after" in lines, lines
    assert " missing here: " in lines[-1]
    file.close()


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is not rotated, however much has been written to it."""
    renamed: list[str] = []
    # Not really renamed: other programs need that device.
    monkeypatch.setattr(os, "rename", lambda old, _: renamed.append(old))
    file = LogFile("/dev/null", 1)
    for _ in range(3):
        file.write(LINE)
    file.close()
    assert not renamed
