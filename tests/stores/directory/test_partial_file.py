"""
One file on its way to its name: every system call, and its every failure.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.helpers import open_descriptors, reset
from tests.support.stores import MILLISECONDS, contents, leftovers, sweep_from_elsewhere
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.commit_batch import keep_alone
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile, StoredFile

MOMENT = MILLISECONDS, 0

NAME = f"{MILLISECONDS}.bin"

WRITE_BACK = 64 * 1024


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write-back begins early, so that small files show it."""
    monkeypatch.setattr("twisted_upload.stores.directory.partial_file.WRITE_BACK", WRITE_BACK)


class OrderedFiles(FaultyFiles):
    """
    :ivar order: the calls that were made.
    :ivar synced: what was synced.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.synced: list[str] = []

    def fsync(self, descriptor: int) -> None:
        self.synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        super().fsync(descriptor)

    def _before(self, call: str) -> int | None:
        self.order.append(call)
        return super()._before(call)


def _open(
    path: Path, files: FaultyFiles, *, by_rename: bool = True, durable: bool = True
) -> Folder:
    if not by_rename:
        files.fail("rename", errno.EINVAL)
    folder = open_folder(
        str(path),
        files=files,
        suffix=lambda _: ".bin",
        mode=0o666,  # more than an umask leaves: it takes a chmod
        durable=durable,
    )
    assert folder.by_rename == by_rename
    files.calls.clear()
    return folder


@pytest.fixture
def files() -> OrderedFiles:
    return OrderedFiles()


@pytest.fixture
def folder(tmp_path: Path, files: OrderedFiles) -> Iterator[Folder]:
    folder = _open(tmp_path, files)
    files.order.clear()
    files.synced.clear()
    before = open_descriptors(tmp_path)
    yield folder
    assert open_descriptors(tmp_path) == before


@pytest.fixture
def linking(tmp_path: Path, files: OrderedFiles) -> Folder:
    folder = _open(tmp_path, files, by_rename=False)
    files.order.clear()
    return folder


def _keep_file(folder: Folder, *pieces: bytes, digest: bool = False) -> StoredFile:
    """The whole way of an upload in some jobs, as the store goes it."""
    part = PartialFile(folder, MOMENT, digest=digest)
    try:
        for piece in pieces:
            part.append([piece])
    except BaseException:
        part.discard()
        raise
    return keep_alone(folder, part, [])


def _keep(folder: Folder, *pieces: bytes) -> str:
    """The same; its name."""
    return _keep_file(folder, *pieces).name


def _keep_small(folder: Folder, *pieces: bytes) -> str:
    """The whole way of an upload that is one job; its name."""
    kept = keep_alone(folder, PartialFile(folder, MOMENT, digest=True), pieces)
    assert kept.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert kept.size == len(b"".join(pieces))
    return kept.name


# -- the good way -------------------------------------------------------------


def test_order(folder: Folder, files: OrderedFiles) -> None:
    """Written, synced, closed, published, and the folder synced, in this order."""
    _keep(folder, b"content")
    interesting = ("create", "write", "fsync", "close", "rename")
    steps = [call for call in files.order if call in interesting]
    assert steps == ["create", "write", "fsync", "close", "rename", "fsync"]


def test_what_is_synced(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """First the file is synced, under no visible name; last the folder, with the name in it."""
    synced: list[tuple[str, list[str]]] = []
    fsync = files.fsync

    def watched(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), [*contents(tmp_path)]))
        fsync(descriptor)

    files.fsync = watched  # type: ignore[method-assign]
    _keep(folder, b"content")
    (file, before), (directory, after) = synced
    assert os.path.dirname(file) == str(tmp_path / ".incoming")
    assert before == []
    assert directory == str(tmp_path)
    assert after == [NAME]


def test_close_is_checked(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """An error that a network file system tells at close is no success."""
    files.fail("close", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        _keep(folder, b"content")
    assert contents(tmp_path) == {}


def test_not_durable(tmp_path: Path, files: OrderedFiles) -> None:
    """Without durability there is no fsync, and all else is the same."""
    folder = _open(tmp_path, files, durable=False)
    assert _keep(folder, b"content") == NAME
    assert files.calls["fsync"] == 0
    assert contents(tmp_path) == {NAME: b"content"}


_PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(calls=st.lists(_PIECES, max_size=4), last=_PIECES)
def test_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[bytes]], last: list[bytes]
) -> None:
    """However the bytes are cut, they are the same bytes, with the same size and hash."""
    path = tmp_path_factory.mktemp("inbox")
    folder = _open(path, FaultyFiles())
    part = PartialFile(folder, MOMENT, digest=True)
    for pieces in calls:
        part.append(pieces)
    kept = keep_alone(folder, part, last)
    content = b"".join(b"".join(pieces) for pieces in [*calls, last])
    assert contents(path) == {kept.name: content}
    assert kept.size == len(content)
    assert kept.sha256 == hashlib.sha256(content).hexdigest()


def test_more_pieces_than_one_call_takes(folder: Folder, tmp_path: Path) -> None:
    """The kernel takes 1024 pieces in one call, and a sender may send more."""
    pieces = [b"%d " % number for number in range(3000)]
    part = PartialFile(folder, MOMENT, digest=False)
    kept = keep_alone(folder, part, pieces)
    assert contents(tmp_path) == {kept.name: b"".join(pieces)}


@pytest.mark.parametrize("call", ["write", "writev"])
@pytest.mark.parametrize("times", [1, 2, 5, 9])
def test_short_writes(
    folder: Folder, files: OrderedFiles, tmp_path: Path, call: str, times: int
) -> None:
    """A short write goes on where it stopped."""
    files.shorten(call, times=times)
    part = PartialFile(folder, MOMENT, digest=True)
    part.append([b"content"] if call == "write" else [b"con", b"", b"t", b"ent!"])
    kept = keep_alone(folder, part, [])
    content = b"content" if call == "write" else b"content!"
    assert contents(tmp_path) == {kept.name: content}
    assert kept.sha256 == hashlib.sha256(content).hexdigest()
    assert kept.size == len(content)


def test_short_write_on_a_full_disk(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """A full disk that first takes a part is a full disk all the same."""
    files.shorten(then=errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        _keep(folder, b"content")
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []


def test_a_write_that_takes_nothing(folder: Folder, files: OrderedFiles) -> None:
    """A file system that takes no byte and names no error does not keep a thread busy for ever."""
    files.write = lambda descriptor, data: 0  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no more bytes"):
        _keep(folder, b"content")


def test_suffix_sees_the_head(tmp_path: Path, files: OrderedFiles) -> None:
    """The suffix is told from the first bytes, in however many pieces they came."""
    heads: list[bytes] = []

    def suffix(head: bytes) -> str:
        heads.append(head)
        return ".x"

    folder = open_folder(str(tmp_path), files=files, suffix=suffix)
    _keep(folder, b"a", b"b" * 5000, b"c" * 5000, b"d")
    assert heads == [b"a" + b"b" * 5000 + b"c" * 3191]


def test_write_back(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """Behind the writer of a large file the kernel writes on, so that the last fsync is short."""
    ranges: list[tuple[str, int, int]] = []
    files.start_write_back = (  # type: ignore[method-assign]
        lambda descriptor, offset, length: ranges.append(("start", offset, length))
    )
    files.finish_write_back = (  # type: ignore[method-assign]
        lambda descriptor, offset, length: ranges.append(("finish", offset, length))
    )
    piece = bytes(WRITE_BACK // 4)
    name = _keep(folder, *[piece] * 13)
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
    name = _keep(folder, piece, piece, piece)
    assert (tmp_path / name).read_bytes() == piece * 3


# -- names --------------------------------------------------------------------


@pytest.mark.parametrize("by_rename", [True, False])
def test_taken_names(tmp_path: Path, files: OrderedFiles, by_rename: bool) -> None:
    """A taken name gets -1, -2 and so on: the kernel decides, and nothing is overwritten."""
    folder = _open(tmp_path, files, by_rename=by_rename)
    names = [_keep(folder, b"%d" % number) for number in range(4)]
    assert names == [
        f"{MILLISECONDS}.bin",
        f"{MILLISECONDS}-1.bin",
        f"{MILLISECONDS}-2.bin",
        f"{MILLISECONDS}-3.bin",
    ]
    assert contents(tmp_path) == dict(zip(names, (b"0", b"1", b"2", b"3"), strict=True))
    assert leftovers(tmp_path) == []


def test_link_and_unlink(linking: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """Where the file system cannot rename without replacing, a link and an unlink do it."""
    assert _keep(linking, b"content") == NAME
    assert files.calls["rename"] == 0
    steps = [call for call in files.order if call in ("fsync", "link", "unlink")]
    assert steps == ["fsync", "link", "unlink", "fsync"]
    assert contents(tmp_path) == {NAME: b"content"}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_chosen_at_start(tmp_path: Path, files: OrderedFiles, error: int) -> None:
    """Which of the two is found out once, when the folder is opened."""
    files.fail("rename", error, times=1)
    folder = open_folder(str(tmp_path), files=files, suffix=lambda _: ".bin")
    assert not folder.by_rename
    _keep(folder, b"one")
    _keep(folder, b"two")
    assert files.calls["rename"] == 1
    assert len(contents(tmp_path)) == 2


def test_temporary_name_taken(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """A temporary name that exists is left alone, and another one is taken."""
    files.fail("create", errno.EEXIST, times=3)
    assert _keep(folder, b"content") == NAME
    assert contents(tmp_path) == {NAME: b"content"}


def test_swept_while_created(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """A file that another daemon's sweep removed in the moment of its creation is created again."""
    lock = files.lock
    swept: list[str] = []

    def sweep_first(descriptor: int) -> bool:
        if not swept:
            (name,) = leftovers(tmp_path)
            (tmp_path / ".incoming" / name).unlink()
            swept.append(name)
        return lock(descriptor)

    files.lock = sweep_first  # type: ignore[method-assign]
    assert _keep(folder, b"content") == NAME
    assert swept
    assert contents(tmp_path) == {NAME: b"content"}


