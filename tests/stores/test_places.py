"""The places of an owner with a quota."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.daemon import wait_until
from twisted_upload.core.quota import Quota
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import NotAllowed, StoreFailed
from twisted_upload.stores.limited_upload import Place
from twisted_upload.stores.places import FOLDER, KEEP, Places

NOW = 1_795_328_130.0
NONCE = "00112233445566778899aabb"
THREE = Quota(NONCE, 3, int(NOW) + 3600).owner
TAGS = [os.urandom(16).hex() for _ in range(4)]


class Process:
    """The places in a folder, as one process sees them."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self.now = NOW
        self.disk = ManualDisk()
        self.places = Places(str(folder), files or Files(), self.disk, lambda: self.now)

    def done(self, change: Deferred[Any]) -> Any:
        """Let the disk work, and return the result."""
        results: list[Any] = []
        change.addBoth(results.append)
        self.disk.work()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def take(self, tag: str, owner: str = THREE) -> None:
        self.done(self.places.take(owner, tag))

    def use(self, tag: str, owner: str = THREE) -> None:
        self.done(self.places.use(owner, tag))

    def hold(self, tag: str, until: float, taken: str = "", *, used: bool = False) -> None:
        self.done(self.places.hold(THREE, tag, until, taken, used=used))

    def give_back(self, tag: str, *, used: bool = False) -> None:
        self.done(self.places.give_back(THREE, tag, used=used))

    @property
    def left(self) -> int:
        left: int = self.done(self.places.left(THREE))
        return left


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


def test_no_quota(process: Process, tmp_path: Path) -> None:
    """An owner without a quota has any number of places, and no file."""
    for owner in "", "token:scanner", f"invitation:{NONCE}":
        assert process.done(process.places.left(owner)) is None
        process.take("x", owner)
        process.use("x", owner)
    assert os.listdir(tmp_path) == []


def test_as_many_as_the_quota(process: Process) -> None:
    """There are as many places as the quota says, taken or used."""
    process.take(TAGS[0])
    process.use(TAGS[1])
    process.take(TAGS[2])
    assert process.left == 0
    for attempt in process.take, process.use:
        with pytest.raises(NotAllowed, match="this invitation has been used"):
            attempt(TAGS[3])
    process.use(TAGS[0])
    process.use(TAGS[2])
    assert process.left == 0


def test_give_back(process: Process) -> None:
    """What is given back can be taken again; a used place is not given back by accident."""
    for tag in TAGS[:3]:
        process.take(tag)
    process.give_back(TAGS[1])
    assert process.left == 1
    process.use(TAGS[3])
    process.give_back(TAGS[3])
    assert process.left == 0
    process.give_back(TAGS[3], used=True)
    assert process.left == 1
    process.give_back("f" * 32)
    assert process.left == 1


def test_once(process: Process) -> None:
    """An upload has one place, however often it asks."""
    for _ in range(2):
        process.take(TAGS[0])
        process.hold(TAGS[0], NOW + 5)
        process.use(TAGS[0])
        process.use(TAGS[0])
        process.hold(TAGS[0], NOW + 5)
    assert process.left == 2
    process.now += 100
    assert process.left == 2


def test_partial_upload(process: Process) -> None:
    """The place of a partial upload is held until it expires, and whatever happens."""
    process.take(TAGS[0])
    process.hold(TAGS[1], NOW + 10, TAGS[0])
    assert process.left == 2
    process.now += 9
    assert process.left == 2
    process.now += 3
    assert process.left == 3
    process.use(TAGS[1])
    process.hold(TAGS[1], process.now + 10, used=True)
    assert process.left == 2
    process.now += 20
    assert process.left == 3


def test_renamed(process: Process) -> None:
    """A place keeps its state under another name; two of one name are one place."""
    process.use(TAGS[0])
    process.take(TAGS[1])
    for tag, left in zip(TAGS[:2], (1, 2), strict=True):
        process.done(process.places.rename(THREE, tag, TAGS[2]))
        assert process.left == left
    process.done(process.places.rename(THREE, TAGS[0], TAGS[3]))
    process.give_back(TAGS[2])
    assert process.left == 2


def test_rename_that_fails(tmp_path: Path) -> None:
    """An upload that is stored stays so, and counts, if its place cannot be renamed."""
    files = FaultyFiles()
    process = Process(tmp_path, files)
    process.use(TAGS[0])
    files.fail("write_at", errno.EIO)
    process.done(Place(process.places, THREE, TAGS[0]).rename(TAGS[1]))
    assert process.left == 2


