"""
Files of partial uploads that others have removed or linked, and the removal of uploads:
none is taken for stored that is not, and none is removed that has just been continued, or
by a clock that is wrong.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.mortal_files import Killed, MortalFiles
from tests.support.partials import ManualRig
from twisted_upload.core.name_form import NameForm
from twisted_upload.core.names import file_name
from twisted_upload.errors import Busy, NotFound, StoreFailed
from twisted_upload.interfaces import Arrival, Metadata, PartialTerms
from twisted_upload.stores.directory import partial_scan
from twisted_upload.stores.directory.partial_keeper import SCAN_EVERY
from twisted_upload.stores.directory.partial_scan import UNREADABLE_FOR, free_idle
from twisted_upload.stores.directory.resumable_open import open_locked
from twisted_upload.stores.health import SELF_TEST_INTERVAL

DAY = 86400.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualRig]:
    rig = ManualRig(tmp_path / "inbox", now_is_real=True)
    yield rig
    rig.close()


def file_of(rig: ManualRig, suffix: str) -> Path:
    """Return the only file with a suffix."""
    (path,) = (rig.folder / ".incoming/partial").glob(f"*{suffix}")
    return path


def scan(rig: ManualRig) -> None:
    rig.do(rig.store._keeper.scan())


class DeadBeforeRename(MortalFiles):
    """The system calls of a daemon that is killed right before it publishes."""

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        if name.startswith("partial/"):
            self.calls_left = 0
            raise Killed
        super().rename(source, name, target, new_name)


def killed_before_publishing(folder: Path) -> str:
    """Leave an upload whose last bytes were to be published; return its id."""
    return killed_while_publishing(folder, DeadBeforeRename())


def killed_while_publishing(folder: Path, files: MortalFiles) -> str:
    """Leave an upload of a daemon that was killed; return its id."""
    rig = ManualRig(folder, files=files)
    identity = rig.create(5, expires=rig.now() + 7 * DAY)
    rig.write(identity, b"hel")
    with pytest.raises(Killed):
        rig.write(identity, b"lo")
    files.bury()
    return identity


def test_data_removed_while_it_is_written(rig: ManualRig) -> None:
    """An upload whose data another program removes before it is published is not stored."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    writing = rig.begin(identity)
    writing.append.write(b"lo")
    file_of(rig, ".data").unlink()
    assert isinstance(rig.do(writing.append.commit()), StoreFailed)
    assert rig.store.health.well
    assert isinstance(rig.find(identity), NotFound)
    assert (rig.stored, rig.files_left) == ({}, [])


@pytest.mark.parametrize("error", [errno.ELOOP, errno.EISDIR, errno.EACCES])
@pytest.mark.parametrize("suffix", [".record", ".data"])
def test_replaced(rig: ManualRig, suffix: str, error: int) -> None:
    """A file that another program has replaced concerns its upload only."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    rig.let_go()
    if error == errno.EACCES:
        rig.files.fail("open_record", error, after=suffix == ".data")
    else:
        path = file_of(rig, suffix)
        path.unlink()
        path.symlink_to("/dev/null") if error == errno.ELOOP else path.mkdir()
    assert isinstance(rig.find(identity), StoreFailed)
    assert rig.store.health.well
    rig.files.heal()


class DeadAfterUnlink(MortalFiles):
    """
    The system calls of a daemon that is killed right after it has removed a file.

    :ivar is_mortal: whether it is.
    """

    is_mortal = False

    def unlink(self, directory: int, name: str) -> None:
        super().unlink(directory, name)
        if self.is_mortal:
            self.calls_left = 0
            raise Killed


def test_killed_while_it_is_taken_back(tmp_path: Path) -> None:
    """An upload that is neither stored nor can be continued is not told to be stored."""
    files = DeadAfterUnlink()
    rig = ManualRig(tmp_path / "inbox", files=files)
    rig.write(rig.create(1), b"x")  # so that the record of names is written
    identity = rig.create(5)
    rig.write(identity, b"hel")
    files.fail("fsync", errno.EIO, after=2)
    files.fail("rename", errno.EIO, after=1)
    files.is_mortal = True
    with pytest.raises(Killed):
        rig.write(identity, b"lo")
    files.bury()
    again = ManualRig(tmp_path / "inbox")
    found = again.find(identity)
    assert isinstance(found, NotFound) or b"hello" in again.stored.values()
    again.close()


def test_another_link(tmp_path: Path) -> None:
    """A hard link that a backup makes of unpublished data does not make it published."""
    identity = killed_before_publishing(tmp_path / "inbox")
    rig = ManualRig(tmp_path / "inbox")
    os.link(file_of(rig, ".data"), tmp_path / "backup")
    assert rig.find(identity).offset == 3
    assert rig.write(identity, b"lo").receipt is not None
    assert [*rig.stored.values()] == [b"hello"]
    rig.close()


def test_another_link_is_left_alone(rig: ManualRig) -> None:
    """Data that has another name is copied, and not written to: nothing is cut off there."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    rig.let_go()
    data, other = file_of(rig, ".data"), rig.folder.parent / "backup"
    with data.open("ab") as it:
        it.write(b"what was not committed")
    os.link(data, other)
    files_before = rig.files_left
    assert rig.find(identity).offset == 3
    assert rig.files_left == files_before
    assert other.stat().st_nlink == 1
    assert other.read_bytes() == b"helwhat was not committed"
    receipt = rig.write(identity, b"lo").receipt
    assert rig.stored == {receipt.name: b"hello"}
    assert rig.find(identity).receipt == receipt


