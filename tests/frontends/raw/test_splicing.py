"""
Large uploads whose socket the store takes from: that it comes back, whatever the
sender does, and whatever goes wrong.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.daemon import SUCCESS, Daemon, connect, finish, until
from tests.support.helpers import (
    PATIENCE,
    OpenFrontend,
    in_thread,
    open_descriptors,
    open_frontend,
    read_all,
    reset,
    turns,
)
from tests.support.helpers import until as until_here
from tests.support.stores import (
    ARRIVAL,
    MILLISECONDS,
    Rig,
    ThreadedRig,
    contents,
    leftovers,
    open_store,
)
from tests.system.test_shortage import processor_time
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.splice import FROM, WAKE_FOR, SocketSplice
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.incoming import MOST_HELD
from twisted_upload.stores.directory.partial_file import LITTLE, PartialFile
from twisted_upload.testing import RecordingProducer

LARGE = os.urandom(1 << 20) * 4


class Counted(FaultyFiles):
    """
    System calls that are made only so often, so that a loop without an end ends.

    :ivar most: bytes that a socket gives at a time.
    """

    most = 1 << 30

    def receive(self, socket: int, pipe: int, length: int) -> int:
        assert self.calls["receive"] < 100, "it is asked for again and again"
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


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A sender, and our end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    with sender, ours:
        yield sender, ours


Sockets = tuple[socket.socket, socket.socket]


def _wait_for(ours: socket.socket, size: int) -> None:
    """Until so much has come."""
    until(lambda: len(ours.recv(size, socket.MSG_PEEK)) >= size, "bytes")


class _RecordedMarker:
    """
    :ivar withdrawn: which files had a name when it was withdrawn.
    """

    def __init__(self, path: Path) -> None:
        self.withdrawn: list[list[str]] = []
        self._path = path

    def withdraw(self) -> None:
        self.withdrawn.append([*contents(self._path), *leftovers(self._path)])

    def close(self) -> None:
        """It has nothing open."""


# -- a thread is for those who send -------------------------------------------


def test_urgent_mark(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """
    Behind an urgent mark there are bytes that cannot be taken: the socket is given
    back, and whoever reads it gets them.
    """
    sender, ours = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_FOR)
    sender.sendall(b"before")
    sender.send(b"!", socket.MSG_OOB)
    _wait_for(ours, 6)
    sender.sendall(bytes(WAKE_FOR + 100_000))
    until(lambda: files.has_more(ours.fileno(), 0), "much behind it")
    assert part.take(ours.fileno(), 1 << 24) == SpliceResult(6, dry=True)
    assert ours.recv(3) == b"!\0\0"
    assert part.take(ours.fileno(), 1 << 24).size > 0


def test_bit_by_bit(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """What comes bit by bit is not taken bit by bit: more is waited for, for a moment."""
    sender, ours = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_FOR)
    sender.sendall(bytes(100))
    _wait_for(ours, 100)
    files.most = 1
    assert part.take(ours.fileno(), 1 << 24) == SpliceResult(1, dry=True)


def test_much_at_a_time(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """What comes in large pieces is taken without waiting in between."""
    sender, ours = sockets
    sender.sendall(bytes(10 * LITTLE))
    _wait_for(ours, 10 * LITTLE)
    files.most = LITTLE
    files.fail("has_more", errno.EIO)
    assert part.take(ours.fileno(), 10 * LITTLE) == SpliceResult(10 * LITTLE)


def test_time_is_limited(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """A thread has a socket for so long, however much comes."""
    sender, ours = sockets
    sender.sendall(bytes(10 * LITTLE))
    _wait_for(ours, 10 * LITTLE)
    files.most = LITTLE
    assert part.take(ours.fileno(), 1 << 24, seconds=0) == SpliceResult(LITTLE)


def test_given_up(part: PartialFile, sockets: Sockets, files: Counted) -> None:
    """What nobody wants any more is not taken any further."""
    sender, ours = sockets
    sender.sendall(bytes(10 * LITTLE))
    _wait_for(ours, 10 * LITTLE)
    files.most = LITTLE
    assert part.take(ours.fileno(), 1 << 24, given_up=lambda: True) == SpliceResult(LITTLE)


def test_no_descriptors_for_a_pipe(
    part: PartialFile, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no descriptors for a pipe, the bytes are left to go the ordinary way."""
    sender, ours = sockets
    sender.sendall(bytes(100))
    _wait_for(ours, 100)
    with monkeypatch.context() as patch:
        patch.setattr("twisted_upload.disk.files.os.pipe2", _no_descriptors)
        assert part.take(ours.fileno(), 100) == SpliceResult(0, dry=True)
    assert part.take(ours.fileno(), 100).size == 100


