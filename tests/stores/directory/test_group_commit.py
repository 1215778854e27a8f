"""
Group commit: which uploads are committed together.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

import pytest
from twisted.python.failure import Failure

from tests.support.batches import ManualCommits, OddDisk, part_of
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.group_commit import (
    BATCHES_AT_A_TIME,
    MOST_BATCHES,
    MOST_BYTES,
    MOST_FILES,
    GroupCommit,
)
from twisted_upload.stores.directory.stored_file import StoredFile


@pytest.fixture
def commits(folder: Folder) -> ManualCommits:
    return ManualCommits(folder)


def test_a_single_upload_does_not_wait(commits: ManualCommits) -> None:
    """An upload that ends alone is committed at once."""
    done = commits.commit()
    assert commits.disk.waiting == 1
    commits.disk.work()
    assert done.called


def test_waiting_uploads_share_a_batch(commits: ManualCommits, files: FaultyFiles) -> None:
    """Uploads that end while all batches are in progress share the next one."""
    for _ in range(BATCHES_AT_A_TIME):
        commits.commit()
    for _ in range(50):
        commits.commit()
    assert commits.disk.waiting == BATCHES_AT_A_TIME
    commits.disk.work(1)
    assert commits.disk.waiting == BATCHES_AT_A_TIME
    commits.disk.work()
    assert len(commits.results) == BATCHES_AT_A_TIME + 50
    assert files.calls["fsync"] == BATCHES_AT_A_TIME + 50 + BATCHES_AT_A_TIME + 1


def test_uploads_of_one_turn_share_a_batch(folder: Folder, files: FaultyFiles) -> None:
    """Uploads that end in the same turn of the reactor share a batch."""
    turns: list[Callable[[], None]] = []
    disk = ManualDisk()
    commits = GroupCommit(disk, time.monotonic, turns.append)
    for _ in range(2):
        ends: list[object] = []
        for serial in range(5):
            commits.commit(folder, part_of(folder, serial), [b"x"], 1, ends.append)
        assert disk.waiting == 0
        assert len(turns) == 1
        turns.pop()()
        assert disk.waiting == 1
        disk.work()
        assert len(ends) == 5
    assert files.calls["fsync"] == 2 * (5 + 1)


def test_batches_are_bounded(commits: ManualCommits, files: FaultyFiles) -> None:
    """A batch is bounded in files and in bytes."""
    for _ in range(BATCHES_AT_A_TIME + 2 * MOST_FILES):
        commits.commit()
    commits.disk.work()
    assert files.calls["fsync"] - files.calls["create"] == BATCHES_AT_A_TIME + 2
    files.calls.clear()
    for _ in range(BATCHES_AT_A_TIME + 4):
        commits.commit(MOST_BYTES // 2)
    commits.disk.work()
    assert files.calls["fsync"] - files.calls["create"] == BATCHES_AT_A_TIME + 2
    files.calls.clear()
    for _ in range(BATCHES_AT_A_TIME + 2):
        commits.commit(MOST_BYTES * 2)
    commits.disk.work()
    assert files.calls["fsync"] - files.calls["create"] == BATCHES_AT_A_TIME + 2


def test_each_has_a_result(commits: ManualCommits, files: FaultyFiles) -> None:
    """An upload that fails in a batch fails alone."""
    for _ in range(BATCHES_AT_A_TIME + 5):
        commits.commit()
    files.fail("create", errno.ENOSPC, after=BATCHES_AT_A_TIME + 2)
    commits.disk.work()
    failed = [serial for serial, one in commits.results.items() if not isinstance(one, StoredFile)]
    assert failed == [BATCHES_AT_A_TIME + 2]


def test_jobs_that_fail(commits: ManualCommits) -> None:
    """If a whole batch fails, all its uploads fail, and the next batch begins."""
    commits.commit()
    (done, _), *_ = commits.disk._jobs
    commits.disk._jobs.clear()
    for _ in range(BATCHES_AT_A_TIME):
        commits.commit()
    commits.disk._jobs.clear()
    commits.commit()
    done.errback(RuntimeError())
    commits.disk.work()
    assert isinstance(commits.results[BATCHES_AT_A_TIME + 1], StoredFile)


def test_batches_have_their_turn(folder: Folder) -> None:
    """After some batches other jobs have their turn, however many files wait."""

    class AtOnce(ManualDisk):
        """Does each job while the reactor yields."""

        def yield_reactor(self, seconds: float) -> bool:
            self.work()
            return True

    turns: list[Callable[[], None]] = []
    ends: list[object] = []
    commits = GroupCommit(AtOnce(), time.monotonic, turns.append)
    number = MOST_FILES * MOST_BATCHES + 1
    for serial in range(number):
        commits.commit(folder, part_of(folder, serial), [b"x"], 1, ends.append)
    turns.pop()()
    assert MOST_FILES < len(ends) < number
    while turns:
        turns.pop()()
    assert len(ends) == number


def test_a_disk_that_raises(folder: Folder) -> None:
    """A batch that cannot even begin ends, and the next may begin."""
    odd = OddDisk()
    commits = GroupCommit(odd, time.monotonic)
    ends: list[object] = []
    for serial in range(BATCHES_AT_A_TIME + 1):
        odd.broken = serial < BATCHES_AT_A_TIME
        commits.commit(folder, part_of(folder, serial), [b"x"], 1, ends.append)
    assert [isinstance(end, Failure) for end in ends] == [True] * BATCHES_AT_A_TIME
    odd.work()
    assert isinstance(ends[-1], StoredFile)


def test_a_turn_that_cannot_end(folder: Folder) -> None:
    """If nothing can be called after this turn, an upload is committed alone."""

    def raises(function: Callable[[], None]) -> None:
        raise RuntimeError

    disk = ManualDisk()
    commits = GroupCommit(disk, time.monotonic, raises)
    ends: list[object] = []
    for serial in range(5):
        commits.commit(folder, part_of(folder, serial), [b"x"], 1, ends.append)
    disk.work()
    assert len(ends) == 5


def test_a_result_that_cannot_be_reported(
    commits: ManualCommits, expected_errors: list[str]
) -> None:
    """If one upload of a batch cannot be told its result, the others still are."""
    expected_errors.append("AlreadyCalledError")
    for number in range(BATCHES_AT_A_TIME + 5):
        commits.commit()
        if number == BATCHES_AT_A_TIME + 1:
            tell, *_ = commits.commits._queue[-1]
            tell(StoredFile("another", 0, None))
    commits.disk.work()
    assert len(commits.results) == BATCHES_AT_A_TIME + 5
    commits.commit()
    commits.disk.work()
    assert len(commits.results) == BATCHES_AT_A_TIME + 6
