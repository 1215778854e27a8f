"""
The directory store, from the reactor's side.

What the disk threads do is tested in ``test_partial_file.py``, the folder in
``test_folder.py``.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.support.processes import open_descriptors
from tests.support.stores import (
    ARRIVAL,
    MILLISECONDS,
    Rig,
    ThreadedRig,
    begin_upload,
    contents,
    ends_of,
    open_store,
    store_upload,
)
from twisted_upload.core.name_form import NameForm
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import CannotStart, NoSpace
from twisted_upload.interfaces import Arrival, Metadata, Receipt
from twisted_upload.stores.directory.file_queue import SMALL
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.name_record import RECORD
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.testing import StoreContract


class TestContract(StoreContract):
    """The directory store, with its threads, keeps the promises of every store."""

    @pytest.fixture(params=["rename", "link", "no-fsync"])
    def under_test(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadedRig]:
        files = FaultyFiles()
        if request.param == "link":
            files.fail("rename", errno.EINVAL)
        rig = ThreadedRig(tmp_path / "inbox", files=files, durable=request.param != "no-fsync")
        yield rig
        rig.close()


# -- what is on disk ----------------------------------------------------------


def test_layout(rig: Rig) -> None:
    """
    Final files are in the folder, unfinished ones in a hidden folder inside it, and
    nothing else.
    """
    incoming, _, _ = begin_upload(rig.store)
    incoming.write(b"x" * SMALL)
    rig.disk.work()
    assert os.listdir(rig.folder) == [INCOMING]
    assert len(rig.unfinished) == 1
    assert (rig.folder / INCOMING).stat().st_mode & 0o7777 == 0o700
    incoming.commit()
    rig.disk.work()
    assert sorted(os.listdir(rig.folder)) == [INCOMING, f"{MILLISECONDS}.bin"]
    assert rig.unfinished == []


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o664])
def test_mode(tmp_path: Path, mode: int) -> None:
    """A stored file has the mode that the operator chose, whatever the umask."""
    before = os.umask(0o077)
    try:
        rig = Rig(tmp_path / "inbox", mode=mode)
        store_upload(rig, b"x")
    finally:
        os.umask(before)
    (path,) = rig.folder.glob("*.bin")
    assert path.stat().st_mode & 0o7777 == mode
    rig.close()


def test_name(tmp_path: Path) -> None:
    """A name is the milliseconds of the arrival, and a suffix that depends on the content."""
    moments = iter([1_795_328_130.1239, 1_795_328_199.0, 1_795_328_200.5])
    rig = Rig(
        tmp_path,
        now=lambda: next(moments),
        suffix=lambda head: ".jpg" if head.startswith(b"\xff\xd8") else ".bin",
    )
    receipt = store_upload(rig, b"\xff\xd8" + b"x" * 100)
    assert isinstance(receipt, Receipt)
    assert receipt.name == "1795328130123.jpg"
    assert receipt.arrived == 1_795_328_130.1239
    assert receipt.stored == 1_795_328_199.0
    rig.close()


def test_same_millisecond(rig: Rig) -> None:
    """Further uploads of one millisecond get a serial."""
    for content in b"one", b"two", b"three":
        store_upload(rig, content)
    assert rig.stored == {
        f"{MILLISECONDS}.bin": b"one",
        f"{MILLISECONDS}-1.bin": b"two",
        f"{MILLISECONDS}-2.bin": b"three",
    }


def test_original_names(tmp_path: Path) -> None:
    """With time-original, the name that a sender gave is a part of the name; if it gave one."""
    rig = Rig(tmp_path / "inbox", names=NameForm.TIME_ORIGINAL)
    photo = Arrival("192.0.2.7:50123", metadata=Metadata("my photo.jpg"))
    (tmp_path / "inbox" / f"{MILLISECONDS}-my_photo.jpg").touch()
    for arrival in photo, photo, Arrival("192.0.2.7:50123"):
        incoming = rig.store.begin(arrival, lambda _: None)
        incoming.write(b"x")
        incoming.commit()
        rig.disk.work()
    assert sorted(rig.stored) == [
        f"{MILLISECONDS}-1-my_photo.jpg",
        f"{MILLISECONDS}-2-my_photo.jpg",
        f"{MILLISECONDS}-2.bin",
        f"{MILLISECONDS}-my_photo.jpg",
    ]
    rig.close()


@pytest.mark.parametrize("names", NameForm)
def test_names_with_a_node(tmp_path: Path, names: NameForm) -> None:
    """With a node, each file has a name that is unique by itself, and is told in its receipt."""
    rig = Rig(tmp_path / "inbox", names=names, node="one")
    photo = Arrival("192.0.2.7:50123", metadata=Metadata("my photo.jpg"))
    told: list[Receipt] = []
    for _ in range(3):
        incoming = rig.store.begin(photo, lambda _: None)
        incoming.write(b"x")
        incoming.commit().addCallback(told.append)
        rig.disk.work()
    end = r"\.bin" if names is NameForm.TIME else r"-my_photo\.jpg"
    assert {receipt.name for receipt in told} == {*rig.stored}
    assert len(rig.stored) == 3
    for name in rig.stored:
        assert re.fullmatch(rf"{MILLISECONDS}-one-[0-9a-f]{{16}}{end}", name)
    rig.close()


def test_never_overwrites(rig: Rig) -> None:
    """A name that exists, even as a dangling link, is left alone."""
    (rig.folder / f"{MILLISECONDS}.bin").write_bytes(b"not ours")
    (rig.folder / f"{MILLISECONDS}-1.bin").symlink_to("nowhere")
    (rig.folder / f"{MILLISECONDS}-2.bin").mkdir()
    receipt = store_upload(rig, b"ours")
    assert isinstance(receipt, Receipt)
    assert receipt.name == f"{MILLISECONDS}-3.bin"
    assert (rig.folder / f"{MILLISECONDS}.bin").read_bytes() == b"not ours"
    assert not (rig.folder / f"{MILLISECONDS}-1.bin").exists()
    assert (rig.folder / f"{MILLISECONDS}-3.bin").read_bytes() == b"ours"


def test_restart_in_the_same_millisecond(rig: Rig) -> None:
    """A daemon that restarts does not reuse the names of the one before."""
    store_upload(rig, b"before")
    rig.store.close()
    again = Rig(rig.folder)
    store_upload(again, b"after")
    assert sorted(again.stored.values()) == [b"after", b"before"]
    again.close()


async def test_two_daemons(tmp_path: Path) -> None:
    """Two daemons may share a folder: all their files have different names."""
    rigs = [ThreadedRig(tmp_path / "inbox") for _ in range(2)]
    committed = []
    for number in range(100):
        incoming = rigs[number % 2].store.begin(ARRIVAL, lambda _: None)
        incoming.write(b"%d" % number)
        committed.append(incoming.commit())
    receipts = await gatherResults(committed)
    stored = contents(tmp_path / "inbox")
    assert [stored[receipt.name or ""] for receipt in receipts] == [
        b"%d" % number for number in range(100)
    ]
    for rig in rigs:
        rig.close()


# -- what it costs ------------------------------------------------------------


def test_nothing_for_nothing(rig: Rig) -> None:
    """Nothing is opened for an upload before its first byte."""
    before = open_descriptors(rig.folder)
    incoming, _, _ = begin_upload(rig.store)
    assert rig.disk.waiting == 0
    assert open_descriptors(rig.folder) == before
    incoming.abort()
    assert rig.disk.waiting == 0
    assert not rig.files.calls


def test_small_is_one_job(rig: Rig) -> None:
    """A small upload waits in memory and is then one job for one disk thread."""
    incoming, _, _ = begin_upload(rig.store)
    for _ in range(SMALL // 1024 - 1):
        incoming.write(b"x" * 1024)
    assert rig.disk.waiting == 0
    assert rig.unfinished == []
    ends = ends_of(incoming.commit())
    assert rig.disk.waiting == 1
    rig.disk.work(1)
    assert isinstance(ends[0], Receipt)
    assert rig.disk.waiting == 0


def test_small_costs_few_calls(rig: Rig) -> None:
    """A small upload makes each system call that it needs once, and fsync twice."""
    incoming, _, _ = begin_upload(rig.store)
    for _ in range(10):
        incoming.write(b"x" * 1024)
    incoming.commit()
    rig.disk.work()
    rig.files.calls.pop("chmod", None)  # if the umask makes it necessary
    assert rig.files.calls == {
        "create": 1,
        "writev": 1,
        "fsync": 2,
        "rename": 1,
        "close": 1,
    }


def test_no_fsync(tmp_path: Path) -> None:
    """Without durability, an upload waits for no fsync."""
    rig = Rig(tmp_path, durable=False)
    store_upload(rig, b"x" * SMALL * 3)
    assert rig.files.calls["fsync"] == 0
    assert rig.files.calls["rename"] == 1
    assert rig.files.calls["start_write_back"] == 0
    rig.close()


def test_one_job_at_a_time(rig: Rig) -> None:
    """However much has arrived, an upload has one disk job at a time."""
    incoming, _, _ = begin_upload(rig.store)
    for _ in range(10):
        incoming.write(b"x" * SMALL)
        assert rig.disk.waiting == 1
    committed = incoming.commit()
    assert rig.disk.waiting == 1
    while rig.disk.waiting:
        rig.disk.work(1)
        assert rig.disk.waiting <= 1
    assert committed.called
    assert [*rig.stored.values()] == [b"x" * SMALL * 10]


def test_reserve(tmp_path: Path) -> None:
    """
    Below the reserve, uploads are refused before the disk is full; above it again, they
    are accepted from the first one on.
    """
    rig = Rig(tmp_path, reserve=Reserve(percent=1))
    rig.store.start()
    room = [Space(10, 1000)]
    rig.files.free = lambda directory: room[0]  # type: ignore[method-assign]
    store_upload(rig, b"one")
    room[0] = Space(9, 1000)
    rig.clock.advance(10)
    store_upload(rig, b"the one that looks")
    for _ in range(3):
        with pytest.raises(NoSpace):
            begin_upload(rig.store)
        rig.clock.advance(1)
        rig.disk.work()
    room[0] = Space(11, 1000)
    rig.clock.advance(1)
    rig.disk.work()
    assert isinstance(store_upload(rig, b"two"), Receipt)
    assert rig.clock.getDelayedCalls() == []
    rig.close()


def test_reserve_at_start(tmp_path: Path) -> None:
    """A store that starts below the reserve refuses its first upload."""
    files = FaultyFiles()
    files.free = lambda directory: Space(9, 1000)  # type: ignore[method-assign]
    rig = Rig(tmp_path, files=files, reserve=Reserve(percent=1))
    rig.store.start()
    with pytest.raises(NoSpace):
        begin_upload(rig.store)
    rig.clock.advance(1)
    rig.close()
    rig.disk.work()
    assert rig.clock.getDelayedCalls() == []


def test_not_opened(tmp_path: Path) -> None:
    """A store that has not been opened accepts nothing."""
    store = DirectoryStore(str(tmp_path), ManualDisk(), Clock(), lambda: 0.0)
    with pytest.raises(CannotStart):
        store.begin(ARRIVAL, lambda _: None)
    store.close()


def test_open_and_close(tmp_path: Path) -> None:
    """Opening and closing twice does no harm, and leaves no file descriptor open."""
    before = open_descriptors(tmp_path)
    store = open_store(tmp_path, ManualDisk())
    store.open()
    store.close()
    store.close()
    assert open_descriptors(tmp_path) == before


def test_opened_twice(tmp_path: Path) -> None:
    """A start opens the store twice, and warns once."""
    files = FaultyFiles()
    files.fail("rename", errno.EINVAL, times=2)
    (tmp_path / INCOMING).mkdir(mode=0o700)
    (tmp_path / INCOMING / RECORD).write_bytes(b"x" * 16)
    (tmp_path / INCOMING / RECORD).chmod(0o600)
    with capturedLogs() as events:
        store = open_store(tmp_path, ManualDisk(), files=files)
        store.open()
        store.close()
    told = [str(formatEvent(event)) for event in events if event["log_level"] == LogLevel.warn]
    assert ["is damaged" in line for line in told].count(True) == 1
    assert ["by link and unlink" in line for line in told].count(True) == 1


def test_little_memory(tmp_path: Path) -> None:
    """An upload that has begun has no instance dictionaries: there may be thousands."""
    store = DirectoryStore(str(tmp_path), ManualDisk(), Clock(), lambda: 1.0)
    store.open()
    incoming: Any = store.begin(ARRIVAL, lambda _: None)
    incoming.write(b"the first bytes")
    for part in incoming, incoming._part:
        assert not hasattr(part, "__dict__")
    incoming.abort()
