"""
The directory store splices from sockets: a disk thread is for senders that are sending.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import wait_until
from tests.support.processes import no_descriptors, open_descriptors
from tests.support.senders import Sockets
from tests.support.stores import ARRIVAL, MILLISECONDS, Rig, contents, leftovers, open_store
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.frontends.splice import WAKE_FOR
from twisted_upload.hooks.marker import Marker
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.file_queue import MOST_HELD
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.socket_reader import LITTLE
from twisted_upload.testing import RecordingProducer

LARGE = os.urandom(1 << 20) * 4


class Counted(FaultyFiles):
    """
    System calls that are limited in number, so that an endless loop ends.

    :ivar most: the bytes that a socket gives at a time.
    """

    most = 1 << 30

    def receive(self, socket: int, pipe: int, length: int) -> int:
        assert self.calls["receive"] < 100, "it is read again and again"
        self.calls["receive"] += 1
        return Files.receive(self, socket, pipe, min(length, self.most))


@pytest.fixture
def files() -> Counted:
    return Counted()


@pytest.fixture
def folder(tmp_path: Path, files: Counted) -> Folder:
    return open_folder(str(tmp_path), files=files, suffix=lambda _: ".bin")


@pytest.fixture
def part(folder: Folder) -> Iterator[PartialFile]:
    part = PartialFile(folder, (MILLISECONDS, 0), digest=False)
    yield part
    part.discard()


def _wait_for(ours: socket.socket, size: int) -> None:
    """Wait until this many bytes have arrived."""
    wait_until(lambda: len(ours.recv(size, socket.MSG_PEEK)) >= size, "bytes")


class _RecordingSpool:
    """:ivar withdrawn: the files that had a name when a marker was withdrawn."""

    def __init__(self, path: Path) -> None:
        self.withdrawn: list[list[str]] = []
        self._path = path

    def withdraw(self, marker: Marker) -> None:
        self.withdrawn.append([*contents(self._path), *leftovers(self._path)])

    def finish(self, marker: Marker) -> None:
        """Close nothing."""

    def close(self) -> None:
        """Close nothing."""


# -- a thread is for senders that are sending ---------------------------------


def test_urgent_mark(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """
    Bytes behind an urgent mark cannot be spliced: the socket is returned, and the reader
    gets them.
    """
    sender, ours = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_FOR)
    sender.sendall(b"before")
    sender.send(b"!", socket.MSG_OOB)
    _wait_for(ours, 6)
    sender.sendall(bytes(WAKE_FOR + 100_000))
    wait_until(lambda: files.has_more(ours.fileno(), 0), "much behind it")
    assert part.splice_from(ours.fileno(), 1 << 24) == SpliceResult(6, dry=True)
    assert ours.recv(3) == b"!\0\0"
    assert part.splice_from(ours.fileno(), 1 << 24).size > 0


def test_bit_by_bit(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """Bytes that trickle in are not spliced one by one: the thread waits a moment for more."""
    sender, ours = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_FOR)
    sender.sendall(bytes(100))
    _wait_for(ours, 100)
    files.most = 1
    assert part.splice_from(ours.fileno(), 1 << 24) == SpliceResult(1, dry=True)


def test_much_at_a_time(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """Large pieces are spliced without waiting in between."""
    sender, ours = sockets
    sender.sendall(bytes(10 * LITTLE))
    _wait_for(ours, 10 * LITTLE)
    files.most = LITTLE
    files.fail("has_more", errno.EIO)
    assert part.splice_from(ours.fileno(), 10 * LITTLE) == SpliceResult(10 * LITTLE)


def test_time_is_limited(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """A thread keeps a socket for a limited time, however much arrives."""
    sender, ours = sockets
    sender.sendall(bytes(10 * LITTLE))
    _wait_for(ours, 10 * LITTLE)
    files.most = LITTLE
    assert part.splice_from(ours.fileno(), 1 << 24, seconds=0) == SpliceResult(LITTLE)


def test_given_up(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """Splicing stops when the upload is given up."""
    sender, ours = sockets
    sender.sendall(bytes(10 * LITTLE))
    _wait_for(ours, 10 * LITTLE)
    files.most = LITTLE
    assert part.splice_from(ours.fileno(), 1 << 24, given_up=lambda: True) == SpliceResult(LITTLE)


def test_no_descriptors_for_a_pipe(
    part: PartialFile, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without file descriptors for a pipe, the bytes are left to be read in the ordinary way."""
    sender, ours = sockets
    sender.sendall(bytes(100))
    _wait_for(ours, 100)
    with monkeypatch.context() as patch:
        patch.setattr("twisted_upload.disk.files.os.pipe2", no_descriptors)
        assert part.splice_from(ours.fileno(), 100) == SpliceResult(0, dry=True)
    assert part.splice_from(ours.fileno(), 100).size == 100