def test_survives(process: Process, tmp_path: Path) -> None:
    """What is used or held stays so for the next process; what a dead one has taken is free."""
    process.use(TAGS[0])
    process.hold(TAGS[1], NOW + 10)
    process.take(TAGS[2])
    other = Process(tmp_path)
    assert other.left == 0
    process.places.close()
    assert other.left == 1
    other.take(TAGS[3])
    assert other.left == 0


def test_durable(tmp_path: Path) -> None:
    """A place that is used is synced, and the folder of the file too, before that is told."""
    files = FaultyFiles()
    process = Process(tmp_path, files)
    process.take(TAGS[0])
    before = files.calls["fsync"]
    process.use(TAGS[0])
    assert files.calls["fsync"] == before + 2
    files.fail("fsync", errno.EIO)
    with pytest.raises(StoreFailed):
        process.use(TAGS[1])
    process.use(TAGS[1])
    assert files.calls["fsync"] == before + 5


def test_damaged(process: Process, tmp_path: Path) -> None:
    """A record that cannot be read counts as used: a crash gives nobody a place."""
    process.use(TAGS[0])
    (name,) = os.listdir(tmp_path / FOLDER)
    with (tmp_path / FOLDER / name).open("r+b") as file:
        file.seek(100)
        file.write(b"x")
    assert process.left == 1


def test_private(process: Process, tmp_path: Path) -> None:
    """No other user can read or write the files."""
    process.use(TAGS[0])
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
    (path,) = (tmp_path / FOLDER).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name == f"{int(NOW) + 3600:012d}-{NONCE}"


def test_old_files(process: Process, tmp_path: Path) -> None:
    """Files of invitations that expired a while ago are removed when a new one is created."""
    process.use(TAGS[0])
    other = Quota("ff" * 12, 1, int(NOW) + 3600)
    process.now = NOW + 3600 + KEEP - 1
    process.use(TAGS[0], other.owner)
    assert len(os.listdir(tmp_path / FOLDER)) == 2
    process.now += 2
    process.use(TAGS[0], other._replace(nonce="ee" * 12, expires=int(process.now)).owner)
    assert len(os.listdir(tmp_path / FOLDER)) == 1


def test_disk_fails(tmp_path: Path) -> None:
    """If the file cannot be opened, read or written, the upload is refused."""
    with pytest.raises(StoreFailed):
        Process(tmp_path / "none").take(TAGS[0])
    for call in "open_record", "read_at", "write_at":
        files = FaultyFiles()
        process = Process(tmp_path, files)
        files.fail(call, errno.EIO)
        with pytest.raises(StoreFailed):
            process.take(TAGS[0])
        process.take(TAGS[0])
        process.places.close()


def test_no_descriptors_left(process: Process) -> None:
    """Nothing stays open but the folder."""
    process.take(TAGS[0])
    before = len(os.listdir("/proc/self/fd"))
    for tag in TAGS[1:3]:
        process.use(tag)
    with pytest.raises(NotAllowed):
        process.take(TAGS[3])
    assert len(os.listdir("/proc/self/fd")) == before
    process.places.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_one_change_at_a_time(tmp_path: Path) -> None:
    """A process that looks for a free place waits for one that is just taking the last."""
    one = Quota("ee" * 12, 1, int(NOW) + 3600).owner
    slow = FaultyFiles()
    processes = [Process(tmp_path, slow), Process(tmp_path)]
    processes[1].take(TAGS[3], Quota("dd" * 12, 1, int(NOW) + 3600).owner)  # the folder exists
    slow.stall("write_at")
    results: list[str] = []

    def take(process: Process, tag: str) -> None:
        try:
            process.take(tag, one)
            results.append("taken")
        except NotAllowed:
            results.append("none left")

    threads = [
        threading.Thread(target=take, args=(process, tag), daemon=True)
        for process, tag in zip(processes, TAGS, strict=False)
    ]
    threads[0].start()
    wait_until(lambda: slow.calls["write_at"], "the first to write")
    threads[1].start()
    threads[1].join(0.2)  # it would be over if it did not wait
    slow.heal()
    for thread in threads:
        thread.join(10)
    assert sorted(results) == ["none left", "taken"]


def test_in_turn(process: Process) -> None:
    """What is asked after a place was given back knows of it, however busy the disk is."""
    for tag in TAGS[:3]:
        process.take(tag)
    given = process.places.give_back(THREE, TAGS[0])
    left = process.places.left(THREE)
    other = process.places.left(Quota("ee" * 12, 9, int(NOW) + 3600).owner)
    assert process.disk.waiting == 2  # one of each invitation
    assert process.done(left) == 1
    assert (given.called, other.called, process.places._turns) == (True, True, {})
