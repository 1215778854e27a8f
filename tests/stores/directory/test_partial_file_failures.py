"""
One file on its way to its name: the failure of every step.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.partial_files import (
    ERRORS,
    MOMENT,
    NAME,
    WRITE_BACK,
    OrderedFiles,
    store_by_name,
    store_small,
)
from tests.support.stores import contents, leftovers
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.partial_file import PartialFile

pytestmark = pytest.mark.usefixtures("small_windows")


# the call, and how many of it succeed first
STEPS = [
    ("create", 0),
    ("lock", 0),
    ("links", 0),
    ("write", 0),
    ("write", 1),
    ("writev", 0),
    ("start_write_back", 0),
    ("finish_write_back", 0),
    ("chmod", 0),
    ("fsync", 0),
    ("close", 0),
    ("fsync", 1),
]


def _large(folder: Folder) -> str:
    """Return an upload that makes every call of the write path."""
    part = PartialFile(folder, MOMENT, digest=True)
    piece = bytes(WRITE_BACK)
    try:
        part.append([b"first"])
        part.append([b"one", b"two"])
        part.append([piece])
        part.append([piece])
    except BaseException:
        part.discard()
        raise
    return commit_one(folder, part, []).name


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize(("call", "after"), [*STEPS, ("rename", 0)])
def test_every_failure(
    folder: Folder, files: OrderedFiles, tmp_path: Path, call: str, after: int, error: int
) -> None:
    """
    Whatever step fails, and however: it is reported, nothing is left, and the next upload
    works.
    """
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)) as raised:
        _large(folder)
    assert raised.value.errno == error
    assert not files._faults.get(call), "the call was never made"
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []
    files.heal()
    assert store_by_name(folder, b"next") == NAME
    assert contents(tmp_path) == {NAME: b"next"}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("create", 0),
        ("writev", 0),
        ("chmod", 0),
        ("fsync", 0),
        ("close", 0),
        ("rename", 0),
        ("fsync", 1),
    ],
)
def test_every_failure_of_small(
    folder: Folder, files: OrderedFiles, tmp_path: Path, call: str, after: int, error: int
) -> None:
    """The same holds for an upload in one job."""
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)):
        store_small(folder, b"one", b"two")
    assert not files._faults.get(call), "the call was never made"
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []
    files.heal()
    assert store_small(folder, b"next") == NAME
    assert contents(tmp_path) == {NAME: b"next"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize(("call", "after"), [("link", 0), ("unlink", 0), ("fsync", 1)])
def test_every_failure_of_linking(
    linking: Folder, files: OrderedFiles, tmp_path: Path, call: str, after: int, error: int
) -> None:
    """The same holds if link and unlink publish the file."""
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)):
        _large(linking)
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []
    files.heal()
    assert store_by_name(linking, b"next") == NAME


@pytest.mark.parametrize("keep", [store_by_name, store_small])
@pytest.mark.parametrize("which", [0, 1], ids=["file", "folder"])
def test_fsync_is_never_retried(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    which: int,
    keep: Callable[[Folder, bytes], str],
) -> None:
    """A failed fsync fails the upload: a second one could succeed although the data is gone."""
    files.fail("fsync", errno.EIO, after=which)
    with pytest.raises(OSError, match="Input/output"):
        keep(folder, b"content")
    assert len(set(files.synced)) == len(files.synced)
    assert files.calls["rename"] == which
    assert contents(tmp_path) == {}


def test_name_is_taken_back(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """If the folder cannot be synced after publishing, the name is taken back."""
    files.fail("fsync", errno.EIO, after=1)
    with pytest.raises(OSError, match="Input/output"):
        store_by_name(folder, b"content")
    assert files.calls["rename"] == 1
    assert contents(tmp_path) == {}


def test_dead_disk(folder: Folder, files: OrderedFiles) -> None:
    """A disk on which even the clean-up fails reports the first error and leaks nothing."""
    files.fail("fsync", errno.EIO, times=9)
    files.fail("unlink", errno.EROFS, times=9)
    files.fail("close", errno.EIO, times=9)
    with pytest.raises(OSError, match="Input/output"):
        store_by_name(folder, b"content")
    for name in os.listdir(folder.incoming):
        os.unlink(name, dir_fd=folder.incoming)


def test_removed_later(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """An unfinished file that cannot be removed is removed when another one is created."""
    parts = [PartialFile(folder, MOMENT, digest=False) for _ in range(2)]
    for part in parts:
        part.append([b"content"])
    files.fail("unlink", errno.EROFS, times=3)
    for part in parts:
        part.discard()
    assert len(leftovers(tmp_path)) == 2
    for _ in range(3):
        store_by_name(folder, b"content")
    assert leftovers(tmp_path) == []


def test_discard_twice(folder: Folder, tmp_path: Path) -> None:
    """Discarding is allowed at any time, and again."""
    part = PartialFile(folder, MOMENT, digest=False)
    part.discard()
    part.append([b"content"])
    assert len(leftovers(tmp_path)) == 1
    part.discard()
    part.discard()
    assert leftovers(tmp_path) == []


def test_discard_after_publishing(folder: Folder, tmp_path: Path) -> None:
    """Discarding a file that is published but not acknowledged removes it."""
    part = PartialFile(folder, MOMENT, digest=False)
    part.append([b"content"])
    commit_one(folder, part, [])
    part.discard()
    assert contents(tmp_path) == {}
