"""
One file on its way to its name: its bytes come from a socket.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from pathlib import Path

import pytest

from tests.support.partial_files import ERRORS, MOMENT, NAME, OrderedFiles
from tests.support.senders import Sockets, reset
from tests.support.stores import contents, leftovers
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.partial_file import PartialFile

pytestmark = pytest.mark.usefixtures("small_windows")


def _splice_all(part: PartialFile, ours: socket.socket, size: int) -> None:
    """Splice until this many bytes have been read."""
    while size > 0:
        select.select([ours], [], [], 10)
        size -= part.splice_from(ours.fileno(), size).size


def test_splice(folder: Folder, tmp_path: Path, sockets: Sockets) -> None:
    """Bytes from a socket are appended to those that were written before."""
    sender, ours = sockets
    part = PartialFile(folder, MOMENT, digest=False)
    part.append([b"head "])
    sender.sendall(b"from the socket")
    _splice_all(part, ours, 15)
    part.append([b" and"])
    stored = commit_one(folder, part, [b" tail"])
    assert contents(tmp_path) == {stored.name: b"head from the socket and tail"}
    assert stored.size == len(b"head from the socket and tail")


def test_splice_much(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: Sockets,
) -> None:
    """More than a pipe holds can be spliced, with write-back behind it."""
    sender, ours = sockets
    content = os.urandom(1 << 20) * 20
    sending = threading.Thread(target=sender.sendall, args=(content,))
    sending.start()
    part = PartialFile(folder, MOMENT, digest=False)
    _splice_all(part, ours, len(content))
    sending.join()
    stored = commit_one(folder, part, [])
    assert (tmp_path / stored.name).read_bytes() == content
    assert files.calls["start_write_back"] > 0


def test_splice_at_most(folder: Folder, sockets: Sockets) -> None:
    """No more bytes are read than asked for: the rest stays in the socket."""
    sender, ours = sockets
    sender.sendall(b"0123456789")
    part = PartialFile(folder, MOMENT, digest=False)
    select.select([ours], [], [], 10)
    assert part.splice_from(ours.fileno(), 4) == SpliceResult(4)
    assert ours.recv(100) == b"456789"
    part.discard()


def test_splice_from_dry(folder: Folder, sockets: Sockets) -> None:
    """A socket with nothing to read, or at its end, is dry."""
    sender, ours = sockets
    part = PartialFile(folder, MOMENT, digest=False)
    assert part.splice_from(ours.fileno(), 100) == SpliceResult(0, dry=True)
    sender.sendall(b"last")
    sender.shutdown(socket.SHUT_WR)
    _splice_all(part, ours, 4)
    select.select([ours], [], [], 10)
    assert part.splice_from(ours.fileno(), 100) == SpliceResult(0, dry=True)
    assert ours.recv(1) == b"", "the end is left for the transport to read"
    part.discard()


def test_splice_from_reset(folder: Folder, sockets: Sockets) -> None:
    """A socket that has been reset is lost."""
    sender, ours = sockets
    part = PartialFile(folder, MOMENT, digest=False)
    reset(sender)
    select.select([ours], [], [], 10)
    assert part.splice_from(ours.fileno(), 100).lost
    part.discard()


def test_short_splices(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: Sockets,
) -> None:
    """If the file takes less at a time than the socket gives, it gets all of it in the end."""
    sender, ours = sockets
    splice = files.splice
    files.splice = lambda pipe, descriptor, length: splice(  # type: ignore[method-assign]
        pipe, descriptor, min(length, 3)
    )
    sender.sendall(b"0123456789")
    part = PartialFile(folder, MOMENT, digest=False)
    _splice_all(part, ours, 10)
    stored = commit_one(folder, part, [])
    assert contents(tmp_path) == {stored.name: b"0123456789"}


def test_without_splicing(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: Sockets,
) -> None:
    """If the file system cannot splice, the bytes are read and written."""
    sender, ours = sockets
    files.fail("splice", errno.EINVAL, times=1000)
    content = os.urandom(300_000)
    part = PartialFile(folder, MOMENT, digest=False)
    sending = threading.Thread(target=sender.sendall, args=(content,))
    sending.start()
    _splice_all(part, ours, len(content))
    sending.join()
    stored = commit_one(folder, part, [])
    assert (tmp_path / stored.name).read_bytes() == content
    assert stored.size == len(content)


@pytest.mark.parametrize(
    "error", [*ERRORS, 0], ids=lambda error: errno.errorcode.get(error, "none")
)
def test_splice_fails(
    folder: Folder,
    files: OrderedFiles,
    tmp_path: Path,
    sockets: Sockets,
    error: int,
) -> None:
    """A disk that fails while splicing fails that upload, and no other."""
    sender, ours = sockets
    sender.sendall(b"of the first")
    part = PartialFile(folder, MOMENT, digest=False)
    if error:
        files.fail("splice", error)
    else:
        files.splice = lambda pipe, descriptor, length: 0  # type: ignore[method-assign]
    select.select([ours], [], [], 10)
    with pytest.raises(OSError, match=os.strerror(error) if error else "no more bytes"):
        part.splice_from(ours.fileno(), 100)
    part.discard()
    assert leftovers(tmp_path) == []
    vars(files).pop("splice", None)
    sender.sendall(b"of the second")
    part = PartialFile(folder, MOMENT, digest=False)
    _splice_all(part, ours, 13)
    commit_one(folder, part, [])
    assert contents(tmp_path) == {NAME: b"of the second"}
