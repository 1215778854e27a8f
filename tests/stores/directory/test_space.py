"""
Free space: the reserve, and which uploads it binds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.support.stores import ARRIVAL, Rig
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import NoSpace, UploadRefused
from twisted_upload.interfaces import IIncomingUpload, Receipt
from twisted_upload.stores.directory.file_queue import MOST_HELD, SMALL
from twisted_upload.stores.directory.space import FreeSpace
from twisted_upload.stores.directory.space_budget import (
    LOOK_AFTER,
    LOOK_IS_FRESH,
    MOST_UNSEEN,
    SpaceBudget,
)

MIB = 1024 * 1024

RESERVE = 100 * MIB


class _Disk:
    """A file system of 1 GiB; the test sets the free space."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0
        self.clock = Clock()
        self.budget = SpaceBudget(Reserve(RESERVE), self.look, self.clock.seconds)

    def look(self) -> Space:
        self.looks += 1
        return Space(self.free, 1024 * MIB)

    def grow(self, size: int, more: int) -> bool:
        """Let an upload ask for space and write if it may; return whether it may."""
        if not self._do(lambda: self.budget.grow(size, more), more):
            return False
        self.budget.written(more)
        return True

    def complete(self, more: int) -> bool:
        """Do the same for the last bytes of an upload."""
        return self._do(lambda: self.budget.complete(more), more)

    def _do(self, ask: Callable[[], None], more: int) -> bool:
        try:
            ask()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        self.free -= more
        return True


# -- the budget ---------------------------------------------------------------


def test_grows_to_the_reserve() -> None:
    """A growing upload ends before the reserve, by no more than its margin and one piece."""
    disk, size = _Disk(RESERVE + 200 * MIB), 0
    while disk.grow(size, MIB):
        size += MIB
    assert RESERVE <= disk.free <= RESERVE + size / 16 + MIB