@pytest.mark.parametrize("times", [1, 4])
def test_small_swept(folder: Folder, files: OrderedFiles, tmp_path: Path, times: int) -> None:
    """A small upload takes no lock: if it is swept away all the same, it is written again."""
    fsync = files.fsync
    left = times

    def sweep_first(descriptor: int) -> None:
        nonlocal left
        if left and leftovers(tmp_path):
            left -= 1
            sweep_from_elsewhere(tmp_path)
        fsync(descriptor)

    files.fsync = sweep_first  # type: ignore[method-assign]
    before = open_descriptors(tmp_path)
    assert _keep_small(folder, b"one", b"two") == NAME
    assert left == 0
    assert contents(tmp_path) == {NAME: b"onetwo"}
    assert open_descriptors(tmp_path) == before


def test_small_swept_for_ever(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """Who cannot keep a file for a moment is told so in the end."""
    fsync = files.fsync

    def sweep_first(descriptor: int) -> None:
        sweep_from_elsewhere(tmp_path)
        fsync(descriptor)

    files.fsync = sweep_first  # type: ignore[method-assign]
    with pytest.raises(OSError, match="keep disappearing"):
        _keep_small(folder, b"content")
    assert contents(tmp_path) == {}


def test_no_lock_is_waited_for(folder: Folder, tmp_path: Path) -> None:
    """Who holds a lock on the folder and stands still holds up nobody."""
    locked = os.open(tmp_path / ".incoming", os.O_RDONLY)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert _keep(folder, b"large") == NAME
        _open(tmp_path, OrderedFiles())
    finally:
        os.close(locked)


def test_large_is_not_swept(folder: Folder, tmp_path: Path) -> None:
    """An upload in several jobs is locked from the first, for those who do not see our claim."""
    part = PartialFile(folder, MOMENT, digest=False)
    part.append([b"one"])
    assert sweep_from_elsewhere(tmp_path) == 0
    part.append([b"two"])
    keep_alone(folder, part, [b"three"])
    assert contents(tmp_path) == {NAME: b"onetwothree"}


# -- every step's failure -----------------------------------------------------

ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG]