def test_short_writes_without_splicing(tmp_path: Path, sockets: Sockets) -> None:
    """A file system that cannot splice, and writes few bytes at a time, gets all of them."""

    class Short(FaultyFiles):
        def splice(self, pipe: int, descriptor: int, length: int) -> int:
            raise OSError(errno.EINVAL, "no")

        def write(self, descriptor: int, data: bytes | memoryview) -> int:
            return super().write(descriptor, bytes(data)[:100])

    folder = open_folder(str(tmp_path), files=Short(), suffix=lambda _: ".bin")
    part = PartialFile(folder, (MILLISECONDS, 0), digest=False)
    sender, ours = sockets
    sender.sendall(LARGE[:1000])
    _wait_for(ours, 1000)
    part.splice_from(ours.fileno(), 1000)
    part.finish([])
    part.publish()
    assert contents(tmp_path) == {f"{MILLISECONDS}.bin": LARGE[:1000]}


@pytest.mark.parametrize("published", [False, True])
def test_a_marker_goes_last(tmp_path: Path, files: Counted, published: bool) -> None:
    """While a file has a name its marker is there, even while it is being discarded."""
    spool: Any = _RecordingSpool(tmp_path)
    folder = open_folder(str(tmp_path), files=files, suffix=lambda _: ".bin")
    marks = [(spool, Marker("one"))]
    part = PartialFile(folder, (MILLISECONDS, 0), digest=False, marks=marks)
    part.finish([b"content"])
    if published:
        part.publish()
    part.discard()
    assert spool.withdrawn == [[]]


# -- an incoming upload that has a socket -------------------------------------


@pytest.mark.parametrize("jobs", [0, 1])
def test_aborted_while_it_has_a_socket(tmp_path: Path, sockets: Sockets, jobs: int) -> None:
    """An upload that is aborted while its socket is lent, or about to be, leaves nothing."""
    disk = ManualDisk()
    store = open_store(tmp_path, disk)
    before = open_descriptors(tmp_path)
    incoming: Any = store.begin(ARRIVAL, lambda _: None)
    sender, ours = sockets
    sender.sendall(b"x" * 1000)
    _wait_for(ours, 1000)
    incoming.write(b"x" * 300_000)
    disk.work(jobs)
    taken: list[SpliceResult] = []
    incoming.splice_from(ours.fileno(), 1 << 20).addCallback(taken.append)
    incoming.abort()
    disk.work()
    assert leftovers(tmp_path) == []
    assert open_descriptors(tmp_path) == before
    assert [it.size for it in taken] == [0]
    assert len(ours.recv(2000)) == 1000, "it is not needed, and stays in the socket"
    store.close()


def test_pauses_again_after_it_had_a_socket(tmp_path: Path, sockets: Sockets) -> None:
    """A sender that outran the disk before its socket was lent is paused again afterwards."""
    rig = Rig(tmp_path / "inbox")
    incoming: Any = rig.store.begin(ARRIVAL, lambda _: None)
    producer = RecordingProducer()
    incoming.registerProducer(producer, True)
    incoming.write(bytes(MOST_HELD))
    assert producer.told == ["pause"]
    incoming.splice_from(sockets[1].fileno(), 1 << 20)
    rig.disk.work()
    incoming.write(bytes(MOST_HELD))
    assert producer.told == ["pause", "pause"]
    incoming.abort()
    rig.close()


def test_last_bytes(
    part: PartialFile, sockets: Sockets, files: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A thread waits for the bytes that are still to be read, not for more: the rest of a body
    that has an end, and no FIN.
    """
    sender, ours = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_FOR)
    sender.sendall(bytes(100))
    _wait_for(ours, 100)
    sent: list[bool] = []

    def has_more(descriptor: int, seconds: float) -> bool:
        sent.append(True)
        sender.sendall(bytes(50))
        _wait_for(ours, 50)
        return Files.has_more(files, descriptor, 10)

    monkeypatch.setattr(files, "has_more", has_more)
    assert part.splice_from(ours.fileno(), 150) == SpliceResult(150)
    assert sent == [True]
