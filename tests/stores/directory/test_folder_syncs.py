"""
Batches whose folder is synced with the next batch: no upload succeeds before.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from twisted.python.failure import Failure

from tests.support.batches import ManualCommits, OddDisk, broken, part_of
from tests.support.partial_files import open_faulty
from tests.support.stores import contents
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.stores.directory.commit_batch import CommitBatch
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.group_commit import BATCHES_AT_A_TIME, GroupCommit
from twisted_upload.stores.directory.stored_file import StoredFile


class _Watched(FaultyFiles):
    """:ivar events: published names and synced folders, in order."""

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

    def keeps_its_promise(self, answered: StoredFile, folder: Folder) -> None:
        """Fail unless the folder of this file was synced after it got its name."""
        published = self.events.index((answered.name, folder.final))
        assert ("synced", folder.final) in self.events[published:], answered.name


@pytest.mark.parametrize("number", [1, 2])
def test_success_follows_the_folder(number: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In any order and any batches, no upload succeeds before its folder is synced."""
    files = _Watched()
    folders = [open_faulty(tmp_path_factory.mktemp("folder"), files) for _ in range(number)]
    disk = ManualDisk()
    commits = GroupCommit(disk, time.monotonic)
    dice = random.Random(number)
    answered = [0]

    def tell(folder: Folder, result: StoredFile | Failure) -> None:
        assert isinstance(result, StoredFile)
        files.keeps_its_promise(result, folder)
        answered[0] += 1

    for serial in range(600):
        folder = dice.choice(folders)
        commits.commit(folder, part_of(folder, serial), [b"x"], 1, partial(tell, folder))
        if dice.random() < 0.2:
            disk.work(1)
    disk.work()
    assert answered == [600]
    assert not commits._unsynced
    folder_syncs = [one for one in files.events if one[0] == "synced"]
    assert len(folder_syncs) < 300


def test_folder_synced_with_the_next(folder: Folder, files: FaultyFiles) -> None:
    """
    If other uploads wait, the folder is synced together with their files, and success
    follows; if none waits, the folder is synced at once.
    """
    commits = ManualCommits(folder)
    together: list[int] = []
    real = files.fsync_all

    def fsync_all(descriptors: Sequence[int]) -> list[OSError | None]:
        if folder.final in descriptors:
            together.append(len(descriptors))
        return real(descriptors)

    files.fsync_all = fsync_all  # type: ignore[method-assign]
    for _ in range(BATCHES_AT_A_TIME + 3):  # the last three wait for the next batch
        commits.commit()
    commits.disk.work(1)
    assert commits.results == {}, "its folder is synced with theirs"
    commits.disk.work(1)
    assert sorted(commits.results) == [1]
    commits.disk.work(1)
    assert together == [3 + 1]
    assert sorted(commits.results) == [0, 1, 2, 3, 4]
    assert all(isinstance(one, StoredFile) for one in commits.results.values())


def test_no_next_batch(folder: Folder) -> None:
    """If the waiting uploads have already begun, the folder is synced alone."""
    commits = ManualCommits(folder)
    for _ in range(BATCHES_AT_A_TIME + 1):
        commits.commit()
    jobs = commits.disk._jobs
    first, second = jobs.popleft(), jobs.popleft()
    done, job = first
    synced = job()  # an upload waits
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
    """
    Whenever the folder cannot be synced, the uploads that waited for it do not succeed,
    and have no file; nor do those whose files were synced with it.
    """
    commits = ManualCommits(folder)
    for _ in range(BATCHES_AT_A_TIME + 2):
        commits.commit()
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
def test_next_batch_fails(call: str, tmp_path: Path) -> None:
    """If the whole next batch fails early, the folder is synced all the same."""
    files = _Watched()
    folder = open_faulty(tmp_path, files)
    commits = ManualCommits(folder)
    for _ in range(BATCHES_AT_A_TIME + 2):
        commits.commit()
    commits.disk.work(1)
    files.events.append(("the next", None))
    if call == "create":
        files.fail("create", errno.EIO, times=100)
    else:
        files.fsync_all = broken  # type: ignore[method-assign,assignment]
    commits.disk.work()
    stored = commits.results.pop(0)
    assert isinstance(stored, StoredFile)
    assert ("synced", folder.final) in files.events[files.events.index(("the next", None)) :]
    files.keeps_its_promise(stored, folder)
    if call == "create":
        assert {type(one) for one in commits.results.values()} == {Failure}
    assert len(contents(tmp_path)) == 1 + [*map(type, commits.results.values())].count(StoredFile)


def _one_waits(folder: Folder) -> tuple[OddDisk, list[object]]:
    """Return disk threads with two batches and an upload that waits, and all results."""
    odd = OddDisk()
    odd.broken = False
    commits = GroupCommit(odd, time.monotonic)
    ends: list[object] = []
    for serial in range(BATCHES_AT_A_TIME + 1):
        commits.commit(folder, part_of(folder, serial), [b"x"], 1, ends.append)
    return odd, ends


def test_next_batch_cannot_begin(folder: Folder) -> None:
    """If the next batch cannot begin, the one after it syncs the folder."""
    odd, ends = _one_waits(folder)
    odd.broken = True
    odd.work(1)
    assert [type(end) for end in ends] == [Failure], "the next one's"
    odd.work()
    assert [type(end) for end in ends] == [Failure, StoredFile, StoredFile]


def test_no_batch_after_one_that_failed(folder: Folder) -> None:
    """If not even the folder alone can be synced, the uploads that wait for it fail."""
    odd, ends = _one_waits(folder)
    odd.broken, odd.times = True, 2
    odd.work(1)
    assert [type(end) for end in ends] == [Failure, Failure]
    odd.work()
    assert [type(end) for end in ends] == [Failure, Failure, StoredFile]


def test_an_error_is_reported_once(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """
    Two batches that wait for the same folder share one fsync: a second fsync would not
    report its error.
    """
    batches = [CommitBatch(folder, [(part_of(folder, serial), [b"x"])]) for serial in range(3)]
    for batch in batches[:2]:
        batch.publish()
    files.fail("create", errno.EIO)  # so that the third has no files to sync
    files.fail("fsync", errno.EIO)
    batches[2].publish(earlier=batches[:2])
    assert [type(result) for batch in batches for result in batch.results] == [OSError] * 3
    assert contents(tmp_path) == {}


def test_an_error_that_another_thread_was_told(
    folder: Folder, files: FaultyFiles, tmp_path: Path
) -> None:
    """An upload that had its name when another thread's fsync failed does not succeed."""
    first, second = (
        CommitBatch(folder, [(part_of(folder, serial), [b"x"])]) for serial in range(2)
    )
    first.publish()
    second.publish()
    files.fail("fsync", errno.EIO)
    first.sync_folder()
    second.sync_folder()
    assert [type(batch.results[0]) for batch in (first, second)] == [OSError] * 2
    later = CommitBatch(folder, [(part_of(folder, 9), [b"x"])])
    later.publish()
    later.sync_folder()
    assert isinstance(later.results[0], StoredFile)
    assert [*contents(tmp_path)] == [later.results[0].name]


def test_an_error_of_an_old_folder(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An error of a folder that is no longer in use fails the uploads in that folder only."""
    files = FaultyFiles()
    old = open_faulty(tmp_path_factory.mktemp("old"), files)
    earlier = CommitBatch(old, [(part_of(old, 1), [b"x"])])
    earlier.publish()
    now = CommitBatch(folder, [(part_of(folder, serial), [b"x"]) for serial in range(2)])
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
