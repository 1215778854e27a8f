"""
Group commit: uploads that end together are kept together.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.helpers import PATIENCE, open_descriptors, reactor
from tests.support.stores import MILLISECONDS, contents, leftovers, sweep_from_elsewhere
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.disk.threads import DiskThreads, PoolStopped
from twisted_upload.stores.directory.commit_batch import CommitBatch, keep_alone, keep_together
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.group_commit import (
    LANES,
    MOST_BUNCHES,
    MOST_BYTES,
    MOST_FILES,
    GroupCommit,
    ReactorYield,
)
from twisted_upload.stores.directory.partial_file import PartialFile, StoredFile


def _open(path: Path, files: Files) -> Folder:
    return open_folder(str(path), files=files, suffix=lambda _: ".bin")


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def folder(tmp_path: Path, files: FaultyFiles) -> Iterator[Folder]:
    folder = _open(tmp_path, files)
    files.calls.clear()
    before = open_descriptors(tmp_path)
    yield folder
    assert open_descriptors(tmp_path) == before


def _part(folder: Folder, serial: int = 0) -> PartialFile:
    return PartialFile(folder, (MILLISECONDS, serial), digest=True)


def _uploads(folder: Folder, number: int) -> list[tuple[PartialFile, list[bytes]]]:
    return [(_part(folder, serial), [b"number ", b"%d" % serial]) for serial in range(number)]


def _contents(number: int, *but: int) -> dict[str, bytes]:
    return {
        f"{MILLISECONDS}{f'-{serial}' if serial else ''}.bin": b"number %d" % serial
        for serial in range(number)
        if serial not in but
    }


def test_together(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """A bunch is kept with one fsync for each file and one for the folder."""
    kept = keep_together(folder, _uploads(folder, 10))
    assert contents(tmp_path) == _contents(10)
    assert kept == [
        StoredFile(name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in _contents(10).items()
    ]
    assert files.calls["fsync"] == 11


@pytest.mark.parametrize("parallel", [True, False])
def test_real_system_calls(tmp_path: Path, parallel: bool) -> None:
    """With the kernel's parallel fsync, and without it, the same is kept."""
    folder = _open(tmp_path, Files())
    object.__setattr__(folder, "parallel_sync", parallel and folder.parallel_sync)
    keep_together(folder, _uploads(folder, 300))
    assert contents(tmp_path) == _contents(300)
    assert leftovers(tmp_path) == []


def test_parallel_errors(tmp_path: Path) -> None:
    """The kernel's parallel fsync tells the error of each file by itself."""
    files = Files()
    if not _open(tmp_path, files).parallel_sync:
        pytest.skip("this kernel has no parallel fsync")
    good = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    reading, writing = os.pipe()
    try:
        errors = files.fsync_all([good, reading, 99_999, good])
        numbers = [error and error.errno for error in errors]
        assert numbers == [None, errno.EINVAL, errno.EBADF, None]
    finally:
        for descriptor in good, reading, writing:
            os.close(descriptor)


@pytest.mark.parametrize("call", ["create", "writev", "fsync", "close", "rename"])
@pytest.mark.parametrize("which", [0, 2, 4])
def test_one_fails(
    folder: Folder, files: FaultyFiles, tmp_path: Path, call: str, which: int
) -> None:
    """A file of a bunch that fails drops out; the others go on."""
    files.fail(call, errno.ENOSPC, after=which)
    kept = keep_together(folder, _uploads(folder, 5))
    failed = kept[which]
    assert isinstance(failed, OSError)
    assert failed.errno == errno.ENOSPC
    assert contents(tmp_path) == _contents(5, which)
    assert leftovers(tmp_path) == []


