"""
The base class for stores that want finished files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.waiting import reactor, turns, until
from twisted_upload import StoreFile
from twisted_upload.errors import NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival
from twisted_upload.stores.store_file import FinishedFile
from twisted_upload.testing import RecordingProducer, StoreContract


class Mover(StoreFile):
    """Moves each file to another folder."""

    def __init__(self, folder: Path) -> None:
        self.arriving, self.target = folder / "arriving", folder / "stored"
        self.arriving.mkdir(exist_ok=True)
        self.target.mkdir(exist_ok=True)
        super().__init__(self.arriving, reactor)
        self.error: Exception | None = None
        self.files: list[FinishedFile] = []

    def store_file(self, file: FinishedFile) -> str | None:
        self.files.append(file)
        if self.error is not None:
            raise self.error
        shutil.move(file.path, self.target / file.name)
        return None


class _UnderTest:
    def __init__(self, folder: Path) -> None:
        self.store = Mover(folder)

    def stored(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.store.target.iterdir()}

    def unfinished(self) -> int:
        return len(os.listdir(self.store.arriving))

    async def settle(self) -> None:
        pool = reactor.getThreadPool()
        await turns()
        await until(lambda: not pool.working and not pool.q.qsize())
        await turns()


@pytest.fixture
def under_test(tmp_path: Path) -> _UnderTest:
    return _UnderTest(tmp_path)


class TestContract(StoreContract):
    """Such a store keeps the promises of every store."""


async def test_file(under_test: _UnderTest) -> None:
    """It gets the path of a whole file, its size, its SHA-256, and what is known about it."""
    arrival = Arrival("192.0.2.7:50123", digest=True)
    incoming = under_test.store.begin(arrival, lambda _: None)
    incoming.write(b"hello")
    receipt = await incoming.commit()
    (file,) = under_test.store.files
    assert (file.size, file.sha256, file.arrival) == (5, receipt.sha256, arrival)
    assert file.path.startswith(str(under_test.store.arriving))
    assert receipt.name == file.name
    assert under_test.unfinished() == 0


async def test_own_name(tmp_path: Path) -> None:
    """The name that it returns is in the receipt; a file that it leaves is removed."""

    class Namer(StoreFile):
        def store_file(self, file: FinishedFile) -> str:
            return "mine"

    incoming = Namer(tmp_path, reactor).begin(Arrival("x"), lambda _: None)
    assert (await incoming.commit()).name == "mine"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error", [NoSpace(), KeyError("mine"), OSError(28, "full"), OSError(5, "")]
)
async def test_refused(
    under_test: _UnderTest, error: Exception, expected_errors: list[str]
) -> None:
    """What it raises is told to the sender; it is logged unless it is a refusal."""
    expected_errors.append("KeyError")
    under_test.store.error = error
    incoming = under_test.store.begin(Arrival("x"), lambda _: None)
    incoming.write(b"hello")
    with pytest.raises(UploadRefused) as raised:
        await incoming.commit()
    full = isinstance(error, NoSpace) or "full" in str(error)
    assert type(raised.value) is (NoSpace if full else StoreFailed)
    await under_test.settle()
    assert under_test.unfinished() == 0


async def test_disk_fails(under_test: _UnderTest) -> None:
    """If a file cannot be written, the front end is told once, before the end."""
    under_test.store.arriving.rmdir()
    failures: list[UploadRefused] = []
    incoming = under_test.store.begin(Arrival("x"), failures.append)
    incoming.write(b"1")
    await until(lambda: failures)
    incoming.write(b"2")
    incoming.abort()
    await under_test.settle()
    assert [type(failure) for failure in failures] == [StoreFailed]


async def test_paused(under_test: _UnderTest) -> None:
    """A sender that is faster than the disk is paused, and resumed."""
    producer = RecordingProducer()
    incoming = under_test.store.begin(Arrival("x"), lambda _: None)
    incoming.registerProducer(producer, True)
    for _ in range(40):
        incoming.write(bytes(65536))
    assert producer.told == ["pause"]
    await until(lambda: producer.told == ["pause", "resume"])
    await incoming.commit()


def test_leftovers(tmp_path: Path) -> None:
    """What a dead process has left is removed; nothing else is."""
    (tmp_path / "arriving").mkdir()
    (tmp_path / "arriving" / "upload-x").touch()
    (tmp_path / "arriving" / "other").touch()
    Mover(tmp_path)
    assert os.listdir(tmp_path / "arriving") == ["other"]


def test_to_be_overridden(tmp_path: Path) -> None:
    """The base class stores nothing."""
    with pytest.raises(NotImplementedError):
        StoreFile(tmp_path, reactor).store_file(FinishedFile("", "", 0, None, Arrival("")))
