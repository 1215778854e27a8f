"""
One file on its way to its name: every system call.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.partial_files import (
    MOMENT,
    NAME,
    WRITE_BACK,
    OrderedFiles,
    open_faulty,
    store_by_name,
    store_small,
)
from tests.support.processes import open_descriptors
from tests.support.stores import MILLISECONDS, contents, leftovers, sweep_from_elsewhere
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import INCOMING, Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile

pytestmark = pytest.mark.usefixtures("small_windows")


# -- success ------------------------------------------------------------------


def test_order(folder: Folder, files: OrderedFiles) -> None:
    """A file is written, synced, closed and published, and the folder is synced, in this order."""
    store_by_name(folder, b"content")
    interesting = ("create", "write", "fsync", "close", "rename")
    steps = [call for call in files.order if call in interesting]
    assert steps == ["create", "write", "fsync", "close", "rename", "fsync"]


def test_what_is_synced(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """
    First the file is synced under its temporary name; last the folder, with the final
    name in it.
    """
    synced: list[tuple[str, list[str]]] = []
    fsync = files.fsync

    def watched(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), [*contents(tmp_path)]))
        fsync(descriptor)

    files.fsync = watched  # type: ignore[method-assign]
    store_by_name(folder, b"content")
    (file, before), (directory, after) = synced
    assert os.path.dirname(file) == str(tmp_path / ".incoming")
    assert before == []
    assert directory == str(tmp_path)
    assert after == [NAME]


def test_close_is_checked(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """An error that a network file system reports at close fails the upload."""
    files.fail("close", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        store_by_name(folder, b"content")
    assert contents(tmp_path) == {}


def test_not_durable(tmp_path: Path, files: OrderedFiles) -> None:
    """Without durability there is no fsync; all else is the same."""
    folder = open_faulty(tmp_path, files, durable=False)
    assert store_by_name(folder, b"content") == NAME
    assert files.calls["fsync"] == 0
    assert contents(tmp_path) == {NAME: b"content"}


_PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(calls=st.lists(_PIECES, max_size=4), last=_PIECES)
def test_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[bytes]], last: list[bytes]
) -> None:
    """However the bytes are split, content, size and hash are the same."""
    path = tmp_path_factory.mktemp("inbox")
    folder = open_faulty(path, FaultyFiles())
    part = PartialFile(folder, MOMENT, digest=True)
    for pieces in calls:
        part.append(pieces)
    stored = commit_one(folder, part, last)
    content = b"".join(b"".join(pieces) for pieces in [*calls, last])
    assert contents(path) == {stored.name: content}
    assert stored.size == len(content)
    assert stored.sha256 == hashlib.sha256(content).hexdigest()


def test_more_pieces_than_one_call_takes(folder: Folder, tmp_path: Path) -> None:
    """The kernel takes 1024 pieces in one call, and a sender may send more."""
    pieces = [b"%d " % number for number in range(3000)]
    part = PartialFile(folder, MOMENT, digest=False)
    stored = commit_one(folder, part, pieces)
    assert contents(tmp_path) == {stored.name: b"".join(pieces)}


@pytest.mark.parametrize("call", ["write", "writev"])
@pytest.mark.parametrize("times", [1, 2, 5, 9])
def test_short_writes(
    folder: Folder, files: OrderedFiles, tmp_path: Path, call: str, times: int
) -> None:
    """A short write is continued where it stopped."""
    files.shorten(call, times=times)
    part = PartialFile(folder, MOMENT, digest=True)
    part.append([b"content"] if call == "write" else [b"con", b"", b"t", b"ent!"])
    stored = commit_one(folder, part, [])
    content = b"content" if call == "write" else b"content!"
    assert contents(tmp_path) == {stored.name: content}
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.size == len(content)


def test_short_write_on_a_full_disk(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """A full disk that first writes some of the bytes still counts as full."""
    files.shorten(then=errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        store_by_name(folder, b"content")
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []


def test_a_write_of_nothing(folder: Folder, files: OrderedFiles) -> None:
    """
    A file system that writes no byte and reports no error does not keep a thread busy for
    ever.
    """
    files.write = lambda descriptor, data: 0  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no more bytes"):
        store_by_name(folder, b"content")


def test_suffix_sees_the_head(tmp_path: Path, files: OrderedFiles) -> None:
    """The suffix depends on the first bytes, in however many pieces they arrived."""
    heads: list[bytes] = []

    def suffix(head: bytes) -> str:
        heads.append(head)
        return ".x"

    folder = open_folder(str(tmp_path), files=files, suffix=suffix)
    store_by_name(folder, b"a", b"b" * 5000, b"c" * 5000, b"d")
    assert heads == [b"a" + b"b" * 5000 + b"c" * 3191]


def test_write_back(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """
    Behind the writer of a large file the kernel writes to disk, so that the last fsync is
    short.
    """
    ranges: list[tuple[str, int, int]] = []
    files.start_write_back = (  # type: ignore[method-assign]
        lambda descriptor, offset, length: ranges.append(("start", offset, length))
    )
    files.finish_write_back = (  # type: ignore[method-assign]
        lambda descriptor, offset, length: ranges.append(("finish", offset, length))
    )
    piece = bytes(WRITE_BACK // 4)
    name = store_by_name(folder, *[piece] * 13)
    assert ranges == [
        ("start", 0, WRITE_BACK),
        ("finish", 0, WRITE_BACK),
        ("start", WRITE_BACK, WRITE_BACK),
        ("finish", WRITE_BACK, WRITE_BACK),
        ("start", 2 * WRITE_BACK, WRITE_BACK),
    ]
    assert (tmp_path / name).stat().st_size == 13 * len(piece)


def test_write_back_for_real(folder: Folder, tmp_path: Path) -> None:
    """The real system calls of write-back change nothing in the file."""
    piece = os.urandom(WRITE_BACK)
    name = store_by_name(folder, piece, piece, piece)
    assert (tmp_path / name).read_bytes() == piece * 3


# -- names --------------------------------------------------------------------


@pytest.mark.parametrize("by_rename", [True, False])
def test_taken_names(tmp_path: Path, files: OrderedFiles, by_rename: bool) -> None:
    """A name that exists gets -1, -2 and so on: the kernel decides, and nothing is overwritten."""
    folder = open_faulty(tmp_path, files, by_rename=by_rename)
    names = [store_by_name(folder, b"%d" % number) for number in range(4)]
    assert names == [
        f"{MILLISECONDS}.bin",
        f"{MILLISECONDS}-1.bin",
        f"{MILLISECONDS}-2.bin",
        f"{MILLISECONDS}-3.bin",
    ]
    assert contents(tmp_path) == dict(zip(names, (b"0", b"1", b"2", b"3"), strict=True))
    assert leftovers(tmp_path) == []


def test_link_and_unlink(linking: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """If the file system cannot rename without replacing, link and unlink publish the file."""
    assert store_by_name(linking, b"content") == NAME
    assert files.calls["rename"] == 0
    steps = [call for call in files.order if call in ("fsync", "link", "unlink")]
    assert steps == ["fsync", "link", "unlink", "fsync"]
    assert contents(tmp_path) == {NAME: b"content"}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_chosen_at_start(tmp_path: Path, files: OrderedFiles, error: int) -> None:
    """Which of the two is used is found out once, when the folder is opened."""
    files.fail("rename", error, times=1)
    folder = open_folder(str(tmp_path), files=files, suffix=lambda _: ".bin")
    assert not folder.by_rename
    store_by_name(folder, b"one")
    store_by_name(folder, b"two")
    assert files.calls["rename"] == 1
    assert len(contents(tmp_path)) == 2


def test_temporary_name_taken(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """A temporary name that exists is left alone, and another one is used."""
    files.fail("create", errno.EEXIST, times=3)
    assert store_by_name(folder, b"content") == NAME
    assert contents(tmp_path) == {NAME: b"content"}


def test_swept_while_created(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """A file that another daemon sweeps at its creation is created again."""
    lock = files.lock
    swept: list[str] = []

    def sweep_first(descriptor: int) -> bool:
        if not swept:
            (name,) = leftovers(tmp_path)
            (tmp_path / ".incoming" / name).unlink()
            swept.append(name)
        return lock(descriptor)

    files.lock = sweep_first  # type: ignore[method-assign]
    assert store_by_name(folder, b"content") == NAME
    assert swept
    assert contents(tmp_path) == {NAME: b"content"}


def test_small_swept(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """
    A small upload takes no lock: if it is swept all the same, it is written again, with a
    lock, so that it is swept only once.
    """
    fsync, swept = files.fsync, [0]

    def sweep_first(descriptor: int) -> None:
        swept[0] += sweep_from_elsewhere(tmp_path)
        fsync(descriptor)

    files.fsync = sweep_first  # type: ignore[method-assign]
    before = open_descriptors(tmp_path)
    assert store_small(folder, b"one", b"two") == NAME
    assert swept == [1]
    assert contents(tmp_path) == {NAME: b"onetwo"}
    assert open_descriptors(tmp_path) == before


@pytest.mark.parametrize("times", [1, 4, 5])
def test_small_disappears(folder: Folder, files: OrderedFiles, tmp_path: Path, times: int) -> None:
    """A small upload whose file others remove is written again, and fails in the end."""
    fsync = files.fsync
    left = times

    def remove_first(descriptor: int) -> None:
        nonlocal left
        if left:
            for name in leftovers(tmp_path):
                left -= 1
                (tmp_path / INCOMING / name).unlink()
        fsync(descriptor)

    files.fsync = remove_first  # type: ignore[method-assign]
    before = open_descriptors(tmp_path)
    if times < 5:
        assert store_small(folder, b"one", b"two") == NAME
        assert contents(tmp_path) == {NAME: b"onetwo"}
    else:
        with pytest.raises(OSError, match="keep disappearing"):
            store_small(folder, b"one", b"two")
        assert contents(tmp_path) == {}
    assert left == 0
    assert open_descriptors(tmp_path) == before


def test_no_lock_is_waited_for(folder: Folder, tmp_path: Path) -> None:
    """A stalled process that holds a lock on the folder blocks no upload."""
    locked = os.open(tmp_path / ".incoming", os.O_RDONLY)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert store_by_name(folder, b"large") == NAME
        open_faulty(tmp_path, OrderedFiles())
    finally:
        os.close(locked)


def test_large_is_not_swept(folder: Folder, tmp_path: Path) -> None:
    """
    An upload in several jobs is locked from the first one, for daemons that do not see
    our claim.
    """
    part = PartialFile(folder, MOMENT, digest=False)
    part.append([b"one"])
    assert sweep_from_elsewhere(tmp_path) == 0
    part.append([b"two"])
    commit_one(folder, part, [b"three"])
    assert contents(tmp_path) == {NAME: b"onetwothree"}