# call, how many of it go well before that
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
    """An upload that makes every call of the write path."""
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
    return keep_alone(folder, part, []).name


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize(("call", "after"), [*STEPS, ("rename", 0)])
def test_every_failure(
    folder: Folder, files: OrderedFiles, tmp_path: Path, call: str, after: int, error: int
) -> None:
    """Whatever step fails, and however: it is told, nothing is left, and the next upload works."""
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)) as raised:
        _large(folder)
    assert raised.value.errno == error
    assert not files._faults.get(call), "it did not come to that"
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []
    files.heal()
    assert _keep(folder, b"next") == NAME
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
    """The same where the upload is one job."""
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)):
        _keep_small(folder, b"one", b"two")
    assert not files._faults.get(call), "it did not come to that"
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []
    files.heal()
    assert _keep_small(folder, b"next") == NAME
    assert contents(tmp_path) == {NAME: b"next"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize(("call", "after"), [("link", 0), ("unlink", 0), ("fsync", 1)])
def test_every_failure_of_linking(
    linking: Folder, files: OrderedFiles, tmp_path: Path, call: str, after: int, error: int
) -> None:
    """The same where publishing is link and unlink."""
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)):
        _large(linking)
    assert contents(tmp_path) == {}
    assert leftovers(tmp_path) == []
    files.heal()
    assert _keep(linking, b"next") == NAME


