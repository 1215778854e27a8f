"""
The marker of a stored file, and its content.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hook_markers import (
    PEER,
    failed,
    hooked_folder,
    lines,
    marked,
    queue_of,
    store_marked,
    waiting,
)
from tests.support.processes import open_descriptors
from tests.support.stores import MILLISECONDS, contents, leftovers
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.hooks.marked_file import sha256_of
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING
from twisted_upload.hooks.spool_scan import scan
from twisted_upload.interfaces import Metadata
from twisted_upload.stores.directory.commit_batch import commit_all, commit_one
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.stored_file import StoredFile

MOMENT = MILLISECONDS, 0
NAME = f"{MILLISECONDS}.bin"


class Ordered(FaultyFiles):
    """
    Calls that are recorded.

    :ivar order: each call, with its file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def _note(self, what: str, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        kind = "" if os.path.isdir(path) else " a file in"
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        self.order.append(f"{what}{kind} {folder.rpartition('/')[2]}")

    def fsync(self, descriptor: int) -> None:
        self._note("sync", descriptor)
        super().fsync(descriptor)

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        self._note("publish to", target)
        super().rename(source, name, target, new_name)


@pytest.fixture
def files() -> Ordered:
    return Ordered()


@pytest.fixture
def folder(inbox: Path, files: Ordered) -> Iterator[Folder]:
    folder = hooked_folder(inbox, files)
    files.order.clear()
    before = open_descriptors(inbox)
    yield folder
    assert open_descriptors(inbox) == before


def test_content(folder: Folder, inbox: Path) -> None:
    """It has all that is known of the upload, and how to find the file again."""
    part, marker = marked(folder, MOMENT, digest=True)
    commit_one(folder, part, [b"hello"])
    (name,) = waiting(inbox)
    path = inbox / HOOKS / WAITING / name
    status = (inbox / NAME).stat()
    assert lines(path) == [
        {
            "name": NAME,
            "size": 5,
            "sha256": hashlib.sha256(b"hello").hexdigest(),
            "peer": PEER,
            "listener": "front",
            "arrived": MILLISECONDS / 1000 + 0.0005,
            "inode": status.st_ino,
            "modified": status.st_mtime_ns,
            "marker": path.stat().st_ino,
        }
    ]
    assert name.startswith(f"{MILLISECONDS}-000000-")
    assert path.stat().st_mode & 0o777 == 0o600
    queue_of(folder).remove(marker)


def test_metadata(folder: Folder, inbox: Path) -> None:
    """What the sender said is in the marker, as far as it said anything, and is read back."""
    said = Metadata("照片.jpg", "", "Alice")
    stored, marker = store_marked(folder, MOMENT, b"hello", said)
    queue_of(folder).release(marker)
    (name,) = waiting(inbox)
    (line,) = lines(inbox / HOOKS / WAITING / name)
    assert (line["original_name"], line["label"]) == ("照片.jpg", "Alice")
    assert "content_type" not in line
    (found,) = scan(queue_of(folder), 100, ()).markers
    assert (found.name, found.metadata) == (stored.name, said)
    queue_of(folder).remove(marker)


def test_order(folder: Folder, files: Ordered) -> None:
    """The marker and its folder are synced with the file, before the file is published."""
    store_marked(folder, MOMENT, b"hello")
    assert sorted(files.order[:3]) == [
        "sync a file in .incoming",
        "sync a file in waiting",
        "sync waiting",
    ]
    assert files.order[3:] == ["publish to inbox", "sync inbox"]


def test_batch_shares_the_folder(folder: Folder, files: Ordered) -> None:
    """A batch costs one more sync for each file, and one more for all of them."""
    commit_all(folder, [(marked(folder, (MILLISECONDS, n))[0], [b"x"]) for n in range(10)])
    assert len([what for what in files.order if what.startswith("sync")]) == 22


def test_no_fsync(inbox: Path, files: Ordered) -> None:
    """Without fsync, the marker is still written, and nothing is synced."""
    folder = hooked_folder(inbox, files, durable=False)
    files.order.clear()
    _, marker = store_marked(folder, MOMENT, b"hello")
    assert len(waiting(inbox)) == 1
    queue_of(folder).set_aside(marker, 1, "exit status 1", 0.0)
    assert files.order == ["publish to inbox"]


@pytest.mark.parametrize(
    "fault",
    [
        ("create", errno.ENOSPC, 1),  # the first is the file itself
        ("write", errno.ENOSPC, 1),
        ("fsync", errno.EIO, 1),
        ("fsync", errno.EIO, 2),
        ("close", errno.EIO, 0),
        ("rename", errno.EIO, 0),
        ("fsync", errno.EIO, 3),
    ],
    ids=str,
)
def test_faults(folder: Folder, files: Ordered, inbox: Path, fault: tuple[str, int, int]) -> None:
    """After any failure, the upload has failed, and neither its file nor its marker remains."""
    call, error, after = fault
    files.fail(call, error, after=after)
    part, _ = marked(folder, MOMENT)
    with pytest.raises(OSError, match=os.strerror(error)):
        commit_one(folder, part, [b"hello"])
    assert (contents(inbox), leftovers(inbox), waiting(inbox)) == ({}, [], [])
    assert queue_of(folder).being_stored == set()


def test_cannot_be_withdrawn(folder: Folder, files: Ordered, inbox: Path) -> None:
    """
    The marker of an upload that is not stored stands for no other file, and is removed as
    soon as that is possible.
    """
    _, marker = store_marked(folder, MOMENT, b"another file, with the same inode number")
    spool = queue_of(folder)
    for _ in range(2):
        files.fail("unlink", errno.EROFS)
        spool.withdraw(marker)
        assert len(waiting(inbox)) == 1
        files.fail("unlink", errno.EROFS)
        assert scan(spool, 9, ()).markers == []
        assert len(waiting(inbox)) == 1
    assert scan(spool, 9, ()).markers == []
    assert (waiting(inbox), spool.being_stored) == ([], set())
    assert len(contents(inbox)) == 1


def test_short_write(folder: Folder, files: Ordered, inbox: Path) -> None:
    """A marker that was not completely written is an error."""
    real = files.write

    def write(descriptor: int, data: bytes | memoryview) -> int:
        return real(descriptor, data[:3] if bytes(data[:1]) == b"{" else data)

    files.write = write  # type: ignore[method-assign]
    part, _ = marked(folder, MOMENT)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        commit_one(folder, part, [b"hello"])
    assert (contents(inbox), waiting(inbox)) == ({}, [])


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_of_a_batch(folder: Folder, files: Ordered, inbox: Path, which: int) -> None:
    """If a marker cannot be written, only its own upload fails."""
    files.fail("create", errno.ENOSPC, after=3 + which)
    uploads = [(marked(folder, (MILLISECONDS, n))[0], [b"x"]) for n in range(3)]
    results = commit_all(folder, uploads)
    assert [isinstance(one, StoredFile) for one in results] == [n != which for n in range(3)]
    assert len(contents(inbox)) == len(waiting(inbox)) == 2


def test_repeated_after_a_sweep(folder: Folder, files: Ordered, inbox: Path) -> None:
    """An upload whose files another daemon's sweep removed is repeated, with one marker."""
    files.fail("rename", errno.ENOENT)
    stored, _ = store_marked(folder, MOMENT, b"hello")
    assert stored.name == NAME
    assert len(waiting(inbox)) == 1


def test_discarded_after_all(folder: Folder, inbox: Path) -> None:
    """If a stored file is discarded because its upload was cancelled, so is its marker."""
    part, _ = marked(folder, MOMENT)
    commit_one(folder, part, [b"hello"])
    part.discard()
    assert (contents(inbox), waiting(inbox)) == ({}, [])


def test_discarded_in_order(folder: Folder, files: Ordered, inbox: Path) -> None:
    """The file is removed before its marker, so that after a crash no file is without one."""
    part, _ = marked(folder, MOMENT)
    commit_one(folder, part, [b"hello"])
    gone: list[str] = []
    real = files.unlink

    def unlink(directory: int, name: str) -> None:
        real(directory, name)
        gone.append(name)

    files.unlink = unlink  # type: ignore[method-assign]
    part.discard()
    assert gone[0] == NAME
    assert gone[1].endswith(".json")


def test_file_system_that_assigns_owners(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all new files belong to another user (NFS, FUSE), markers are still valid."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    queue_of(folder).release(marker)
    found = scan(queue_of(folder), 10, ())
    assert [marker.name for marker in found.markers] == [NAME]


# -- the file -----------------------------------------------------------------


@pytest.mark.parametrize("while_receiving", [True, False])
def test_digest(folder: Folder, inbox: Path, while_receiving: bool) -> None:
    """The SHA-256 is that of the upload, if it was computed; otherwise that of the file."""
    part, marker = marked(folder, MOMENT, digest=while_receiving)
    marker.stored_as(commit_one(folder, part, [b"hello"]).name)
    (inbox / NAME).write_bytes(b"changed")
    expected = b"hello" if while_receiving else b"changed"
    assert sha256_of(queue_of(folder), marker) == hashlib.sha256(expected).hexdigest()
    queue_of(folder).remove(marker)


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize(
    "replace",
    [
        lambda path: None,
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.mkdir(),
        os.mkfifo,
    ],
    ids=["nothing", "link", "folder", "pipe"],
)
def test_gone(folder: Folder, inbox: Path, replace: Callable[[Path], object], digest: bool) -> None:
    """A path that no longer exists, or is no longer a file, counts as gone."""
    part, marker = marked(folder, MOMENT, digest=digest)
    marker.stored_as(commit_one(folder, part, [b"hello"]).name)
    (inbox / NAME).unlink()
    replace(inbox / NAME)
    assert sha256_of(queue_of(folder), marker) is None


def test_unreadable(inbox: Path) -> None:
    """Any other error of the file is raised."""
    folder = hooked_folder(inbox)
    _, marker = store_marked(folder, MOMENT, b"hello")
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, queue_of(folder).final, inheritable=False)
    os.close(null)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTDIR)):
        sha256_of(queue_of(folder), marker)