def _no_descriptors(_: int) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_short_writes_where_it_cannot_be_spliced(tmp_path: Path, sockets: Sockets) -> None:
    """A file system that cannot splice, and takes some bytes at a time, gets all of them."""

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
    part.take(ours.fileno(), 1000)
    part.finish([])
    part.publish()
    assert contents(tmp_path) == {f"{MILLISECONDS}.bin": LARGE[:1000]}


@pytest.mark.parametrize("published", [False, True])
def test_a_marker_goes_last(tmp_path: Path, files: Counted, published: bool) -> None:
    """While a file has a name, its marker is there: also while it is being discarded."""
    marker = _RecordedMarker(tmp_path)
    folder = open_folder(str(tmp_path), files=files, suffix=lambda _: ".bin")
    part = PartialFile(folder, (MILLISECONDS, 0), digest=False, marker=marker)  # type: ignore[arg-type]
    part.finish([b"content"])
    if published:
        part.publish()
    part.discard()
    assert marker.withdrawn == [[]]


# -- an incoming upload that has a socket -------------------------------------


@pytest.mark.parametrize("jobs", [0, 1])
def test_aborted_while_it_has_a_socket(tmp_path: Path, sockets: Sockets, jobs: int) -> None:
    """An upload that is aborted while its socket is lent, or is about to be, leaves nothing."""
    disk = ManualDisk()
    store = open_store(tmp_path, disk)
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
    assert open_descriptors(tmp_path / ".incoming" / "x") == []
    assert [it.size for it in taken] == [0]
    assert len(ours.recv(2000)) == 1000, "nobody wants it: it is left in the socket"
    store.close()


def test_pauses_again_after_it_had_a_socket(tmp_path: Path, sockets: Sockets) -> None:
    """A sender that outran the disk before its socket was lent is paused again after that."""
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


# -- a socket that comes back -------------------------------------------------


class _Taker:
    """A store that gives it back when the test says so."""

    def __init__(self) -> None:
        self.taking: Deferred[SpliceResult] = Deferred()
        self.descriptor = -1

    def splice_from(self, descriptor: int, most: int) -> Any:
        self.descriptor = descriptor
        return self.taking


class _Transport:
    """A transport whose socket can be broken."""

    connected = True

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours
        self.broken = False

    def fileno(self) -> int:
        return self._ours.fileno()

    def getHandle(self) -> Any:
        return self

    def setsockopt(self, *arguments: Any) -> None:
        if self.broken:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        self._ours.setsockopt(*arguments)


class _Lent:
    def __init__(self, ours: socket.socket, *, most: int = 1) -> None:
        self.taker, self.transport = _Taker(), _Transport(ours)
        self.slots = ConnectionSlots(most_lent=most)
        self.done: list[SpliceResult] = []
        self.splice = SocketSplice(self.taker, self.transport, self.slots, self.done.append)  # type: ignore[arg-type]


