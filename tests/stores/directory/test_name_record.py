"""
No name is used twice.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.support.stores import ARRIVAL, MILLISECONDS, contents
from twisted_upload.core.names import BEHIND, SERIALS, UniqueTimestamps
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import CannotStart
from twisted_upload.stores.directory.name_record import AHEAD, ENTRIES, RECORD, NameRecord
from twisted_upload.stores.directory.store import DirectoryStore


class _Store:
    """A store whose clock the test sets; there may be several."""

    def __init__(self, folder: Path, milliseconds: int, files: Files | None = None) -> None:
        self.milliseconds = milliseconds
        self.disk = ManualDisk()
        self.store = DirectoryStore(
            str(folder),
            self.disk,
            Clock(),
            lambda: self.milliseconds / 1000,
            suffix=lambda _: "",
            files=files,
        )
        self.store.open()

    def store_some(self, count: int = 1) -> list[str]:
        """Store some files; return their names, or the codes of their refusals."""
        names: list[str] = []
        for _ in range(count):
            incoming = self.store.begin(ARRIVAL, lambda _: None)
            incoming.write(b"x")
            incoming.commit().addCallbacks(
                lambda receipt: names.append(str(receipt.name)),
                lambda failure: names.append(failure.value.code),
            )
        self.disk.work()
        return names

    def die(self) -> None:
        """End as when the process is killed: nothing more is written."""
        self.store.given.forget()
        self.store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "inbox"
    yield folder
    for path in folder.glob("[0-9]*"):
        path.unlink()


def _remove_files(folder: Path) -> None:
    for path in folder.glob("[0-9]*"):
        path.unlink()


def _duplicate(store: _Store) -> int:
    """Return the file descriptor that a parent or child process shares after a fork."""
    folder = store.store._folder
    assert folder is not None
    return os.dup(folder.incoming)


def _entry(folder: Path, number: int = 0) -> int:
    lines = (folder / ".incoming" / RECORD).read_bytes()
    return int(lines[16 * number : 16 * number + 16])


@pytest.mark.parametrize("how", ["close", "die"])
@pytest.mark.parametrize("back", [1, 1000, 86_400_000])
def test_clock_goes_back(folder: Path, how: str, back: int) -> None:
    """
    After a restart, with the clock set back and the file taken away, its name is not used
    again.
    """
    store = _Store(folder, MILLISECONDS)
    given = store.store_some(3)
    store.milliseconds += 17
    given += store.store_some(2)
    getattr(store.store if how == "close" else store, how)()
    _remove_files(folder)
    again = _Store(folder, MILLISECONDS + 17 - back)
    for _ in range(back if back < 10 else 3):
        given += again.store_some(150)
        again.milliseconds += 1
    assert len({*given}) == len(given)
    again.store.close()


def test_restart_after_a_clean_end(folder: Path) -> None:
    """After a clean end, names follow the time of day, from the next millisecond on."""
    store = _Store(folder, MILLISECONDS)
    store.store_some(2)
    assert _entry(folder) == MILLISECONDS + AHEAD
    store.store.close()
    assert _entry(folder) == MILLISECONDS
    assert _Store(folder, MILLISECONDS + 1).store_some() == [str(MILLISECONDS + 1)]


def test_restart_after_a_crash(folder: Path) -> None:
    """
    After a crash, names begin where the entry ends, and follow the time of day once that
    is later.
    """
    store = _Store(folder, MILLISECONDS)
    store.store_some()
    store.die()
    again = _Store(folder, MILLISECONDS + 100)
    assert again.store_some(2) == [f"{MILLISECONDS + AHEAD + 1}", f"{MILLISECONDS + AHEAD + 1}-1"]
    again.milliseconds = MILLISECONDS + AHEAD + 2
    assert again.store_some() == [f"{MILLISECONDS + AHEAD + 2}"]
    again.store.close()


def test_before_it_is_published(folder: Path) -> None:
    """The entry is synced with the files, before their names are visible; then not for a while."""
    calls: list[str] = []

    class Noting(FaultyFiles):
        def _before(self, call: str) -> int | None:
            if call in ("write_at", "rename", "fsync"):
                calls.append(call)
            return super()._before(call)

    files = Noting()
    store = _Store(folder, MILLISECONDS, files)
    store.store_some()
    calls.clear()
    store.milliseconds += AHEAD + 1
    store.store_some()
    # The file and the entry; the folder.
    assert calls == ["write_at", "fsync", "fsync", "rename", "fsync"]
    calls.clear()
    store.milliseconds += AHEAD
    store.store_some()
    assert calls == ["fsync", "rename", "fsync"]
    store.store.close()


@pytest.mark.parametrize("call", ["open_record", "write_at", "fsync"])
def test_entry_that_cannot_be_written(folder: Path, call: str) -> None:
    """An upload whose name cannot be recorded is refused, and never visible."""
    files = FaultyFiles()
    store = _Store(folder, MILLISECONDS, files)
    files.fail(call, errno.ENOSPC, after=2 if call == "fsync" else 0)
    assert store.store_some() == ["no-space"]
    assert contents(folder) == {}
    assert store.store_some() == [f"{MILLISECONDS}-1"]
    store.store.close()


class _Unsynced(FaultyFiles):
    """Records what is written to the record, and fails its first fsync."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self._failed = False

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        self.told.append("write")
        super().write_at(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(RECORD):
            self.told.append("fsync")
            if not self._failed:
                self._failed = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync(descriptor)


def test_written_again(folder: Path) -> None:
    """After a failed fsync the entry is written again, not only synced: it may be gone."""
    files = _Unsynced()
    store = _Store(folder, MILLISECONDS, files)
    assert store.store_some() == ["store-error"]
    store.store.health.well = True
    assert store.store_some() == [f"{MILLISECONDS}-1"]
    assert files.told == ["write", "fsync", "write", "fsync"]
    store.store.close()


def test_doubted_meanwhile(folder: Path) -> None:
    """
    If another fsync has failed in the meantime, an entry covers nothing, though its own
    fsync has succeeded: an error is reported once.
    """
    store = _Store(folder, MILLISECONDS)
    record = store.store.given.record
    assert record is not None
    cover = record.write(MILLISECONDS)
    record.sync_failed()
    with pytest.raises(OSError, match="synced"):
        record.confirm(cover)
    assert record.covered == 0
    record.confirm(record.write(MILLISECONDS))
    assert record.covered == MILLISECONDS + AHEAD
    store.store.close()


def test_folder_of_a_new_record(folder: Path) -> None:
    """If the folder of a new record cannot be synced, that is done before the next name."""
    files = FaultyFiles()
    store = _Store(folder, MILLISECONDS, files)
    record = store.store.given.record
    assert record is not None
    files.fail("fsync", errno.EIO)
    with pytest.raises(OSError, match="Input"):
        record.write(MILLISECONDS)
    files.calls.clear()
    record.write(MILLISECONDS)
    assert files.calls["fsync"] == 1
    store.store.close()


def test_never_set_back(folder: Path) -> None:
    """An entry written for an earlier moment still covers the later one."""
    store = _Store(folder, MILLISECONDS)
    record = store.store.given.record
    assert record is not None
    until = record.write(MILLISECONDS + 1_000_000).until
    assert record.write(MILLISECONDS).until == until
    assert _entry(folder) == until
    store.store.close()


def test_names_of_a_batch(folder: Path) -> None:
    """An entry covers the latest name of its batch."""
    store = _Store(folder, MILLISECONDS)
    store.store_some()
    ends = []
    for later in (AHEAD + 10, 10 * AHEAD):  # one goes first, the others share a batch
        for _ in range(3):
            store.milliseconds = MILLISECONDS + later
            incoming = store.store.begin(ARRIVAL, lambda _: None)
            incoming.write(b"x")
            ends.append(incoming.commit())
    store.disk.work()
    assert all(end.called for end in ends)
    assert _entry(folder) >= MILLISECONDS + 10 * AHEAD
    store.store.close()


def test_without_its_record(folder: Path) -> None:
    """A process whose record is removed still remembers its names."""
    store = _Store(folder, MILLISECONDS)
    given = store.store_some(2)
    _remove_files(folder)
    shutil.rmtree(folder / ".incoming")
    store.store.open()
    given += store.store_some(2)
    assert len({*given}) == 4
    store.store.close()


def test_far_ahead(folder: Path) -> None:
    """
    If the clock was once far ahead, a warning is logged at each start, and names continue
    from there.
    """
    future = 4_102_444_800_000
    store = _Store(folder, future)
    store.store_some()
    store.store.close()
    with capturedLogs() as events:
        again = _Store(folder, MILLISECONDS)
        again.store.open()  # a second time, as by the process that will serve
        assert again.store_some(SERIALS + 1)[-1] == str(future + 2)
    (line,) = [formatEvent(event) for event in events]
    assert line == (
        f"{folder}: the clock is 640865.7 h behind the latest file name here: names continue from"
        f" {future}"
    )
    again.store.close()
    (folder / ".incoming" / RECORD).unlink()  # as the runbook says
    assert _Store(folder, MILLISECONDS).store_some() == [str(MILLISECONDS)]


def test_removed_while_in_use(folder: Path) -> None:
    """A record that was removed is written again with the next entry: no name is used twice."""
    store = _Store(folder, MILLISECONDS)
    given = store.store_some()
    (folder / ".incoming" / RECORD).unlink()
    store.milliseconds += AHEAD + 1
    given += store.store_some()
    assert _entry(folder) >= store.milliseconds
    store.die()
    _remove_files(folder)
    again = _Store(folder, MILLISECONDS)
    given += again.store_some()
    assert len({*given}) == 3
    again.store.close()


@pytest.mark.parametrize("damage", [b"x" * 16, b"179532813012", b"-00000000000001\n"])
def test_damaged(folder: Path, damage: bytes) -> None:
    """A damaged entry counts as written when the file was changed, and is reported."""
    store = _Store(folder, MILLISECONDS)
    store.store_some()
    store.die()
    path = folder / ".incoming" / RECORD
    path.write_bytes(damage)
    os.utime(path, (MILLISECONDS / 1000, MILLISECONDS / 1000))
    _remove_files(folder)
    with capturedLogs() as events:
        again = _Store(folder, MILLISECONDS - 10_000)
    assert "is damaged" in str(formatEvent(events[0]))
    (name,) = again.store_some()
    assert int(name) > MILLISECONDS
    again.store.close()


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_not_a_file(folder: Path, what: str) -> None:
    """If the record is not a regular file of this user, the start fails with one line."""
    (folder / ".incoming").mkdir(parents=True, mode=0o700)
    path = folder / ".incoming" / RECORD
    if what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to("/etc/passwd")
    else:
        os.mkfifo(path)
    with pytest.raises(CannotStart, match=f"cannot use {folder}/.incoming/{RECORD}: "):
        _Store(folder, MILLISECONDS)


def test_several_processes(folder: Path) -> None:
    """
    Processes that share a folder have different serials: no name is used by two of them,
    even if the file was taken away in between.
    """
    stores = [_Store(folder, MILLISECONDS) for _ in range(3)]
    given = []
    for store in [*stores, *stores]:
        given += store.store_some()
        _remove_files(folder)
    assert given == [
        *(f"{MILLISECONDS}", f"{MILLISECONDS}-100", f"{MILLISECONDS}-200"),
        *(f"{MILLISECONDS}-1", f"{MILLISECONDS}-101", f"{MILLISECONDS}-201"),
    ]
    stores[1].store.close()
    del store
    stores[1] = _Store(folder, MILLISECONDS)
    assert stores[1].store_some() == [f"{MILLISECONDS + 1}-100"]
    for store in stores:
        store.store.close()


def test_one_name_is_enough(folder: Path) -> None:
    """Several processes publish in the same millisecond, and each gets its first choice of name."""
    files = [_CountingFiles() for _ in range(3)]
    stores = [_Store(folder, MILLISECONDS, each) for each in files]
    published = 0
    for each in files:
        each.renames = 0  # of the self-test
    for _ in range(3):
        for store in stores:
            published += len(store.store_some(4))
    assert len(contents(folder)) == published == 36
    assert sum(each.renames for each in files) == published


class _CountingFiles(Files):
    """:ivar renames: the number of attempts to give a file its name."""

    renames = 0

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        self.renames += 1
        super().rename(source, name, target, new_name)


def test_opened_again(folder: Path) -> None:
    """A store that is opened again counts as the same process."""
    store = _Store(folder, MILLISECONDS)
    store.store_some()
    store.store.open()
    assert store.store_some() == [str(MILLISECONDS + AHEAD + 1)]
    store.store.close()


def test_opened_again_after_a_fork(folder: Path) -> None:
    """The same holds if the parent process still has the folder open, and only waits."""
    store = _Store(folder, MILLISECONDS)
    parent = []
    try:
        for _ in range(2):
            parent.append(_duplicate(store))
            store.store.open()
        assert store.store_some() == [f"{MILLISECONDS}"]
        parent.append(_duplicate(store))
        store.store.close()
        again = _Store(folder, MILLISECONDS + 1)
        assert again.store_some() == [f"{MILLISECONDS + 1}"]
        again.store.close()
    finally:
        for descriptor in parent:
            os.close(descriptor)


def test_undone_after_a_fork(folder: Path) -> None:
    """A start that fails removes its folders, even if a parent process has them open."""
    store = _Store(folder, MILLISECONDS)
    parent = _duplicate(store)
    try:
        store.store.undo()
        assert not folder.exists()
    finally:
        os.close(parent)


def test_no_entry_left(folder: Path) -> None:
    """
    If there are more processes than entries, they share the last one, which is never set
    back.
    """
    (folder / ".incoming").mkdir(parents=True)
    directories = [os.open(folder / ".incoming", os.O_RDONLY) for _ in range(ENTRIES + 2)]
    try:
        records = [NameRecord(Files(), each, durable=False) for each in directories]
        assert [record.number for record in records[-3:]] == [ENTRIES - 1] * 3
        records[-1].write(MILLISECONDS)
        records[-1].close(MILLISECONDS - 1)
        assert _entry(folder, ENTRIES - 1) == MILLISECONDS + AHEAD
    finally:
        for directory in directories:
            os.close(directory)


def test_without_claims(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If numbers cannot be claimed, all processes use the first entry, and none sets it back."""
    monkeypatch.setattr(Files, "claim", lambda *_: None)
    stores = [_Store(folder, MILLISECONDS) for _ in range(2)]
    given = [name for store in stores for name in store.store_some()]
    assert given == [f"{MILLISECONDS}", f"{MILLISECONDS}-1"]
    for store in stores:
        store.store.close()
    assert _entry(folder) == MILLISECONDS + AHEAD


def test_a_clock_that_is_set_back(folder: Path) -> None:
    """A clock that is set back is reported once, and again only after it had caught up."""
    store = _Store(folder, MILLISECONDS)
    with capturedLogs() as events:
        store.store_some()
        for _ in range(2):
            store.milliseconds -= 3_600_000
            store.store_some(3)
            store.milliseconds -= 1000
            store.store_some(3)
            store.milliseconds = MILLISECONDS + 1
            store.store_some()
            store.milliseconds += 1
            store.store_some()
    lines = [str(formatEvent(event)) for event in events]
    assert len(lines) == 2
    assert "the clock is 1.0 h behind the latest file name here" in lines[0]
    store.store.close()


def test_serials_have_an_end() -> None:
    """When the serials of a millisecond are used up, names continue with the next."""
    moments = UniqueTimestamps()
    given = [moments.next(1.0) for _ in range(SERIALS + 1)]
    assert given[SERIALS - 1 :] == [(1000, SERIALS - 1), (1001, 0)]
    assert moments.next(1.001) == (1001, 1)
    assert moments.next(1.002) == (1002, 0)
    assert BEHIND > AHEAD