def test_looks_in_proportion() -> None:
    """Far from the reserve, few looks at the file system are taken, and none for small pieces."""
    disk = _Disk(RESERVE + 800 * MIB)
    for _ in range(800):
        disk.grow(0, MIB // 8)
    looks = disk.looks
    assert looks <= 100 * MIB // MOST_UNSEEN + 1
    disk.clock.advance(LOOK_IS_FRESH)
    disk.grow(0, 1)
    disk.grow(0, 1)
    assert disk.looks <= looks + 1


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_several_processes(processes: int) -> None:
    """Processes on one file system each reach into the reserve by at most 8 MiB."""
    disk = _Disk(RESERVE + 800 * MIB)
    budgets = [disk.budget]
    budgets += [
        SpaceBudget(Reserve(RESERVE), disk.look, disk.clock.seconds) for _ in range(processes - 1)
    ]
    for budget in budgets:
        budget.look()
    for disk.budget in budgets:
        size = 0
        while disk.grow(size, MIB // 4):
            size += MIB // 4
    assert disk.free >= RESERVE - (processes - 1) * 8 * MIB
    assert MOST_UNSEEN == 8 * MIB


def test_what_others_write() -> None:
    """What other programs write is noticed within a second, however little uploads write."""
    disk = _Disk(RESERVE + 800 * MIB)
    disk.grow(0, MIB)
    disk.free = RESERVE
    disk.clock.advance(LOOK_IS_FRESH)
    assert not disk.grow(MIB, 1)


def test_the_large_one_first() -> None:
    """Near the reserve a large upload is refused, and a small one beside it continues."""
    disk = _Disk(RESERVE + 5 * MIB)
    assert not disk.grow(200 * MIB, MIB)
    assert disk.grow(MIB, MIB)


def test_complete_uploads_are_stored() -> None:
    """Below the reserve, complete uploads are stored, using at most a quarter of it."""
    disk, stored = _Disk(RESERVE), 0
    assert not disk.grow(0, 1)
    while disk.complete(MIB):
        stored += 1
    assert stored == 25


def test_what_is_being_written_counts_once() -> None:
    """Bytes that other uploads are writing are no reason to refuse a complete one."""
    disk = _Disk(RESERVE + 60 * MIB)
    for _ in range(50):
        disk.budget.grow(0, MIB)
    disk.free -= 50 * MIB  # it is on the disk, but the threads have not reported it
    disk.budget.look()
    assert disk.complete(MIB)


def test_before_it_is_written() -> None:
    """
    Allowed bytes count before they are written: many uploads at once are no way around
    the reserve.
    """
    disk = _Disk(RESERVE + 8 * MIB)
    for _ in range(8):
        disk.budget.grow(0, MIB)
    with pytest.raises(OSError, match="reserve"):
        disk.budget.grow(0, MIB)
    for _ in range(8):
        disk.budget.written(MIB)  # as if it had failed: no space was used
    disk.budget.grow(0, MIB)


def test_allowed_during_a_look() -> None:
    """Bytes that are allowed during a look are not free, whatever the look finds."""
    disk = _Disk(RESERVE + 80 * MIB)
    disk.grow(0, MIB)

    def look() -> Space:
        seen = Space(disk.free, 1024 * MIB)
        disk.budget._look = disk.look
        for _ in range(9):
            disk.grow(0, MIB)
        return seen

    disk.budget._look = look
    disk.budget.look()
    assert disk.budget._headroom <= disk.free - RESERVE
    while disk.grow(0, MIB):
        pass
    assert disk.free >= RESERVE


def test_threads_together() -> None:
    """Many threads whose uploads grow at once do not reach into the reserve."""
    disk, lock = _Disk(RESERVE + 300 * MIB), threading.Lock()

    def grow() -> None:
        size = 0
        while True:
            try:
                disk.budget.grow(size, MIB)
            except OSError:
                return
            with lock:
                disk.free -= MIB
            disk.budget.written(MIB)
            size += MIB

    threads = [threading.Thread(target=grow) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RESERVE <= disk.free <= RESERVE + 27 * MIB


def test_released() -> None:
    """When a refused upload's space is released, others can use it at once."""
    disk = _Disk(RESERVE)
    assert not disk.grow(200 * MIB, MIB)
    disk.free += 200 * MIB
    disk.budget.gave_back()
    assert disk.budget.space.free == RESERVE + 200 * MIB
    looks = disk.looks
    disk.budget.gave_back()  # with enough free space, it makes no difference
    disk.grow(0, MIB)
    assert disk.looks == looks


def test_released_above_the_reserve() -> None:
    """Others can use the space even if the upload was refused a little before the reserve."""
    disk = _Disk(RESERVE + 5 * MIB)
    assert not disk.grow(200 * MIB, MIB)
    disk.free += 200 * MIB
    disk.budget.gave_back()
    assert disk.budget.space.free == RESERVE + 205 * MIB


def test_a_look_that_fails() -> None:
    """
    If the file system cannot report its free space, that upload fails, and the next one
    asks again.
    """
    disk = _Disk(RESERVE + 10 * MIB)
    disk.budget._look = _fails
    with pytest.raises(OSError, match="Input"):
        disk.grow(0, MIB)
    disk.budget.gave_back()
    disk.budget._look = disk.look
    disk.grow(0, MIB)


def _fails() -> Space:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# -- new uploads --------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), RuntimeError("x")])
def test_looks_again_after_a_failure(error: Exception) -> None:
    """After a failed look, of whichever kind, there is another."""
    disk, clock = ManualDisk(), Clock()
    looks: list[Exception | Space] = [Space(0, 100), error, Space(10, 100)]

    def look() -> Space:
        seen = looks.pop(0)
        if isinstance(seen, Exception):
            raise seen
        return seen

    space = FreeSpace("x", disk, clock, Reserve(size=5), look, now=clock.seconds)
    space.look()
    assert space.is_short()
    disk.work()
    clock.advance(2)
    space.known()
    disk.work()
    assert space.space == Space(10, 100)


@pytest.mark.parametrize("reserve", [Reserve(), Reserve(size=5)])
def test_no_inodes(reserve: Reserve) -> None:
    """Without inodes there is no space; the log says which of the two is short, once per change."""
    disk, clock = ManualDisk(), Clock()
    seen = [Space(1000, 2000, 0, 100)]
    space = FreeSpace("/srv/inbox", disk, clock, reserve, lambda: seen[0], now=clock.seconds)
    with capturedLogs() as events:
        space.look()
        assert space.trouble == "no inodes are free"
        for _ in range(2):
            assert space.is_short()
        seen[0] = Space(1000, 2000, 7, 100)
        clock.advance(LOOK_IS_FRESH)
        space.known()
        disk.work()
        assert not space.is_short()
    assert space.trouble is None
    assert [formatEvent(event) for event in events] == [
        "/srv/inbox: 1000 B free, but no inodes: refusing uploads",
        "/srv/inbox: 1000 B free, and inodes again: accepting uploads",
    ]


def test_inodes_that_are_not_counted() -> None:
    """A file system that does not count inodes has enough of them."""
    clock, space_of = Clock(), Space(1000, 2000, 0, 0)
    space = FreeSpace("x", ManualDisk(), clock, Reserve(), lambda: space_of, now=clock.seconds)
    space.look()
    assert not space.is_short()
    assert space.trouble is None


@pytest.mark.parametrize("reserve", [Reserve(percent=1.0), Reserve(size=5 * MIB)])
def test_space_that_is_not_counted(reserve: Reserve) -> None:
    """A file system that does not count its space has enough, and that is logged once."""
    clock, path = Clock(), "/srv/inbox"
    space = FreeSpace(path, ManualDisk(), clock, reserve, lambda: Space(0, 0), now=clock.seconds)
    with capturedLogs() as events:
        for _ in range(2):
            space.look()
    assert not space.is_short()
    assert space.trouble is None
    assert space.reserve == 0
    assert space.budget is not None
    space.budget.complete(MIB)
    space.budget.grow(MIB, 100 * MIB)
    assert [formatEvent(event) for event in events] == [
        "/srv/inbox: this file system does not report its size: the reserve has no effect"
    ]


# -- uploads in flight --------------------------------------------------------


class _Sized(FaultyFiles):
    """A file system of a given size, of which uploads use what they write."""

    size = 40 * MIB
    others = 0

    def free(self, directory: int) -> Space:
        super().free(directory)
        used = sum(os.stat(name, dir_fd=directory).st_size for name in _files(directory))
        return Space(self.size - used - self.others, self.size, 1000, 2000)


def _files(directory: int) -> Iterator[str]:
    for name in os.listdir(directory):
        if name == ".incoming":
            inside = os.listdir(f"/proc/self/fd/{directory}/{name}")
            yield from (f"{name}/{each}" for each in inside if each.startswith("upload-"))
        else:
            yield name


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "inbox", files=_Sized(), reserve=Reserve(percent=50))
    yield rig
    rig.close()
    assert rig.store.memory.held == 0


def _begin(rig: Rig) -> tuple[IIncomingUpload, list[UploadRefused]]:
    refusals: list[UploadRefused] = []
    return rig.store.begin(ARRIVAL, refusals.append), refusals


def _store_one(rig: Rig, incoming: IIncomingUpload) -> object:
    ends: list[object] = []
    incoming.commit().addCallbacks(ends.append, lambda failure: ends.append(failure.value))
    rig.disk.work()
    (end,) = ends
    return end


def test_the_one_that_grows(rig: Rig) -> None:
    """An upload that reaches the reserve is refused; those before, during and after are not."""
    small, refused_small = _begin(rig)
    small.write(b"x" * 1000)
    large, refused = _begin(rig)
    for _ in range(100):
        large.write(bytes(SMALL))
        rig.disk.work()
        if refused:
            break
    assert [refusal.code for refusal in refused] == ["no-space"]
    assert isinstance(_store_one(rig, small), Receipt)
    assert refused_small == []
    assert rig.unfinished == []
    after, _ = _begin(rig)
    after.write(b"after")
    assert isinstance(_store_one(rig, after), Receipt)
    large.abort()


def test_from_a_socket(rig: Rig) -> None:
    """An upload whose bytes are spliced from its socket is refused at the reserve too."""
    large, refused = _begin(rig)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        for _ in range(2000):
            with contextlib.suppress(BlockingIOError):
                theirs.send(bytes(MIB))
            large.splice_from(ours.fileno(), 16 * MIB)  # type: ignore[attr-defined]
            rig.disk.work()
            if refused:
                break
    assert [refusal.code for refusal in refused] == ["no-space"]
    assert rig.store.free_space.budget is not None
    assert rig.files.free(rig.store._folder.final).free == 40 * MIB  # type: ignore[union-attr]
    large.abort()


def test_complete_at_the_reserve(rig: Rig) -> None:
    """An upload that completes just when the reserve is reached is stored."""
    small, _ = _begin(rig)
    small.write(bytes(SMALL - 1))
    rig.files.others = 20 * MIB  # type: ignore[attr-defined]
    assert isinstance(_store_one(rig, small), Receipt)


def test_a_slow_upload_holds_space(rig: Rig) -> None:
    """
    While the reserve is reached, an upload that holds much is refused at its next byte,
    however slowly it sends, and others are accepted.
    """
    slow, refused = _begin(rig)
    for _ in range(8):
        slow.write(bytes(SMALL))
        rig.disk.work()
    some, refused_too = _begin(rig)
    some.write(bytes(SMALL))
    rig.disk.work()
    rig.files.others = 19 * MIB  # type: ignore[attr-defined]
    rig.clock.advance(LOOK_IS_FRESH)
    accepted_connection, _ = _begin(rig)  # it makes the store look
    rig.disk.work()
    with pytest.raises(NoSpace):
        _begin(rig)
    some.write(b"s")
    slow.write(b"s")
    assert [refusal.code for refusal in refused] == ["no-space"]
    assert refused_too == []
    rig.disk.work()
    assert _begin(rig)
    assert isinstance(_store_one(rig, some), Receipt)
    accepted_connection.abort()
    slow.abort()
    assert MOST_HELD == MIB
    assert LOOK_AFTER == 8