def test_another_link_before_it_is_discarded(rig: ManualRig) -> None:
    """What was written is not cut off in a file that another program has linked meanwhile."""
    identity = rig.create(1_000_000)
    rig.write(identity, b"hel")
    writing = rig.begin(identity)
    writing.append.write(b"l" * 300_000)
    rig.disk.work()
    other = rig.folder.parent / "backup"
    os.link(file_of(rig, ".data"), other)
    rig.do(writing.append.abort())
    assert other.read_bytes() == b"hel" + b"l" * 300_000
    assert rig.find(identity).offset == 3
    assert rig.write(identity, b"x" * 999_997).receipt is not None
    assert [*rig.stored.values()] == [b"hel" + b"x" * 999_997]


@pytest.mark.parametrize("call", ["create", "copy", "fsync", "replace"])
def test_another_link_and_it_cannot_be_copied(rig: ManualRig, call: str) -> None:
    """If its data cannot be copied, the upload is as it was, and is copied later."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    rig.let_go()
    os.link(file_of(rig, ".data"), rig.folder.parent / "backup")
    files_before = rig.files_left
    rig.files.fail(call, errno.EIO)
    assert isinstance(rig.find(identity), StoreFailed)
    assert rig.files_left == files_before
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert rig.find(identity).offset == 3
    assert rig.write(identity, b"lo").receipt is not None
    assert [*rig.stored.values()] == [b"hello"]


def test_copy_is_cut_off(tmp_path: Path) -> None:
    """Whenever the daemon is killed while it copies data, nothing is lost, and nothing left."""
    for calls in range(100):
        folder = tmp_path / str(calls)
        rig = ManualRig(folder / "inbox")
        identity = rig.create(5)
        rig.write(identity, b"hel")
        rig.close()
        os.link(file_of(rig, ".data"), folder / "backup")
        files = MortalFiles()
        second = ManualRig(folder / "inbox", files=files)
        files.calls_left = calls
        with contextlib.suppress(Killed):
            second.find(identity)
        files.bury()
        third = ManualRig(folder / "inbox")
        assert third.find(identity).offset == 3
        assert third.write(identity, b"lo").receipt is not None
        assert [*third.stored.values()] == [b"hello"]
        third.do(third.store.remove(identity))
        scan(third)
        assert third.files_left == []
        assert (folder / "backup").read_bytes() == b"hel"
        third.close()
        if not files.dead:
            break
    assert 5 < calls < 99


def test_copy_without_a_record(rig: ManualRig) -> None:
    """A copy that a crash has left of an upload that is gone is removed."""
    identity = rig.create(5)
    file_of(rig, ".data").with_suffix(".copy").touch()
    rig.do(rig.store.remove(identity))
    assert len(rig.files_left) == 1
    scan(rig)
    assert rig.files_left == []


class Copied:
    """
    An upload whose data has got another name; its process dies when it has been published.

    :ivar data: its data.
    :ivar backup: the other name.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.files = tmp_path / "inbox", DeadAfterRename()
        self.rig = ManualRig(self.folder, files=self.files)
        self.identity = self.rig.create(5)
        self.rig.write(self.identity, b"hel")
        self.rig.let_go()
        self.data, self.backup = file_of(self.rig, ".data"), tmp_path / "backup"
        os.link(self.data, self.backup)

    def check_published(self) -> None:
        """Publish it; have a power cut bring back its first name; it is stored, once."""
        with pytest.raises(Killed):
            self.rig.write(self.identity, b"lo")
        self.files.bury()
        (name,) = self.rig.stored
        os.link(self.folder / name, self.data)
        again = ManualRig(self.folder)
        assert again.find(self.identity).receipt.name == name
        assert again.stored == {name: b"hello"}
        again.close()


