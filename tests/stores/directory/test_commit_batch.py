"""
Uploads that are committed together in one batch.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.batches import contents_of, part_of, uploads_of
from tests.support.partial_files import open_faulty
from tests.support.processes import open_descriptors
from tests.support.stores import MILLISECONDS, contents, leftovers, sweep_from_elsewhere
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.stores.directory.commit_batch import commit_all, commit_one
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile


def test_together(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """A batch is committed with one fsync for each file and one for the folder."""
    stored = commit_all(folder, uploads_of(folder, 10))
    assert contents(tmp_path) == contents_of(10)
    assert stored == [
        StoredFile(name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents_of(10).items()
    ]
    assert files.calls["fsync"] == 11


@pytest.mark.parametrize("parallel", [True, False])
def test_real_system_calls(tmp_path: Path, parallel: bool) -> None:
    """With the kernel's parallel fsync or without, the same files are stored."""
    folder = open_folder(str(tmp_path), files=Files(), suffix=lambda _: ".bin")
    object.__setattr__(folder, "parallel_sync", parallel and folder.parallel_sync)
    commit_all(folder, uploads_of(folder, 300))
    assert contents(tmp_path) == contents_of(300)
    assert leftovers(tmp_path) == []


def test_parallel_errors(tmp_path: Path) -> None:
    """The kernel's parallel fsync reports an error for each file separately."""
    files = Files()
    if not open_folder(str(tmp_path), files=files, suffix=lambda _: ".bin").parallel_sync:
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
    """A file that fails is removed from its batch; the others are published."""
    files.fail(call, errno.ENOSPC, after=which)
    stored = commit_all(folder, uploads_of(folder, 5))
    failed = stored[which]
    assert isinstance(failed, OSError)
    assert failed.errno == errno.ENOSPC
    assert contents(tmp_path) == contents_of(5, which)
    assert leftovers(tmp_path) == []


def test_folder_fails(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """If the folder cannot be synced, no upload succeeds, and all names are taken back."""
    files.fail("fsync", errno.EIO, after=5)
    stored = commit_all(folder, uploads_of(folder, 5))
    assert [getattr(one, "errno", None) for one in stored] == [errno.EIO] * 5
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []


def test_no_fsync_is_retried(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """A failed fsync of a batch is not retried, and its file is not published."""
    files.fail("fsync", errno.EIO, times=3)
    commit_all(folder, uploads_of(folder, 3))
    assert files.calls["fsync"] <= 4
    assert files.calls["rename"] == 0
    assert contents(tmp_path) == {}


def test_errors_of_the_batch(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """If the batch itself fails, all of its uploads have failed, and nothing of them is left."""
    large = part_of(folder, 3)
    large.append([b"large"])

    def fails(descriptors: object) -> list[OSError | None]:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    files.fsync_all = fails  # type: ignore[method-assign]
    object.__setattr__(folder, "parallel_sync", True)
    stored = commit_all(folder, [*uploads_of(folder, 3), (large, [])])
    assert all(isinstance(one, OSError) for one in stored)
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
    """
    Each file that is reported stored is there, whole; nothing else is, except what cannot
    be removed.
    """
    path, files = tmp_path_factory.mktemp("inbox"), FaultyFiles()
    folder = open_faulty(path, files)
    for call, (after, error, times) in faults.items():
        files.fail(call, error, after=after, times=times)
    results = commit_all(folder, uploads_of(folder, number))
    stored = {one.name for one in results if isinstance(one, StoredFile)}
    visible = contents(path)
    expected = contents_of(number)
    assert stored <= visible.keys()
    assert all(visible[name] in expected.values() for name in stored)
    assert len(stored) + sum(isinstance(one, OSError) for one in results) == number
    if "unlink" not in faults:
        assert stored == visible.keys()
        assert leftovers(path) == []
    assert len(open_descriptors(path)) == 2
    for name in leftovers(path):
        (path / ".incoming" / name).unlink()


def test_swept_in_between(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """A file of a batch that another daemon sweeps is written again; the rest is written once."""
    fsync, swept = files.fsync, [0]

    def sweep_first(descriptor: int) -> None:
        if not swept[0]:
            swept[0] = sweep_from_elsewhere(tmp_path)
        fsync(descriptor)

    files.fsync = sweep_first  # type: ignore[method-assign]
    locked = part_of(folder, 9)
    locked.append([b"large"])
    commit_all(folder, [*uploads_of(folder, 3), (locked, [])])
    assert swept == [3]
    assert contents(tmp_path) == {**contents_of(3), f"{MILLISECONDS}-9.bin": b"large"}
    assert files.calls["create"] == 7


def test_alone(folder: Folder, files: FaultyFiles, tmp_path: Path) -> None:
    """A single file is a batch of one, and its error is raised."""
    assert commit_one(folder, part_of(folder), [b"number 0"]).size == 8
    files.fail("fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        commit_one(folder, part_of(folder, 1), [b"x"])
    assert contents(tmp_path) == contents_of(1)


def test_an_error_in_discarding(
    folder: Folder, files: FaultyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that fails, and whose removal fails too, fails alone."""
    uploads = uploads_of(folder, 3)
    broken, _ = uploads[1]
    discard = PartialFile.discard

    def fails(part: PartialFile) -> None:
        discard(part)
        if part is broken:
            raise ZeroDivisionError

    monkeypatch.setattr(PartialFile, "discard", fails)
    files.fail("fsync", errno.EIO, after=1)
    first, second, third = commit_all(folder, uploads)
    assert isinstance(first, StoredFile)
    assert isinstance(second, ZeroDivisionError)
    assert isinstance(third, StoredFile)
    assert contents(tmp_path) == contents_of(3, 1)


def test_a_large_file_is_not_written_again(folder: Folder, tmp_path: Path) -> None:
    """A large file whose temporary name is gone fails: its last bytes are not the whole file."""
    part = part_of(folder)
    part.append([b"x" * 1000])
    for left in (tmp_path / ".incoming").glob("upload-*"):
        left.unlink()
    (result,) = commit_all(folder, [(part, [b"last"])])
    assert isinstance(result, FileNotFoundError)
    assert contents(tmp_path) == {}