def test_comes_back(sockets: Sockets) -> None:
    """While a socket is lent its place is taken, and a reader is woken for much only."""
    it = _Lent(sockets[1])
    assert it.splice.lend(FROM, 100)
    assert (it.splice.lent, it.slots.lent) == (True, 1)
    assert sockets[1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == WAKE_FOR
    it.taker.taking.callback(SpliceResult(7, dry=True))
    assert (it.splice.lent, it.slots.lent) == (False, 0)
    assert sockets[1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
    assert it.done == [SpliceResult(7, dry=True)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(it.taker.descriptor)


def test_no_place(sockets: Sockets) -> None:
    """No more sockets are lent at a time than there are places for."""
    it = _Lent(sockets[1], most=0)
    assert not it.splice.is_worth_it(FROM)
    assert not it.splice.lend(FROM, 100)
    assert (it.splice.lent, it.slots.lent, it.taker.descriptor) == (False, 0, -1)


def test_cannot_be_lent(sockets: Sockets) -> None:
    """A socket that cannot be prepared for it is not lent, and nothing of it is left open."""
    it = _Lent(sockets[1])
    before = open_descriptors("socket:")
    it.transport.broken = True
    assert not it.splice.lend(FROM, 100)
    assert (it.splice.lent, it.slots.lent) == (False, 0)
    assert open_descriptors("socket:") == before


@pytest.mark.parametrize("what", ["close", "setsockopt", "take_from"])
def test_fails_coming_back(sockets: Sockets, expected_errors: list[str], what: str) -> None:
    """Whatever fails when a socket comes back, the place is free and the upload hears of it."""
    expected_errors.append("ZeroDivisionError")
    it = _Lent(sockets[1])
    assert it.splice.lend(FROM, 100)
    if what == "close":
        os.close(it.taker.descriptor)
    it.transport.broken = what == "setsockopt"
    if what == "take_from":
        it.taker.taking.errback(ZeroDivisionError())
    else:
        it.taker.taking.callback(SpliceResult(7))
    assert it.slots.lent == 0
    assert [taken.lost for taken in it.done] == [what != "close"]


@pytest.mark.parametrize(("brought", "again"), [(WAKE_FOR - 1, False), (WAKE_FOR, True)])
def test_worth_it_again(sockets: Sockets, brought: int, again: bool) -> None:
    """A socket whose lending has brought little is lent again when as much has come as before."""
    it = _Lent(sockets[1])
    assert it.splice.is_worth_it(FROM)
    it.splice.lend(FROM, 1 << 24)
    it.taker.taking.callback(SpliceResult(brought, dry=True))
    assert it.splice.is_worth_it(FROM + brought) is again
    assert it.splice.is_worth_it(2 * FROM + brought)


# -- with a door --------------------------------------------------------------


def _large(peer: socket.socket, content: bytes = LARGE) -> bytes:
    peer.sendall(content)
    peer.shutdown(socket.SHUT_WR)
    return read_all(peer)


async def _is_lent(frontend: OpenFrontend, rig: Rig) -> None:
    def lent() -> bool:
        if any(sender._lent for sender in frontend.senders):
            return True
        rig.disk.work(1)
        return False

    await until_here(lent)


async def test_no_place_at_the_door(tmp_path: Path) -> None:
    """Where no more sockets may be lent, a large upload goes the ordinary way."""
    rig = ThreadedRig(tmp_path / "inbox", files=FaultyFiles())
    async with open_frontend(store=rig.store, slots=ConnectionSlots(most_lent=0)) as frontend:
        assert await in_thread(_large, frontend.connect()) == SUCCESS
        assert rig.store._files.calls["receive"] == 0  # type: ignore[attr-defined]
    assert [*rig.kept().values()] == [LARGE]
    rig.close()


@pytest.mark.parametrize("missing", ["place", "descriptor"])
async def test_a_sender_waits_where_nothing_can_be_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A large upload that cannot lend its socket holds no more than the store lets it."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots(most_lent=missing != "place")
    if missing == "descriptor":
        monkeypatch.setattr("twisted_upload.frontends.raw.splice.os.dup", _no_descriptors)
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        peer = frontend.connect()
        peer.setblocking(False)

        def more() -> None:
            with contextlib.suppress(BlockingIOError):
                peer.send(LARGE)

        def full() -> bool:
            more()
            return rig.store.held >= MOST_HELD

        await until_here(full)
        for _ in range(50):
            more()
            await turns(1)
        (sender,) = frontend.senders
        assert rig.store.held <= MOST_HELD + sender.transport.bufferSize
        reset(peer)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
    rig.close()


async def test_is_not_stopped_for_each_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no place, a large upload is read on without stopping for each piece."""
    rig = ThreadedRig(tmp_path / "inbox")
    async with open_frontend(store=rig.store, slots=ConnectionSlots(most_lent=0)) as frontend:
        tried: list[int] = []
        monkeypatch.setattr(SocketSplice, "lend", lambda self, size, most: tried.append(size))
        assert await in_thread(_large, frontend.connect()) == SUCCESS
        assert tried == []
    rig.close()


async def test_gone_while_lent_gives_the_place_back(tmp_path: Path) -> None:
    """A sender that goes while its socket is lent gives back the place for that too."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        peer = frontend.connect()
        peer.setblocking(False)
        peer.send(LARGE)
        await _is_lent(frontend, rig)
        assert slots.lent == 1
        reset(peer)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        rig.disk.work()
        assert (slots.lent, slots.taken) == (0, 0)
        assert rig.unfinished == []
    rig.close()


async def test_goes_on_where_it_cannot_be_lent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload whose socket comes back, and cannot be lent again, is read in the ordinary way."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        peer = frontend.connect()
        peer.setblocking(False)
        sent = peer.send(LARGE)  # large reads: so it is known as a large upload
        peer.settimeout(PATIENCE)
        sending = in_thread(_large, peer, LARGE[sent:])
        monkeypatch.setattr("twisted_upload.frontends.raw.splice.AT_A_TIME", 100_000)
        await _is_lent(frontend, rig)
        slots.most_lent = 0
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert await sending == SUCCESS
        assert [*rig.kept.values()] == [LARGE]
    rig.close()


@pytest.mark.parametrize("what", ["close", "setsockopt", "epoll_ctl"])
async def test_nothing_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_errors: list[str], what: str
) -> None:
    """
    When a call fails by which a lent socket comes back, the upload ends: nothing of it
    is left, no place is taken, and the log has one line.
    """
    expected_errors.append("Cannot allocate memory")
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        sockets = len(open_descriptors("socket:"))
        peer = frontend.connect()
        peer.setblocking(False)
        peer.send(LARGE[: FROM + 500_000])
        await _is_lent(frontend, rig)
        (sender,) = frontend.senders

        def broken(*_: Any) -> None:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        with monkeypatch.context() as patch:
            if what == "close":
                close = os.close

                def fails_once(descriptor: int) -> None:
                    patch.undo()
                    close(descriptor)
                    broken()

                patch.setattr("twisted_upload.frontends.raw.splice.os.close", fails_once)
            elif what == "setsockopt":
                patch.setattr(SocketSplice, "_wake_for", broken)
            else:
                patch.setattr(sender.transport, "resumeProducing", broken)
            rig.disk.work()
            if what == "close":  # Linux has closed it all the same
                peer.shutdown(socket.SHUT_WR)
            while frontend.factory.protocols:
                await turns(1)
                rig.disk.work()
        assert frontend.log.kinds == (["kept"] if what == "close" else ["lost"])
        assert (slots.lent, slots.taken) == (0, 0)
        assert rig.unfinished == []
        peer.close()
        assert len(open_descriptors("socket:")) == sockets
    rig.close()


# -- with the real daemon -----------------------------------------------------


def _with_a_mark(peer: socket.socket) -> None:
    """A large part of an upload with an urgent byte in it, and then nothing more."""
    peer.sendall(bytes(2_000_000))
    peer.send(b"!", socket.MSG_OOB)
    peer.sendall(bytes(700_000))


def test_silent_senders_stop_nobody(tmp_path: Path) -> None:
    """
    Senders with urgent bytes in large uploads, more than there are disk threads, who
    then say nothing, cost no processor time, and keep nobody from uploading.
    """
    with Daemon(tmp_path, "--disk-threads=8") as daemon:
        silent = [daemon.connect() for _ in range(10)]
        try:
            for peer in silent:
                _with_a_mark(peer)
            began = time.monotonic()
            assert daemon.send(b"content") == SUCCESS
            assert time.monotonic() - began < 5
            before, began = processor_time(daemon), time.monotonic()
            time.sleep(0.5)
            assert processor_time(daemon) - before < 0.25 * (time.monotonic() - began)
            assert finish(silent[0]) == SUCCESS
        finally:
            for peer in silent:
                peer.close()


def test_silent_with_a_mark_is_refused(tmp_path: Path) -> None:
    """A sender with an urgent byte in a large upload is silent like any other."""
    with Daemon(tmp_path, "--idle-timeout=1s") as daemon, daemon.connect() as peer:
        _with_a_mark(peer)
        daemon.wait_for_line("refused (timeout)")
        until(lambda: daemon.unfinished() == [], "nothing left")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_urgent_bytes_are_of_the_file(tmp_path: Path, kind: str, size: int) -> None:
    """Every byte until the half-close is the file: urgent ones too, where they were sent."""
    listen = "tcp:0:interface=127.0.0.1" if kind == "tcp" else f"unix:{tmp_path / 'frontend'}"
    with Daemon(tmp_path, f"--listen={listen}") as daemon:
        with connect(*daemon.addresses[0]) as peer:
            sent = b""
            for number in range(5):
                piece = bytes([number]) * size
                peer.sendall(piece)
                try:
                    peer.send(b"!", socket.MSG_OOB)
                except OSError:
                    pytest.skip("this kernel has no urgent bytes on unix sockets")
                sent += piece + b"!"
            peer.sendall(b"end")
            assert finish(peer) == SUCCESS
        assert daemon.only_file() == sent + b"end"


def test_slow_after_it_was_lent(tmp_path: Path) -> None:
    """A large sender that becomes slow is heard with every byte."""
    with Daemon(tmp_path, "--idle-timeout=1s") as daemon, daemon.connect() as peer:
        peer.sendall(bytes(4_000_000))
        for _ in range(8):
            time.sleep(0.25)
            peer.sendall(b"x" * 10)
        assert finish(peer) == SUCCESS