def test_copy_that_was_published(tmp_path: Path) -> None:
    """An upload whose data has been copied is found to be published as any other is."""
    Copied(tmp_path).check_published()


def test_copy_that_was_not_used(tmp_path: Path) -> None:
    """An upload whose data could not be copied is found to be published as any other is."""
    copied = Copied(tmp_path)
    rig = copied.rig
    copied.files.fail("replace", errno.EIO)
    assert isinstance(rig.find(copied.identity), StoreFailed)
    copied.files.heal()
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    copied.backup.unlink()
    copied.check_published()


def test_expires_as_told_although_it_was_about_to_be_published(tmp_path: Path) -> None:
    """An upload that a crash kept from being published is there as long as was told."""
    identity = killed_before_publishing(tmp_path / "inbox")
    rig = ManualRig(tmp_path / "inbox")
    rig.clock.advance(6 * DAY)
    scan(rig)
    assert rig.find(identity).offset == 3
    rig.clock.advance(2 * DAY)
    scan(rig)
    assert rig.files_left == []
    rig.close()


class DeadAfterRename(MortalFiles):
    """The system calls of a daemon that is killed right after it has published."""

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        super().rename(source, name, target, new_name)
        if name.startswith("partial/"):
            self.calls_left = 0
            raise Killed


def test_sync_fails_after_a_crash(tmp_path: Path) -> None:
    """
    An upload whose name cannot be synced after a crash is not taken back, since its client
    may have been told that it is stored; it is told so again by the next process.
    """
    identity = killed_while_publishing(tmp_path / "inbox", DeadAfterRename())
    rig = ManualRig(tmp_path / "inbox")
    rig.files.fail("fsync", errno.EIO)
    assert isinstance(rig.find(identity), StoreFailed)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert isinstance(rig.find(identity), Busy)
    rig.close()
    again = ManualRig(tmp_path / "inbox")
    assert again.stored == {again.find(identity).receipt.name: b"hello"}
    again.close()


@pytest.mark.parametrize("original", ["", "photo.jpg", "1.jpg"])
def test_name_was_taken(tmp_path: Path, original: str) -> None:
    """What was published under the next name is found under that after a crash."""
    files = DeadAfterRename()
    folder = tmp_path / "inbox"
    rig = ManualRig(folder, files=files, names=NameForm.TIME_ORIGINAL)
    arrival = Arrival("x", length=5, metadata=Metadata(original))
    identity = rig.do(rig.store.create(PartialTerms(arrival))).identity
    milliseconds = int(rig.now() * 1000)
    for serial in 0, 1:
        (folder / file_name(milliseconds, serial, ".bin", original)).write_bytes(b"")
    with pytest.raises(Killed):
        rig.write(identity, b"hello")
    files.bury()
    again = ManualRig(folder, names=NameForm.TIME_ORIGINAL)
    receipt = again.find(identity).receipt
    assert receipt.name == file_name(milliseconds, 2, ".bin", original)
    assert again.stored[receipt.name] == b"hello"
    again.close()


def test_sync_has_failed_after_a_crash(tmp_path: Path) -> None:
    """Nor is one that was published by a crashed daemon before another sync failed."""
    identity = killed_while_publishing(tmp_path / "inbox", DeadAfterRename())
    rig = ManualRig(tmp_path / "inbox")
    folder = rig.store.folder()
    assert folder is not None
    folder.sync_errors.append(OSError(errno.EIO, "of another file"))
    assert isinstance(rig.find(identity), Busy)
    assert [*rig.stored.values()] == [b"hello"]
    assert rig.store.health.well
    rig.close()


