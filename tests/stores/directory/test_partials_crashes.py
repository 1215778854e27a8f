"""
A daemon that dies between any two system calls: no acknowledged offset is lost, nothing is
stored twice, and nothing partial is visible.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.mortal_files import Killed, MortalFiles
from tests.support.partial_files import OrderedFiles
from tests.support.partials import ManualRig, Writing, result_of
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import NotFound
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload
from twisted_upload.stores.directory.partial_scan import UNREADABLE_FOR

CONTENT = bytes(range(256)) * 4

STEPS = 300, 700, len(CONTENT)
"""The offsets at which the sender commits."""


class Sender:
    """
    A sender of one upload, and what it has been told.

    :ivar identity: the id, once it has it.
    :ivar offset: the committed offset.
    :ivar sent: how much it has sent.
    """

    def __init__(self) -> None:
        self.identity: str | None = None
        self.offset = self.sent = 0
        self.stored = False

    def create(self, rig: ManualRig) -> None:
        created = result_of(rig.store.create(PartialTerms(Arrival("x", length=len(CONTENT)))))
        rig.disk.work()
        self.identity = created[0].identity

    def send(self, rig: ManualRig, until: int) -> None:
        assert self.identity is not None
        writing = Writing(rig.store, self.identity)
        rig.disk.work()
        assert writing.append.offset == self.offset
        for start in range(self.offset, until, 150):
            writing.append.write(CONTENT[start : min(until, start + 150)])
        self.sent = until
        committed = result_of(writing.append.commit())
        with _hears(self, committed):
            rig.disk.work()

    def all_of_it(self, rig: ManualRig) -> None:
        self.create(rig)
        for until in STEPS:
            self.send(rig, until)


@contextlib.contextmanager
def _hears(sender: Sender, committed: list[Any]) -> Iterator[None]:
    """Note what a sender is told, even if the daemon dies right after that."""
    try:
        yield
    finally:
        if committed:
            sender.offset = committed[0].offset
            sender.stored = committed[0].receipt is not None


def rig_in(folder: Path, by_rename: bool, **more: Any) -> ManualRig:
    files = MortalFiles()
    if not by_rename:
        files.fail("rename", errno.EINVAL)
    return ManualRig(folder, files=files, **more)


def killed_rigs(folder: Path, **more: Any) -> Iterator[tuple[int, ManualRig]]:
    """Yield rigs that die after 0, 1, 2, ... system calls, each in a new folder."""
    for calls in itertools.count():
        rig = rig_in(folder / str(calls), **more)
        files = rig.files
        assert isinstance(files, MortalFiles)
        files.calls_left = calls
        yield calls, rig
        files.bury()
        if not files.dead:
            return
        assert calls < 1000


def complete(rig: ManualRig, sender: Sender) -> None:
    """Continue after the crash, as a client does; check what is stored."""
    assert sender.identity is not None
    found = rig.find(sender.identity)
    assert isinstance(found, PartialUpload)
    assert sender.offset <= found.offset <= sender.sent
    assert bool(found.receipt) == found.complete
    if sender.stored:
        assert found.receipt is not None
    if not found.complete:
        assert rig.stored == {}
        found = rig.write(sender.identity, CONTENT[found.offset :])
    assert found.receipt is not None
    assert rig.stored == {found.receipt.name: CONTENT}
    assert rig.find(sender.identity).receipt.name == found.receipt.name
    assert rig.do(rig.store.remove(sender.identity)) is None
    assert rig.files_left == []


@pytest.mark.parametrize("by_rename", [True, False], ids=["rename", "link"])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "not durable"])
def test_killed_anywhere(tmp_path: Path, by_rename: bool, durable: bool) -> None:
    """Whenever the daemon dies, the sender continues at what it was told, or later."""
    more = {"by_rename": by_rename, "durable": durable}
    rounds = 0
    for _, rig in killed_rigs(tmp_path, **more):
        sender = Sender()
        with contextlib.suppress(Killed):
            sender.all_of_it(rig)
        rig.files.bury()  # type: ignore[attr-defined]
        again = rig_in(rig.folder, **more)
        if sender.identity is not None:
            complete(again, sender)
            rounds += 1
        again.close()
    assert rounds > 15


@pytest.mark.parametrize("by_rename", [True, False], ids=["rename", "link"])
def test_killed_during_repair(tmp_path: Path, by_rename: bool) -> None:
    """The same, if the next daemon dies too while it looks at what is left."""
    more = {"by_rename": by_rename}
    for calls, rig in killed_rigs(tmp_path, **more):
        sender = Sender()
        with contextlib.suppress(Killed):
            sender.all_of_it(rig)
        rig.files.bury()  # type: ignore[attr-defined]
        if sender.identity is None:
            continue
        for more_calls in range(12):
            second = rig_in(rig.folder, **more)
            second.files.calls_left = more_calls  # type: ignore[attr-defined]
            with contextlib.suppress(Killed):
                second.find(sender.identity)
            second.files.bury()  # type: ignore[attr-defined]
        third = rig_in(rig.folder, **more)
        complete(third, sender)
        third.close()
        del calls


def test_rest_is_cut_off(tmp_path: Path) -> None:
    """Bytes that were written but not committed before a crash are not a part of the file."""
    rig = rig_in(tmp_path, by_rename=True)
    identity = rig.create(None)
    rig.write(identity, b"hello")
    writing = rig.begin(identity)
    writing.append.write(b"x" * 300_000)
    rig.disk.work()
    assert isinstance(rig.files, MortalFiles)
    rig.files.bury()
    again = rig_in(tmp_path, by_rename=True)
    upload = again.do(again.store.set_length(identity, 5))
    assert again.stored == {upload.receipt.name: b"hello"}
    again.close()


def killed_after_rename(folder: Path) -> tuple[ManualRig, Sender]:
    """Publish an upload, whose daemon dies before it syncs the folder."""
    rig = rig_in(folder, by_rename=True)
    sender = Sender()
    sender.create(rig)
    assert isinstance(rig.files, MortalFiles)
    rig.files.kill_after("rename")
    with contextlib.suppress(Killed):
        sender.send(rig, len(CONTENT))
    rig.files.bury()
    return rig, sender


def test_published_but_not_synced(tmp_path: Path) -> None:
    """
    If the daemon dies between publishing a file and syncing the folder, the folder is synced
    before a client is told that the file is stored.
    """
    rig, sender = killed_after_rename(tmp_path)
    assert [*rig.stored.values()] == [CONTENT]
    files = OrderedFiles()
    again = ManualRig(tmp_path, files=files)
    files.synced.clear()
    assert sender.identity is not None
    assert again.find(sender.identity).receipt.name in rig.stored
    assert files.synced == [str(tmp_path)]
    again.close()


def both_names(folder: Path) -> tuple[str, str, Path]:
    """
    Leave an upload that was being published under both its names.

    :return: its id, its final name, and the path of its data.
    """
    rig, sender = killed_after_rename(folder)
    (record,) = folder.glob(".incoming/partial/*.record")
    (name,) = rig.stored
    data = record.with_suffix(".data")
    data.hardlink_to(folder / name)
    assert sender.identity is not None
    return sender.identity, name, data


def test_both_names_after_a_crash(tmp_path: Path) -> None:
    """
    If a crash leaves both names of a file that was being published, as btrfs may, it is found
    to be stored, and is not published again.
    """
    identity, name, data = both_names(tmp_path)
    again = ManualRig(tmp_path)
    assert again.find(identity).receipt.name == name
    assert again.stored == {name: CONTENT}
    assert not data.exists()
    again.close()


@pytest.mark.parametrize("by_rename", [True, False], ids=["rename", "link"])
def test_both_names_are_settled_early(tmp_path: Path, by_rename: bool) -> None:
    """Such an upload remains stored if others take its file away after the start."""
    identity, name, data = both_names(tmp_path)
    again = rig_in(tmp_path, by_rename=by_rename)
    _scan(again, 0)
    assert not data.exists()
    (tmp_path / name).unlink()
    assert again.find(identity).receipt.name == name
    again.close()


class TakenAway(FaultyFiles):
    """
    Both names of an upload are removed by another process, when its data has been opened.

    :param paths: the names.
    """

    def __init__(self, *paths: Path) -> None:
        super().__init__()
        self._paths = paths

    def open_record(self, folder: int, name: str, create: bool) -> int:
        descriptor: int = super().open_record(folder, name, create)
        if name.endswith(".data"):
            for path in self._paths:
                path.unlink()
        return descriptor


@pytest.mark.parametrize("names", [1, 2])
@pytest.mark.parametrize("by_rename", [True, False], ids=["rename", "link"])
def test_both_names_are_being_removed(tmp_path: Path, by_rename: bool, names: int) -> None:
    """Such an upload remains stored if another process is removing its file at this moment."""
    identity, name, data = both_names(tmp_path)
    files = TakenAway(*[data, tmp_path / name][:names])
    if not by_rename:
        files.fail("rename", errno.EINVAL)
    again = ManualRig(tmp_path, files=files)
    assert again.find(identity).receipt.name == name
    assert not data.exists()
    again.close()


def test_visible_file_is_not_written_to(tmp_path: Path) -> None:
    """
    If a crash brings the final name of a file back that has been taken back, it stays whole
    while the upload is continued.
    """
    identity, name, _ = both_names(tmp_path)
    (tmp_path / name).rename(tmp_path / "1.bin")  # as if it were not its name
    again = ManualRig(tmp_path)
    assert again.find(identity).offset == 0
    assert again.stored == {"1.bin": CONTENT}
    upload = again.write(identity, b"x" * len(CONTENT))
    assert again.stored == {"1.bin": CONTENT, upload.receipt.name: b"x" * len(CONTENT)}
    again.close()


def test_unknown_uploads_are_removed(tmp_path: Path) -> None:
    """Of an upload whose creation was cut off, nothing is left after a while."""
    for _, rig in killed_rigs(tmp_path, by_rename=True):
        sender = Sender()
        with contextlib.suppress(Killed):
            sender.create(rig)
        rig.files.bury()  # type: ignore[attr-defined]
        clock = Clock()
        again = rig_in(rig.folder, by_rename=True, clock=clock, now_is_real=True)
        _scan(again, UNREADABLE_FOR + 1)
        expected = 2 if sender.identity else 0
        # The record may be complete although the id has not been told: it expires.
        assert len(again.files_left) in {expected, 2}
        again.close()


def _scan(rig: ManualRig, after: float) -> None:
    rig.clock.advance(after)
    keeper = rig.store._keeper
    rig.do(keeper.scan())


def test_killed_while_removing(tmp_path: Path) -> None:
    """An upload that was being removed is gone, or still there whole; nothing is left over."""
    for _, rig in killed_rigs(tmp_path, by_rename=True):
        files = rig.files
        assert isinstance(files, MortalFiles)
        calls, files.calls_left = files.calls_left, None
        identity = rig.create(10)
        rig.write(identity, b"12345")
        files.calls_left = calls
        with contextlib.suppress(Killed):
            rig.do(rig.store.remove(identity))
        files.bury()
        again = rig_in(rig.folder, by_rename=True)
        found = again.find(identity)
        if isinstance(found, NotFound):
            _scan(again, 0)
            assert again.files_left == []
        else:
            assert found.offset == 5
        again.close()


def test_killed_while_concatenating(tmp_path: Path) -> None:
    """A file made of parts is stored whole or not at all; what is unfinished is removed."""
    for _, rig in killed_rigs(tmp_path, by_rename=True):
        files = rig.files
        assert isinstance(files, MortalFiles)
        calls, files.calls_left = files.calls_left, None
        parts = [rig.create(3, is_part=True) for _ in range(2)]
        for identity, data in zip(parts, (b"one", b"two"), strict=True):
            rig.write(identity, data)
        files.calls_left = calls
        with contextlib.suppress(Killed):
            rig.do(rig.store.concatenate(PartialTerms(Arrival("x")), parts))
        files.bury()
        again = rig_in(rig.folder, by_rename=True)
        assert [*again.stored.values()] in ([], [b"onetwo"])
        assert [again.find(identity).offset for identity in parts] == [3, 3]
        again.close()


class DeadBeforeSync(MortalFiles):
    """The system calls of a daemon that is killed before an offset is synced."""

    def datasync(self, descriptor: int) -> None:
        super().datasync(descriptor)
        self.calls_left = 1  # the offset is written


def test_offset_that_was_not_synced(tmp_path: Path) -> None:
    """An offset that a killed daemon has written, and not synced, is synced before it is told."""
    files = DeadBeforeSync()
    rig = ManualRig(tmp_path / "inbox", files=files)
    identity = rig.create(10)
    with pytest.raises(Killed):
        rig.write(identity, b"hello")
    files.bury()
    again = ManualRig(tmp_path / "inbox")
    assert again.find(identity).offset == 5
    assert again.files.calls["datasync"] == 1
    again.find(identity)
    assert again.files.calls["datasync"] == 1
    again.close()