@pytest.mark.parametrize("keep", [_keep, _keep_small])
@pytest.mark.parametrize("which", [0, 1], ids=["file", "folder"])
def test_fsync_is_never_tried_again(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    which: int,
    keep: Callable[[Folder, bytes], str],
) -> None:
    """A failed fsync loses the upload: a second one could succeed over data that is gone."""
    files.fail("fsync", errno.EIO, after=which)
    with pytest.raises(OSError, match="Input/output"):
        keep(folder, b"content")
    assert len(set(files.synced)) == len(files.synced)
    assert files.calls["rename"] == which
    assert contents(tmp_path) == {}


def test_name_is_taken_back(folder: Folder, files: OrderedFiles, tmp_path: Path) -> None:
    """When the folder cannot be synced after publishing, the name is taken back."""
    files.fail("fsync", errno.EIO, after=1)
    with pytest.raises(OSError, match="Input/output"):
        _keep(folder, b"content")
    assert files.calls["rename"] == 1
    assert contents(tmp_path) == {}


def test_dead_disk(folder: Folder, files: OrderedFiles) -> None:
    """A disk on which not even cleaning up works tells the first error and leaks nothing."""
    files.fail("fsync", errno.EIO, times=9)
    files.fail("unlink", errno.EROFS, times=9)
    files.fail("close", errno.EIO, times=9)
    with pytest.raises(OSError, match="Input/output"):
        _keep(folder, b"content")
    for name in os.listdir(folder.incoming):
        os.unlink(name, dir_fd=folder.incoming)


def test_discard_twice(folder: Folder, tmp_path: Path) -> None:
    """Discarding may be said at any time, and again."""
    part = PartialFile(folder, MOMENT, digest=False)
    part.discard()
    part.append([b"content"])
    assert len(leftovers(tmp_path)) == 1
    part.discard()
    part.discard()
    assert leftovers(tmp_path) == []


def test_discard_after_keep(folder: Folder, tmp_path: Path) -> None:
    """Discarding what has been kept but not promised takes it away."""
    part = PartialFile(folder, MOMENT, digest=False)
    part.append([b"content"])
    keep_alone(folder, part, [])
    part.discard()
    assert contents(tmp_path) == {}


# -- from a socket ------------------------------------------------------------


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A sender, and our end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    with sender, ours:
        yield sender, ours


def _take_all(part: PartialFile, ours: socket.socket, size: int) -> None:
    """Take until so much has come."""
    while size > 0:
        select.select([ours], [], [], 10)
        size -= part.take(ours.fileno(), size).size


def test_take(folder: Folder, tmp_path: Path, sockets: tuple[socket.socket, socket.socket]) -> None:
    """Bytes of a socket go into the file after those that were written before."""
    sender, ours = sockets
    part = PartialFile(folder, MOMENT, digest=False)
    part.append([b"head "])
    sender.sendall(b"from the socket")
    _take_all(part, ours, 15)
    part.append([b" and"])
    kept = keep_alone(folder, part, [b" tail"])
    assert contents(tmp_path) == {kept.name: b"head from the socket and tail"}
    assert kept.size == len(b"head from the socket and tail")