def test_record_cannot_be_written_after_a_crash(tmp_path: Path) -> None:
    """An upload that is stored is found, although that cannot be noted in its record."""
    identity = killed_while_publishing(tmp_path / "inbox", DeadAfterRename())
    rig = ManualRig(tmp_path / "inbox")
    rig.files.fail("write_at", errno.ENOSPC, times=2)
    for _ in range(2):
        assert rig.find(identity).receipt.size == 5
    rig.close()


@pytest.fixture
def before_it_is_locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Do something after it was decided to remove an upload, and before it is locked."""

    def prepare(something: Callable[[], Any]) -> None:
        def lock(*arguments: Any) -> int:
            monkeypatch.setattr(partial_scan, "open_locked", open_locked)
            something()
            return open_locked(*arguments)

        monkeypatch.setattr(partial_scan, "open_locked", lock)

    return prepare


Before = Callable[[Callable[[], Any]], None]


def test_continued_when_it_expires(rig: ManualRig, before_it_is_locked: Before) -> None:
    """An upload that is continued while a scan finds it expired is not removed."""
    identity = rig.create(5, expires=rig.now() + 100)
    writing = rig.begin(identity, expires=rig.now() + DAY)
    writing.append.write(b"hel")
    rig.clock.advance(200)
    before_it_is_locked(lambda: rig.do(writing.append.commit()))
    scan(rig)
    assert rig.find(identity).offset == 3


def test_continued_when_space_is_short(rig: ManualRig, before_it_is_locked: Before) -> None:
    """An upload that is continued while another needs space is not idle."""
    identity = rig.create(50_000)
    rig.write(identity, b"x" * 10_000)
    os.utime(file_of(rig, ".record"), (0, 0))
    before_it_is_locked(lambda: rig.write(identity, b"y" * 10_000))
    assert free_idle(rig.store.partials.uses.at(), 1).keys == []
    assert rig.find(identity).offset == 20_000
    rig.let_go()
    assert len(free_idle(rig.store.partials.uses.at(), 1).keys) == 1


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_wrong_clock(rig: ManualRig, when: str) -> None:
    """A time of day that is wrong during one scan, and right again, removes nothing."""
    if when == "later":
        rig.store.start()
        rig.disk.work()
    identity = rig.create(5, expires=rig.now() + 3000)
    rig.write(identity, b"hel")
    rig.began += DAY
    rig.clock.advance(SCAN_EVERY)
    if when == "at the start":
        rig.store.start()
    rig.disk.work()
    rig.began -= DAY
    assert rig.find(identity).offset == 3
    rig.clock.advance(SCAN_EVERY)
    rig.disk.work()
    assert rig.find(identity).offset == 3
    rig.began += DAY
    for _ in range(2):
        rig.clock.advance(SCAN_EVERY)
        rig.disk.work()
    assert rig.files_left == []


def test_wrong_clock_since_boot(tmp_path: Path) -> None:
    """A time of day that has been wrong since before the start removes nothing either."""
    rig = ManualRig(tmp_path / "inbox")
    identity = rig.create(5, expires=rig.now() + 3000)
    rig.close()
    clock = Clock()
    clock.advance(DAY)
    again = ManualRig(tmp_path / "inbox", clock=clock)
    again.store.start()
    again.disk.work()
    again.began -= DAY
    assert again.find(identity).offset == 0
    again.close()


def test_record_of_another_version(rig: ManualRig) -> None:
    """Bytes whose record another version has written are not removed by a scan."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    record = file_of(rig, ".record")
    content = record.read_bytes()
    record.write_bytes(content.replace(b"tup1", b"tup9"))
    rig.clock.advance(UNREADABLE_FOR + 1)
    scan(rig)
    assert isinstance(rig.find(identity), NotFound)
    record.write_bytes(content)
    assert rig.find(identity).offset == 3


def test_record_that_cannot_be_read(rig: ManualRig) -> None:
    """One that cannot be read, and has no bytes, is removed."""
    rig.create(5)
    file_of(rig, ".record").write_bytes(b"")
    scan(rig)
    assert len(rig.files_left) == 2
    rig.clock.advance(UNREADABLE_FOR + 1)
    scan(rig)
    assert rig.files_left == []