# -- set aside ----------------------------------------------------------------


def test_set_aside(folder: Folder, files: Ordered, inbox: Path) -> None:
    """It is moved to another folder, durably, with the number of attempts and the reason."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    files.order.clear()
    queue_of(folder).set_aside(marker, 6, "exit status 3", 1.5, "no such\ttable")
    (name,) = failed(inbox)
    assert waiting(inbox) == []
    (note,) = lines(inbox / HOOKS / FAILED / name)[1:]
    assert note == {
        "name": NAME,
        "certain": True,
        "attempts": 6,
        "failed": "exit status 3",
        "said": "no such\ttable",
        "when": 1.5,
    }
    assert files.order == ["sync a file in waiting", "sync failed"]


def test_set_aside_repeatedly(folder: Folder, inbox: Path) -> None:
    """Even if it is set aside again and again, its size stays bounded."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    (name,) = waiting(inbox)
    with (inbox / HOOKS / WAITING / name).open("a") as file:
        file.write("\n" * 2**20)
    size = (inbox / HOOKS / WAITING / name).stat().st_size
    queue_of(folder).set_aside(marker, 6, "exit status 3", 1.5, "x" * 4096)
    assert (inbox / HOOKS / FAILED / name).stat().st_size == size


def test_set_aside_and_back(folder: Folder, inbox: Path) -> None:
    """Moved back, it is valid again; the second time, it gets another line."""
    stored, marker = store_marked(folder, MOMENT, b"hello")
    queue_of(folder).release(marker)
    for times in 1, 2:
        queue_of(folder).set_aside(marker, 6, "exit status 3", 1.5)
        (name,) = failed(inbox)
        (inbox / HOOKS / FAILED / name).rename(inbox / HOOKS / WAITING / name)
        (marker,) = scan(queue_of(folder), 10, ()).markers
        assert (marker.name, marker.peer, marker.listener) == (stored.name, PEER, "front")
        assert len(lines(inbox / HOOKS / WAITING / name)) == times + 1


def test_incomplete_line(folder: Folder, inbox: Path) -> None:
    """A line that a crash left incomplete is ignored."""
    _, marker = store_marked(folder, MOMENT, b"hello")
    queue_of(folder).release(marker)
    (name,) = waiting(inbox)
    with (inbox / HOOKS / WAITING / name).open("a") as file:
        file.write('{"name": "179')
    (found,) = scan(queue_of(folder), 10, ()).markers
    assert found.name == NAME