def test_take_much(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """Much can be taken, more than a pipe holds, with write-back behind it."""
    sender, ours = sockets
    content = os.urandom(1 << 20) * 20
    sending = threading.Thread(target=sender.sendall, args=(content,))
    sending.start()
    part = PartialFile(folder, MOMENT, digest=False)
    _take_all(part, ours, len(content))
    sending.join()
    kept = keep_alone(folder, part, [])
    assert (tmp_path / kept.name).read_bytes() == content
    assert files.calls["start_write_back"] > 0


def test_take_at_most(folder: Folder, sockets: tuple[socket.socket, socket.socket]) -> None:
    """No byte more is taken than was asked for: the rest stays in the socket."""
    sender, ours = sockets
    sender.sendall(b"0123456789")
    part = PartialFile(folder, MOMENT, digest=False)
    select.select([ours], [], [], 10)
    assert part.take(ours.fileno(), 4) == SpliceResult(4)
    assert ours.recv(100) == b"456789"
    part.discard()


def test_take_from_dry(folder: Folder, sockets: tuple[socket.socket, socket.socket]) -> None:
    """A socket that has nothing just now, and one that has come to its end, are dry."""
    sender, ours = sockets
    part = PartialFile(folder, MOMENT, digest=False)
    assert part.take(ours.fileno(), 100) == SpliceResult(0, dry=True)
    sender.sendall(b"last")
    sender.shutdown(socket.SHUT_WR)
    _take_all(part, ours, 4)
    select.select([ours], [], [], 10)
    assert part.take(ours.fileno(), 100) == SpliceResult(0, dry=True)
    assert ours.recv(1) == b"", "the end is left for the transport to find"
    part.discard()


def test_take_from_lost(folder: Folder, sockets: tuple[socket.socket, socket.socket]) -> None:
    """A socket that has been reset is lost."""
    sender, ours = sockets
    part = PartialFile(folder, MOMENT, digest=False)
    reset(sender)
    select.select([ours], [], [], 10)
    assert part.take(ours.fileno(), 100).lost
    part.discard()


def test_take_short(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """A file that takes less at a time than the socket gives gets all of it."""
    sender, ours = sockets
    splice = files.splice
    files.splice = lambda pipe, descriptor, length: splice(  # type: ignore[method-assign]
        pipe, descriptor, min(length, 3)
    )
    sender.sendall(b"0123456789")
    part = PartialFile(folder, MOMENT, digest=False)
    _take_all(part, ours, 10)
    kept = keep_alone(folder, part, [])
    assert contents(tmp_path) == {kept.name: b"0123456789"}


def test_take_where_it_cannot_be_spliced(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """A file system that cannot splice gets the bytes in the ordinary way."""
    sender, ours = sockets
    files.fail("splice", errno.EINVAL, times=1000)
    content = os.urandom(300_000)
    part = PartialFile(folder, MOMENT, digest=False)
    sending = threading.Thread(target=sender.sendall, args=(content,))
    sending.start()
    _take_all(part, ours, len(content))
    sending.join()
    kept = keep_alone(folder, part, [])
    assert (tmp_path / kept.name).read_bytes() == content
    assert kept.size == len(content)


@pytest.mark.parametrize(
    "error", [*ERRORS, 0], ids=lambda error: errno.errorcode.get(error, "none")
)
def test_take_fails(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: tuple[socket.socket, socket.socket],
    error: int,
) -> None:
    """A disk that fails while bytes come from a socket fails that upload, and spoils no other."""
    sender, ours = sockets
    sender.sendall(b"of the first")
    part = PartialFile(folder, MOMENT, digest=False)
    if error:
        files.fail("splice", error)
    else:
        files.splice = lambda pipe, descriptor, length: 0  # type: ignore[method-assign]
    select.select([ours], [], [], 10)
    with pytest.raises(OSError, match=os.strerror(error) if error else "no more bytes"):
        part.take(ours.fileno(), 100)
    part.discard()
    assert leftovers(tmp_path) == []
    vars(files).pop("splice", None)
    sender.sendall(b"of the second")
    part = PartialFile(folder, MOMENT, digest=False)
    _take_all(part, ours, 13)
    keep_alone(folder, part, [])
    assert contents(tmp_path) == {NAME: b"of the second"}