def test_folder_fails(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """When the folder cannot be synced, nobody hears success, and all names are taken back."""
    files.fail("fsync", errno.EIO, after=5)
    kept = keep_together(folder, _uploads(folder, 5))
    assert [getattr(one, "errno", None) for one in kept] == [errno.EIO] * 5
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []


def test_no_fsync_is_tried_again(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """Failed fsyncs of a bunch are not tried again, and not those files are published."""
    files.fail("fsync", errno.EIO, times=3)
    keep_together(folder, _uploads(folder, 3))
    assert files.calls["fsync"] <= 4
    assert files.calls["rename"] == 0
    assert contents(tmp_path) == {}


def test_errors_of_the_bunch(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """Where the bunch itself fails, all of it has failed, and nothing of it is left."""
    large = _part(folder, 3)
    large.append([b"large"])

    def fails(descriptors: object) -> list[OSError | None]:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    files.fsync_all = fails  # type: ignore[method-assign]
    object.__setattr__(folder, "parallel_sync", True)
    kept = keep_together(folder, [*_uploads(folder, 3), (large, [])])
    assert all(isinstance(one, OSError) for one in kept)
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    faults=st.dictionaries(
        st.sampled_from(["create", "writev", "chmod", "fsync", "close", "rename", "unlink"]),
        st.tuples(st.integers(0, 8), st.sampled_from([errno.EIO, errno.ENOSPC]), st.integers(1, 3)),
    ),
    number=st.integers(1, 6),
)
def test_any_faults(
    tmp_path_factory: pytest.TempPathFactory,
    faults: dict[str, tuple[int, int, int]],
    number: int,
) -> None:
    """What is said to be kept is there, whole; nothing else is, but what cannot be removed."""
    path, files = tmp_path_factory.mktemp("inbox"), FaultyFiles()
    folder = _open(path, files)
    for call, (after, error, times) in faults.items():
        files.fail(call, error, after=after, times=times)
    results = keep_together(folder, _uploads(folder, number))
    kept = {one.name for one in results if isinstance(one, StoredFile)}
    visible = contents(path)
    expected = _contents(number)
    assert kept <= visible.keys()
    assert all(visible[name] in expected.values() for name in kept)
    assert len(kept) + sum(isinstance(one, OSError) for one in results) == number
    if "unlink" not in faults:
        assert kept == visible.keys()
        assert leftovers(path) == []
    assert len(open_descriptors(path)) == 2
    for name in leftovers(path):
        (path / ".incoming" / name).unlink()


def test_swept_in_between(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """What a sweep from elsewhere removes from a bunch is done again; the rest is done once."""
    fsync, swept = files.fsync, [0]

    def sweep_first(descriptor: int) -> None:
        if not swept[0]:
            swept[0] = sweep_from_elsewhere(tmp_path)
        fsync(descriptor)

    files.fsync = sweep_first  # type: ignore[method-assign]
    locked = _part(folder, 9)
    locked.append([b"large"])
    keep_together(folder, [*_uploads(folder, 3), (locked, [])])
    assert swept == [3]
    assert contents(tmp_path) == {**_contents(3), f"{MILLISECONDS}-9.bin": b"large"}
    assert files.calls["create"] == 7


def test_alone(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """One file is a bunch of one, and its error is raised."""
    assert keep_alone(folder, _part(folder), [b"number 0"]).size == 8
    files.fail("fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        keep_alone(folder, _part(folder, 1), [b"x"])
    assert contents(tmp_path) == _contents(1)


# -- forming bunches ----------------------------------------------------------


class _Commits:
    """A group commit whose disk works when the test says so."""

    def __init__(self, folder: Folder) -> None:
        self.disk = ManualDisk()
        self.commits = GroupCommit(self.disk)
        self.folder = folder
        self.results: dict[int, object] = {}
        self.serial = 0

    def keep(self, size: int = 10) -> Deferred[None]:
        serial = self.serial
        self.serial += 1
        done: Deferred[Any] = Deferred()
        part = _part(self.folder, serial)
        self.commits.keep(self.folder, part, [b"x" * 10], size, done.callback)
        return done.addBoth(lambda result: self.results.__setitem__(serial, result))


@pytest.fixture
def commits(folder: Folder) -> _Commits:
    return _Commits(folder)


def test_a_lone_one_does_not_wait(commits: _Commits) -> None:
    """An upload that ends alone is kept at once."""
    done = commits.keep()
    assert commits.disk.waiting == 1
    commits.disk.work()
    assert done.called


def test_those_who_wait_go_together(commits: _Commits, files: FaultyFiles) -> None:
    """What ends while all lanes are busy goes together in the next bunch."""
    for _ in range(LANES):
        commits.keep()
    for _ in range(50):
        commits.keep()
    assert commits.disk.waiting == LANES
    commits.disk.work(1)
    assert commits.disk.waiting == LANES
    commits.disk.work()
    assert len(commits.results) == LANES + 50
    assert files.calls["fsync"] == LANES + 50 + LANES + 1


def test_those_of_one_turn_go_together(folder: Folder, files: FaultyFiles) -> None:
    """What ends in the same turn of the reactor goes together in one bunch."""
    turns: list[Callable[[], None]] = []
    disk = ManualDisk()
    commits = GroupCommit(disk, turns.append)
    for _ in range(2):
        ends: list[object] = []
        for serial in range(5):
            commits.keep(folder, _part(folder, serial), [b"x"], 1, ends.append)
        assert disk.waiting == 0
        assert len(turns) == 1
        turns.pop()()
        assert disk.waiting == 1
        disk.work()
        assert len(ends) == 5
    assert files.calls["fsync"] == 2 * (5 + 1)


def test_bunches_are_bounded(commits: _Commits, files: FaultyFiles) -> None:
    """A bunch has at most so many files, and so many bytes."""
    for _ in range(LANES + 2 * MOST_FILES):
        commits.keep()
    commits.disk.work()
    assert files.calls["fsync"] - files.calls["create"] == LANES + 2
    files.calls.clear()
    for _ in range(LANES + 4):
        commits.keep(MOST_BYTES // 2)
    commits.disk.work()
    assert files.calls["fsync"] - files.calls["create"] == LANES + 2
    files.calls.clear()
    for _ in range(LANES + 2):
        commits.keep(MOST_BYTES * 2)
    commits.disk.work()
    assert files.calls["fsync"] - files.calls["create"] == LANES + 2


def test_each_has_its_own_answer(commits: _Commits, files: FaultyFiles) -> None:
    """One that fails in a bunch fails alone."""
    for _ in range(LANES + 5):
        commits.keep()
    files.fail("create", errno.ENOSPC, after=LANES + 2)
    commits.disk.work()
    failed = [serial for serial, one in commits.results.items() if not isinstance(one, StoredFile)]
    assert failed == [LANES + 2]


def test_jobs_that_fail(commits: _Commits) -> None:
    """Where a whole bunch fails, all of it hears so, and the next one goes on."""
    commits.keep()
    (done, _), *_ = commits.disk._jobs
    commits.disk._jobs.clear()
    for _ in range(LANES):
        commits.keep()
    commits.disk._jobs.clear()
    commits.keep()
    done.errback(RuntimeError())
    commits.disk.work()
    assert isinstance(commits.results[LANES + 1], StoredFile)


class _Watched(FaultyFiles):
    """
    :ivar events: what is published, and which folders are synced, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, object]] = []

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        super().rename(source, name, target, new_name)
        self.events.append((new_name, target))

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.events.append(("synced", descriptor))

    def keeps_its_promise(self, told: StoredFile, folder: Folder) -> None:
        """Its folder has been synced after it had got its name."""
        published = self.events.index((told.name, folder.final))
        assert ("synced", folder.final) in self.events[published:], told.name


@pytest.mark.parametrize("number", [1, 2])
def test_success_follows_the_folder(number: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever comes when, and whatever goes together: no success before its folder is synced."""
    files = _Watched()
    folders = [_open(tmp_path_factory.mktemp("folder"), files) for _ in range(number)]
    disk = ManualDisk()
    commits = GroupCommit(disk)
    dice = random.Random(number)
    told = [0]

    def tell(folder: Folder, result: StoredFile | Failure) -> None:
        assert isinstance(result, StoredFile)
        files.keeps_its_promise(result, folder)
        told[0] += 1

    for serial in range(600):
        folder = dice.choice(folders)
        commits.keep(folder, _part(folder, serial), [b"x"], 1, partial(tell, folder))
        if dice.random() < 0.2:
            disk.work(1)
    disk.work()
    assert told == [600]
    assert not commits._owed
    folder_syncs = [one for one in files.events if one[0] == "synced"]
    assert len(folder_syncs) < 300


def test_folder_synced_with_the_next(folder: Folder, files: FaultyFiles) -> None:
    """Where others wait, the folder is synced together with their files, and success comes
    with theirs; where nobody does, at once."""
    commits = _Commits(folder)
    together: list[int] = []
    real = files.fsync_all

    def fsync_all(descriptors: Sequence[int]) -> list[OSError | None]:
        if folder.final in descriptors:
            together.append(len(descriptors))
        return real(descriptors)

    files.fsync_all = fsync_all  # type: ignore[method-assign]
    for _ in range(LANES + 3):  # the last three wait for a lane
        commits.keep()
    commits.disk.work(1)
    assert commits.results == {}, "its folder is synced with theirs"
    commits.disk.work(1)
    assert sorted(commits.results) == [1]
    commits.disk.work(1)
    assert together == [3 + 1]
    assert sorted(commits.results) == [0, 1, 2, 3, 4]
    assert all(isinstance(one, StoredFile) for one in commits.results.values())


def test_nobody_comes_after_all(folder: Folder) -> None:
    """Where those that waited have been begun already, the folder is synced by itself."""
    commits = _Commits(folder)
    for _ in range(LANES + 1):
        commits.keep()
    jobs = commits.disk._jobs
    first, second = jobs.popleft(), jobs.popleft()
    done, job = first
    synced = job()  # somebody waits
    jobs.append(second)
    commits.commits._queue, waiting = [], commits.commits._queue
    done.callback(synced)
    assert commits.results == {}
    commits.disk.work()
    assert sorted(commits.results) == [0, 1]
    commits.commits._queue = waiting
    commits.commits._start()
    commits.disk.work()
    assert sorted(commits.results) == [0, 1, 2]


@pytest.mark.parametrize("how", ["together", "alone"])
def test_folder_that_cannot_be_synced_later(
    how: str, folder: Folder, files: FaultyFiles, tmp_path: Path
) -> None:
    """Whenever the folder could not be synced, those who waited for it have no success and
    no file; and those whose files were synced with it have none either."""
    commits = _Commits(folder)
    for _ in range(LANES + 2):
        commits.keep()
    commits.disk.work(1)
    real = files.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if descriptor == folder.final:
            raise OSError(errno.EIO, "Input/output error")

    files.fsync = fsync  # type: ignore[method-assign]
    if how == "alone":
        commits.commits._queue.clear()
    commits.disk.work()
    assert {type(one) for one in commits.results.values()} == {Failure}
    assert 0 in commits.results
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("call", ["create", "fsync_all"])
def test_next_one_breaks(call: str, tmp_path: Path) -> None:
    """Where nothing of the next bunch gets as far as that, the folder is synced all the same."""
    files = _Watched()
    folder = _open(tmp_path, files)
    commits = _Commits(folder)
    for _ in range(LANES + 2):
        commits.keep()
    commits.disk.work(1)
    files.events.append(("the next", None))
    if call == "create":
        files.fail("create", errno.EIO, times=100)
    else:
        files.fsync_all = broken  # type: ignore[method-assign,assignment]
    commits.disk.work()
    kept = commits.results.pop(0)
    assert isinstance(kept, StoredFile)
    assert ("synced", folder.final) in files.events[files.events.index(("the next", None)) :]
    files.keeps_its_promise(kept, folder)
    if call == "create":
        assert {type(one) for one in commits.results.values()} == {Failure}
    assert len(contents(tmp_path)) == 1 + [*map(type, commits.results.values())].count(StoredFile)


def broken(*_: object) -> NoReturn:
    """Something that a disk does not do."""
    raise ZeroDivisionError


def _one_waits(folder: Folder) -> tuple[_Odd, list[object]]:
    """Disk threads with two bunches, an upload that waits for one to end, and all ends."""
    odd = _Odd()
    odd.broken = False
    commits = GroupCommit(odd)
    ends: list[object] = []
    for serial in range(LANES + 1):
        commits.keep(folder, _part(folder, serial), [b"x"], 1, ends.append)
    return odd, ends


def test_next_one_cannot_be_begun(folder: Folder) -> None:
    """Where the next bunch cannot be begun, the one after it sees to the folder."""
    odd, ends = _one_waits(folder)
    odd.broken = True
    odd.work(1)
    assert [type(end) for end in ends] == [Failure], "the next one's"
    odd.work()
    assert [type(end) for end in ends] == [Failure, StoredFile, StoredFile]


def test_nobody_comes_after_one_that_failed(folder: Folder) -> None:
    """Where not even the folder alone can be seen to, those who wait for it hear of that."""
    odd, ends = _one_waits(folder)
    odd.broken, odd.times = True, 2
    odd.work(1)
    assert [type(end) for end in ends] == [Failure, Failure]
    odd.work()
    assert [type(end) for end in ends] == [Failure, Failure, StoredFile]


def test_an_error_is_told_once(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """Two that owe the same folder share one fsync: the second would not hear of its error."""
    bunches = [CommitBatch(folder, [(_part(folder, serial), [b"x"])]) for serial in range(3)]
    for bunch in bunches[:2]:
        bunch.publish()
    files.fail("create", errno.EIO)  # so that the third has no files to sync
    files.fail("fsync", errno.EIO)
    bunches[2].publish(earlier=bunches[:2])
    assert [type(result) for bunch in bunches for result in bunch.results] == [OSError] * 3
    assert contents(tmp_path) == {}


def test_an_error_that_another_thread_has_heard(
    folder: Folder, files: FaultyFiles, tmp_path: Path
) -> None:
    """Nor is there success for names that were there when another thread's fsync failed."""
    first, second = (CommitBatch(folder, [(_part(folder, serial), [b"x"])]) for serial in range(2))
    first.publish()
    second.publish()
    files.fail("fsync", errno.EIO)
    first.sync_folder()
    second.sync_folder()
    assert [type(bunch.results[0]) for bunch in (first, second)] == [OSError] * 2
    later = CommitBatch(folder, [(_part(folder, 9), [b"x"])])
    later.publish()
    later.sync_folder()
    assert isinstance(later.results[0], StoredFile)
    assert [*contents(tmp_path)] == [later.results[0].name]


def test_an_error_of_an_old_folder(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A folder that is not in use any more fails those who owe it, and nobody else."""
    files = FaultyFiles()
    old = _open(tmp_path_factory.mktemp("old"), files)
    earlier = CommitBatch(old, [(_part(old, 1), [b"x"])])
    earlier.publish()
    now = CommitBatch(folder, [(_part(folder, serial), [b"x"]) for serial in range(2)])
    real = folder.files.fsync

    def fsync(descriptor: int) -> None:
        if descriptor == old.final:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    folder.files.fsync = fsync  # type: ignore[method-assign]
    now.publish(earlier=[earlier])
    now.sync_folder()
    assert isinstance(earlier.results[0], OSError)
    assert [type(result) for result in now.results] == [StoredFile] * 2


def test_bunches_have_their_turn(folder: Folder) -> None:
    """After some bunches it is the turn of others, however many files wait."""

    class AtOnce(ManualDisk):
        """Does each job while the reactor steps aside."""

        def step_aside(self, seconds: float) -> bool:
            self.work()
            return True

    turns: list[Callable[[], None]] = []
    ends: list[object] = []
    commits = GroupCommit(AtOnce(), turns.append)
    number = MOST_FILES * MOST_BUNCHES + 1
    for serial in range(number):
        commits.keep(folder, _part(folder, serial), [b"x"], 1, ends.append)
    turns.pop()()
    assert MOST_FILES < len(ends) < number
    while turns:
        turns.pop()()
    assert len(ends) == number


class _Odd(ManualDisk):
    """Disk threads of which one call raises."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True
        self.times = 1

    def run(self, job: Callable[[], Any]) -> Deferred[Any]:
        """See `IDisk.run`."""
        if self.broken:
            self.times -= 1
            self.broken = self.times > 0
            raise RuntimeError("can't start new thread")
        return super().run(job)


def test_a_disk_that_raises(folder: Folder) -> None:
    """A bunch that cannot even be begun has its end, and its lane is free again."""
    odd = _Odd()
    commits = GroupCommit(odd)
    ends: list[object] = []
    for serial in range(LANES + 1):
        odd.broken = serial < LANES
        commits.keep(folder, _part(folder, serial), [b"x"], 1, ends.append)
    assert [isinstance(end, Failure) for end in ends] == [True] * LANES
    odd.work()
    assert isinstance(ends[-1], StoredFile)


def test_a_turn_that_cannot_end(folder: Folder) -> None:
    """Where nothing can be called after this turn, an upload is kept by itself."""

    def raises(function: Callable[[], None]) -> None:
        raise RuntimeError

    disk = ManualDisk()
    commits = GroupCommit(disk, raises)
    ends: list[object] = []
    for serial in range(5):
        commits.keep(folder, _part(folder, serial), [b"x"], 1, ends.append)
    disk.work()
    assert len(ends) == 5


def test_an_end_that_cannot_be_told(commits: _Commits, expected_errors: list[str]) -> None:
    """One of a bunch that cannot be told its end does not keep theirs from the others."""
    expected_errors.append("AlreadyCalledError")
    for number in range(LANES + 5):
        commits.keep()
        if number == LANES + 1:
            tell, *_ = commits.commits._queue[-1]
            tell(StoredFile("somebody else's", 0, None))
    commits.disk.work()
    assert len(commits.results) == LANES + 5
    commits.keep()
    commits.disk.work()
    assert len(commits.results) == LANES + 6


def test_a_defect_in_discarding(
    folder: Folder, files: FaultyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload of a bunch that fails, and whose removal fails too, fails alone."""
    uploads = _uploads(folder, 3)
    broken, _ = uploads[1]
    discard = PartialFile.discard

    def fails(part: PartialFile) -> None:
        discard(part)
        if part is broken:
            raise ZeroDivisionError

    monkeypatch.setattr(PartialFile, "discard", fails)
    files.fail("fsync", errno.EIO, after=1)
    first, second, third = keep_together(folder, uploads)
    assert isinstance(first, StoredFile)
    assert isinstance(second, ZeroDivisionError)
    assert isinstance(third, StoredFile)
    assert contents(tmp_path) == _contents(3, 1)


def test_a_large_one_is_not_made_again(folder: Folder, tmp_path: Path) -> None:
    """A large file whose temporary name has gone is lost: its last bytes are not all of it."""
    part = _part(folder)
    part.append([b"x" * 1000])
    for left in (tmp_path / ".incoming").glob("upload-*"):
        left.unlink()
    (result,) = keep_together(folder, [(part, [b"last"])])
    assert isinstance(result, FileNotFoundError)
    assert contents(tmp_path) == {}


# -- stepping aside -----------------------------------------------------------


async def test_courtesy() -> None:
    """The reactor waits a moment for a quick job, and has its result at once."""
    disk = DiskThreads(reactor, 1)
    reactor_yield = ReactorYield(disk)
    for number in range(3):
        done = reactor_yield.run(lambda _, number=number: number, PATIENCE)  # type: ignore[misc]
        assert done.called
        assert await done == number
    with pytest.raises(ZeroDivisionError):
        await reactor_yield.run(lambda _: 1 // 0, PATIENCE)
    disk.stop()


async def test_courtesy_ends_with_the_work() -> None:
    """A job that says that it only waits from now on is not waited for any longer."""
    disk = DiskThreads(reactor, 1)
    reactor_yield = ReactorYield(disk)
    go_on = threading.Event()

    def job(waiting: Callable[[], None]) -> bool:
        waiting()
        return go_on.wait(PATIENCE)

    began = time.monotonic()
    done = reactor_yield.run(job, PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    assert reactor_yield._quick
    go_on.set()
    assert await done
    disk.stop()


def test_courtesy_has_an_end() -> None:
    """A job that is not quick is waited for once; then none is, until one has been quick again."""
    disk = _Aside()
    reactor_yield = ReactorYield(disk)
    reactor_yield.run(lambda _: 0, PATIENCE)
    reactor_yield.run(lambda _: 0, PATIENCE)
    assert disk.asked == [PATIENCE]
    disk.work(1)  # the slow one
    assert not reactor_yield._quick
    disk.work(1)
    assert reactor_yield._quick
    reactor_yield.run(lambda _: 0, PATIENCE)
    assert disk.asked == [PATIENCE, PATIENCE]


def test_courtesy_counts_the_work_only() -> None:
    """Where nobody waits for it, a job is quick if it soon begins to wait, however long."""
    disk = _Aside()
    reactor_yield = ReactorYield(disk)
    quick: list[bool] = []

    def job(waiting: Callable[[], None]) -> None:
        waiting()
        quick.append(reactor_yield._quick)
        reactor_yield._quick = False
        waiting()  # which counts once
        quick.append(reactor_yield._quick)

    reactor_yield.run(lambda _: 0, PATIENCE)
    reactor_yield.run(job, PATIENCE)
    reactor_yield.run(lambda _: 0, 0.0)
    disk.work(2)
    assert quick == [True, False]
    disk.work()
    assert not reactor_yield._quick


def test_no_courtesy_for_a_job_that_nobody_does() -> None:
    """Where the disk threads have stopped, nobody steps aside for them."""
    disk = DiskThreads(reactor, 1)
    disk.stop()
    began = time.monotonic()
    done = ReactorYield(disk).run(lambda _: 0, PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    done.addErrback(lambda failure: failure.trap(PoolStopped))


class _Aside(ManualDisk):
    """:ivar asked: for how long somebody has stepped aside, each time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def step_aside(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return super().step_aside(seconds)
