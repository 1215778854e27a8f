"""
A watched folder: what is sent when, and what becomes of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from twisted_upload.client.watch.after import Delete, IAfter, Keep, Move
from twisted_upload.client.watch.folder import FolderScan, Found, WatchedFolder
from twisted_upload.client.watch.record import SentFile, SentRecord
from twisted_upload.client.watch.watcher import FILE_PAUSE, LONGEST_PAUSE, SOON, Watcher
from twisted_upload.errors import CouldNotConnect, SourceChanged, TooLarge
from twisted_upload.interfaces import Receipt

SETTLE = 10.0

T = TypeVar("T")


def wanted(path: str, *, is_folder: bool) -> bool:
    """Return whether a file, or a folder, is to be sent."""
    return not path.endswith("drafts" if is_folder else ".part")


class Rig:
    """
    A watcher with a clock, and a server that stores when it is told to.

    :ivar sending: the files that are being sent, by name.
    :ivar told: what was reported.
    """

    def __init__(
        self, folder: Path, after: IAfter | None = None, jobs: int = 1, began: float = 2e9
    ) -> None:
        self.path = folder
        self.clock = Clock()
        self.began = began
        self.sending: dict[str, Deferred[Receipt]] = {}
        self.all_sent: list[str] = []
        self.told: list[str] = []
        self.hashed: list[str] = []
        self.held: list[Deferred[None]] | None = None  # what waits for a slow disk
        self.folder = WatchedFolder(str(folder), SETTLE, wanted)
        record = folder.parent / "record"
        self.record = SentRecord(str(record), lambda path: self.folder.status(path) is not None)
        self.watcher = Watcher(
            self.folder,
            self.record,
            self,
            after or Delete(),
            self,
            run=self._run,
            sha256=self._sha256,
            clock=self.clock,
            now=self.now,
            chance=lambda: 0.5,
            jobs=jobs,
        )
        self.watcher.start()

    def now(self) -> float:
        """Return the time: long after the files of the tests were made, if not told otherwise."""
        return self.began + self.clock.seconds()

    def _run(self, job: Callable[[], T]) -> Deferred[T]:
        if self.held is None:
            return maybeDeferred(job)
        held: Deferred[None] = Deferred()
        self.held.append(held)
        return held.addCallback(lambda _: job())

    def _sha256(self, path: str) -> str:
        self.hashed.append(os.path.basename(path))
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def send(self, path: str, name: str) -> Deferred[Receipt]:
        """See `ISender`."""
        self.all_sent.append(name)
        sending: Deferred[Receipt] = Deferred(lambda _: self.sending.__delitem__(name))
        self.sending[name] = sending
        return sending

    def recorded(self, path: str) -> None:
        """See `ISender`."""
        assert os.path.relpath(path, self.path) in self.record.sent
        assert os.path.exists(path)

    def put(self, name: str, content: bytes = b"hello") -> Path:
        """Put a file there."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def settle(self) -> None:
        """Let all files settle."""
        self.clock.pump([1.0] * 12)

    def store(self, name: str, /, **other: Any) -> None:
        """Have the server store a file."""
        content = (self.path / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        receipt = Receipt("1.bin", len(content), sha256, "x", 0.0, 0.0)
        self.sending.pop(name).callback(receipt._replace(**other))

    def fail(self, name: str, error: Exception) -> None:
        """Have an upload fail."""
        self.sending.pop(name).errback(error)

    def files(self) -> list[str]:
        """Return the files that are there."""
        return sorted(str(it.relative_to(self.path)) for it in self.path.rglob("*") if it.is_file())

    def again(self, after: IAfter | None = None) -> Rig:
        """Stop, and start another one."""
        self.watcher.stop()
        self.record.close()
        return Rig(self.path, after)

    # IWatchReport

    def scanned(self, scan: FolderScan, waiting: int) -> None:
        """See `IWatchReport`."""
        self.waiting = waiting

    def begun(self, found: Found) -> None:
        """See `IWatchReport`."""

    def stored(self, found: Found, sent: SentFile, done: str) -> None:
        """See `IWatchReport`."""
        self.told.append(f"{found.path} stored {done}".strip())

    def failed(self, found: Found, error: BaseException, pause: float, *, alone: bool) -> None:
        """See `IWatchReport`."""
        self.told.append(f"{found.path} failed {type(error).__name__} {pause:g}")

    def not_scanned(self, error: Exception) -> None:
        """See `IWatchReport`."""
        self.told.append("not scanned")

    def ended(self, found: Found) -> None:
        """See `IWatchReport`."""


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes rigs for one folder."""
    (tmp_path / "scans").mkdir()
    made: list[Rig] = []

    def rig(after: IAfter | None = None, **more: Any) -> Rig:
        made.append(Rig(tmp_path / "scans", after, **more))
        return made[-1]

    yield rig
    for one in made:
        one.watcher.stop()


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    """One that deletes."""
    return rigs()


def test_stored_and_deleted(rig: Rig) -> None:
    """A file is deleted when, and only when, the server has stored it."""
    rig.put("a.pdf")
    rig.settle()
    assert ([*rig.sending], rig.files()) == (["a.pdf"], ["a.pdf"])
    rig.store("a.pdf")
    assert (rig.files(), rig.told) == ([], ["a.pdf stored deleted"])


def test_not_before_it_has_settled(rig: Rig) -> None:
    """A file is not sent while it changes."""
    for size in range(1, 4):
        rig.put("a.pdf", b"x" * size)
        rig.clock.pump([1.0] * 9)
        assert not rig.sending
    rig.settle()
    assert [*rig.sending] == ["a.pdf"]


def test_closed(rig: Rig) -> None:
    """A file that its writer has closed is sent at once, unless it is written again."""
    one, two = rig.put("a.pdf"), rig.put("b.pdf")
    rig.folder.closed("a.pdf")
    rig.folder.closed("b.pdf")
    with two.open("ab") as file:
        file.write(b"more")
    rig.clock.advance(1.0)
    assert [*rig.sending] == ["a.pdf"]
    assert one.exists()


def test_soon(rig: Rig) -> None:
    """When something has come, a scan does not wait for its time, and many cause one."""
    for number in range(3):
        rig.put(f"{number}.pdf")
        rig.folder.closed(f"{number}.pdf")
        rig.watcher.look_soon()
    assert not rig.sending
    rig.clock.advance(SOON)
    assert len(rig.sending) == 1
    assert rig.waiting == 3


def test_left_alone(rig: Rig) -> None:
    """Hidden files, excluded files, links and special files are not sent."""
    for name in ".hidden", "a.part", ".folder/b", "drafts/c":
        rig.put(name)
    (rig.path / "link").symlink_to(rig.path / "a.part")
    os.mkfifo(rig.path / "pipe")
    rig.settle()
    assert rig.all_sent == []


def test_subfolders(rig: Rig) -> None:
    """Files in folders are sent with their relative path."""
    rig.put("monday/a.pdf")
    rig.settle()
    rig.store("monday/a.pdf")
    assert rig.files() == []


def test_oldest_first(rigs: Callable[..., Rig]) -> None:
    """The oldest files are sent first, no more than a few at a time."""
    rig = rigs(jobs=2)
    for number in range(4):
        os.utime(rig.put(f"{number}.pdf"), (1000 - number, 1000 - number))
    rig.settle()
    assert [*rig.sending] == ["3.pdf", "2.pdf"]
    rig.store("2.pdf")
    assert [*rig.sending] == ["3.pdf", "1.pdf"]


def test_no_connection(rig: Rig) -> None:
    """Without a connection everything stays, and it is tried again after a growing pause."""
    rig.put("a.pdf")
    rig.put("b.pdf")
    rig.settle()
    for _ in range(8):
        rig.fail("a.pdf", CouldNotConnect("refused"))
        assert not rig.sending
        rig.clock.pump([1.0] * int(LONGEST_PAUSE + 1))
    pauses = [line.split()[-1] for line in rig.told]
    assert pauses == ["1", "2", "4", "8", "16", "32", "60", "60"]
    assert rig.files() == ["a.pdf", "b.pdf"]
    rig.store("a.pdf")
    assert [*rig.sending] == ["b.pdf"]


def test_refused_file(rig: Rig) -> None:
    """A file that the server refuses does not delay the others, and is tried again later."""
    rig.put("a.pdf")
    rig.put("b.pdf")
    rig.settle()
    rig.fail("a.pdf", TooLarge())
    assert [*rig.sending] == ["b.pdf"]
    rig.store("b.pdf")
    rig.clock.pump([1.0] * 50)
    assert not rig.sending
    rig.clock.pump([1.0] * int(FILE_PAUSE - 49))
    assert [*rig.sending] == ["a.pdf"]
    assert rig.files() == ["a.pdf"]


@pytest.mark.parametrize("missing", [{"sha256": None}, {"name": None}])
def test_no_receipt(rig: Rig, missing: dict[str, None]) -> None:
    """Without a receipt with a name and a SHA-256, nothing is deleted."""
    rig.put("a.pdf")
    rig.settle()
    rig.store("a.pdf", **missing)
    assert rig.files() == ["a.pdf"]
    assert rig.told[0].startswith("a.pdf failed UploadError")


def test_changed_after_it_was_sent(rig: Rig) -> None:
    """A file that has changed when its receipt arrives stays, and is sent again."""
    path = rig.put("a.pdf")
    rig.settle()
    sending = rig.sending.pop("a.pdf")
    path.write_bytes(b"more than before")
    sending.callback(Receipt("1.bin", 5, "0" * 64, "x", 0.0, 0.0))
    assert rig.files() == ["a.pdf"]
    rig.clock.pump([1.0] * int(FILE_PAUSE + 1))
    rig.store("a.pdf")
    assert rig.all_sent == ["a.pdf", "a.pdf"]
    assert rig.files() == []


def test_changed_while_it_is_sent(rig: Rig) -> None:
    """A file that changes while it is being sent is sent again."""
    rig.put("a.pdf")
    rig.settle()
    rig.fail("a.pdf", SourceChanged("it has changed"))
    rig.clock.pump([1.0] * int(FILE_PAUSE + 1))
    assert [*rig.sending] == ["a.pdf"]


def test_removed_before_its_turn(rig: Rig) -> None:
    """A file that is removed before its turn is forgotten."""
    rig.put("a.pdf")
    path = rig.put("b.pdf")
    rig.settle()
    path.unlink()
    rig.store("a.pdf")
    assert rig.told == ["a.pdf stored deleted"]
    assert not rig.sending


def test_moved(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    """With another folder, stored files are moved there; none replaces another."""
    done = tmp_path / "done"
    done.mkdir()
    rig = rigs(Move(str(done)))
    for content in b"one", b"two":
        rig.put("monday/a.pdf", content)
        rig.settle()
        rig.store("monday/a.pdf")
    assert rig.files() == []
    assert [it.name for it in sorted(done.rglob("*.pdf"))] == ["a-1.pdf", "a.pdf"]
    assert (done / "monday/a.pdf").read_bytes() == b"one"


def test_kept(rigs: Callable[..., Rig]) -> None:
    """Without either, stored files stay, and are not sent again, even after a restart."""
    rig = rigs(Keep())
    rig.put("a.pdf")
    rig.settle()
    rig.store("a.pdf")
    rig.settle()
    assert (rig.all_sent, rig.waiting) == (["a.pdf"], 0)
    other = rig.again(Keep())
    other.settle()
    assert (other.all_sent, other.hashed) == ([], [])
    other.put("a.pdf", b"a new one")
    other.settle()
    assert other.all_sent == ["a.pdf"]
    other.watcher.stop()


def test_stopped_before_it_is_deleted(rigs: Callable[..., Rig]) -> None:
    """A file that was stored, but not deleted before a crash, is deleted and not sent again."""
    rig = rigs(Keep())
    rig.put("a.pdf")
    rig.settle()
    rig.store("a.pdf")
    other = rig.again(Delete())
    other.settle()
    assert (other.all_sent, other.files()) == ([], [])
    assert other.told == ["a.pdf stored deleted"]
    other.watcher.stop()


@pytest.mark.parametrize("content", [b"hello", b"olleh"])
def test_same_size_and_time(rigs: Callable[..., Rig], content: bytes) -> None:
    """A new file of the same name, size and time is compared by its content."""
    rig = rigs(Keep(), began=1.0)  # stored before the new file has come
    path = rig.put("a.pdf")
    os.utime(path, (1000, 1000))
    rig.settle()
    rig.store("a.pdf")
    path.unlink()
    os.utime(rig.put("a.pdf", content), (1000, 1000))
    other = rig.again(Delete())
    other.folder.closed("a.pdf")
    other.clock.advance(1.0)
    assert other.hashed == ["a.pdf"]
    assert other.all_sent == ([] if content == b"hello" else ["a.pdf"])
    other.watcher.stop()


def test_stopped(rig: Rig) -> None:
    """Stopping interrupts what is being sent, and deletes nothing."""
    rig.put("a.pdf")
    rig.settle()
    stopped = rig.watcher.stop()
    assert (stopped.called, rig.files(), rig.told) == (True, ["a.pdf"], [])


def test_stopped_while_the_disk_is_slow(rig: Rig) -> None:
    """What has been stored is deleted, and reported, before the watcher stops."""
    rig.put("a.pdf")
    rig.settle()
    rig.held = []
    rig.store("a.pdf")
    stopped = rig.watcher.stop()
    assert not stopped.called
    while rig.held:
        rig.held.pop().callback(None)
    assert (stopped.called, rig.files(), rig.told) == (True, [], ["a.pdf stored deleted"])


def test_folder_cannot_be_read(rig: Rig) -> None:
    """A folder that cannot be read, because it is not mounted, is looked at again."""
    away = rig.path.with_name("away")
    rig.path.rename(away)
    rig.clock.advance(1.0)
    assert rig.told == ["not scanned"]
    away.rename(rig.path)
    rig.put("a.pdf")
    rig.settle()
    assert [*rig.sending] == ["a.pdf"]


def test_record_cannot_be_written(rig: Rig) -> None:
    """A file that cannot be put into the record is not deleted."""
    rig.put("a.pdf")
    rig.settle()
    rig.record.close()
    rig.store("a.pdf")
    assert rig.files() == ["a.pdf"]
    assert rig.told[0].startswith("a.pdf failed OSError")
