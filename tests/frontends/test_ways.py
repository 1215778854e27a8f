"""
The ways in which an upload may arrive (`tests.support.ways`), and what does not depend on
them: from a store on a disk to the log.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, succeed

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.hook_markers import lines, waiting
from tests.support.senders import STORED, read_all, received_so_far, refusal_code, reset
from tests.support.stores import MILLISECONDS, Rig, ThreadedRig
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way, close, half_close, half_close_and_reset
from twisted_upload.core.names import suffix_of
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.frontends.raw.factory import UploadProtocol
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HOOKS, WAITING
from twisted_upload.net.ports import accept_the_rest, keep_urgent_bytes
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.transport import EagerServer
from twisted_upload.stores.memory_budget import MemoryBudget

# -- the ways -----------------------------------------------------------------


async def test_whole_at_accept() -> None:
    """If an upload is whole at accept, all its bytes and its end are there by then."""
    async with open_frontend() as frontend:
        frontend.port.stopReading()
        peer = await Way.WHOLE.arrive(frontend, b"con", b"tent")
        ours, _ = frontend.port.socket.accept()
        with ours:
            assert ours.recv(100) == b"content"
            assert ours.recv(100) == b""
        peer.close()


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (Way.BEGUN, ["con", "tent", "the end"]),
        (Way.PIECES, ["con", "tent", "the end"]),
        (Way.LATER, ["content", "the end"]),
    ],
)
async def test_others(way: Way, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the other ways, no more has arrived than their description says."""
    received: list[str] = []

    class Recorder(UploadProtocol):
        def dataReceived(self, data: bytes) -> None:
            received.append(data.decode())
            super().dataReceived(data)

        def readConnectionLost(self) -> None:
            received.append("the end")
            super().readConnectionLost()

    monkeypatch.setattr("twisted_upload.frontends.raw.factory.UploadProtocol", Recorder)
    async with open_frontend() as frontend:
        assert await way.send(frontend, b"con", b"tent") == STORED
        assert received == expected


# -- to a disk ----------------------------------------------------------------

NAME = f"{MILLISECONDS}.bin"


@contextlib.asynccontextmanager
async def _on_disk(
    tmp_path: Path, chosen: RawSettings | None = None, **more: Any
) -> AsyncIterator[tuple[OpenFrontend, Rig]]:
    """Open a front end whose store has a disk that works when the test tells it to."""
    rig = Rig(tmp_path / "inbox", **more)
    async with open_frontend(chosen, store=rig.store) as frontend:
        yield frontend, rig
        assert frontend.factory.gate.admission.slots.taken == 0
    rig.disk.work()
    assert (rig.store.memory.held, rig.unfinished) == (0, [])
    rig.close()


async def _answer(rig: Rig, peer: socket.socket) -> bytes:
    """Return the answer to a sender while the disk works."""
    hearing = in_thread(read_all, peer)
    while not hearing.called:
        rig.disk.work()
        await turns(1)
    return await hearing


@pytest.mark.parametrize("size", [1, 4096, 100_000])
async def test_file(way: Way, tmp_path: Path, size: int) -> None:
    """Until the disk is done, nothing is answered or visible; then there is the file."""
    content = os.urandom(size)
    async with _on_disk(tmp_path) as (frontend, rig):
        peer = await way.arrive(frontend, content)
        await until(lambda: frontend.factory.uploads_in_flight and rig.disk.waiting)
        await turns()
        assert select.select([peer], [], [], 0)[0] == []
        assert rig.stored == {}
        assert await _answer(rig, peer) == STORED
        assert rig.stored == {NAME: content}
        assert stat.S_IMODE((rig.folder / NAME).stat().st_mode) == 0o640
        await frontend.is_quiet()


async def test_names(way: Way, tmp_path: Path) -> None:
    """Files of the same millisecond get different names, in the order of their arrival."""
    async with _on_disk(tmp_path) as (frontend, rig):
        for content in b"first", b"second", b"third":
            assert await _answer(rig, await way.arrive(frontend, content)) == STORED
        assert rig.stored == {
            NAME: b"first",
            NAME.replace(".", "-1."): b"second",
            NAME.replace(".", "-2."): b"third",
        }
        await frontend.is_quiet()


async def test_suffix(way: Way, tmp_path: Path) -> None:
    """The suffix comes from the first bytes, however few of them arrive at first."""
    async with _on_disk(tmp_path, suffix=suffix_of) as (frontend, rig):
        peer = await way.arrive(frontend, b"\x89P", b"NG\r\n\x1a\n" + bytes(50))
        assert await _answer(rig, peer) == STORED
        assert [*rig.stored] == [f"{MILLISECONDS}.png"]
        await frontend.is_quiet()


@pytest.mark.parametrize("call", ["create", "write", "chmod", "fsync", "rename"])
async def test_failing_disk(way: Way, tmp_path: Path, call: str) -> None:
    """If any step of a small upload fails on disk, the sender is told; the next file is stored."""
    async with _on_disk(tmp_path, mode=0o666) as (frontend, rig):
        # Pieces are written together.
        for one in {call, "writev" if call == "write" else call}:
            rig.files.fail(one, errno.ENOSPC)
        assert (
            refusal_code(await _answer(rig, await way.arrive(frontend, b"content"))) == "no-space"
        )
        assert rig.files.calls[call] + (call == "write" and rig.files.calls["writev"]) == 1
        rig.files.heal()
        assert rig.stored == {}
        assert rig.unfinished == []
        assert await _answer(rig, await way.arrive(frontend, b"content")) == STORED
        assert [event.get("code") for event in frontend.log.ends] == ["no-space", None]
        await frontend.is_quiet()


async def test_unhealthy(way: Way, tmp_path: Path) -> None:
    """After a disk failure all uploads are refused without a disk call, until the disk works."""
    async with _on_disk(tmp_path) as (frontend, rig):
        rig.files.fail("fsync", errno.EIO)
        assert (
            refusal_code(await _answer(rig, await way.arrive(frontend, b"content")))
            == "store-error"
        )
        await frontend.is_quiet()
        assert refusal_code(await way.send(frontend, b"content")) == "store-error"
        assert rig.disk.waiting == 0
        assert [event["code"] for event in frontend.log.ends] == ["store-error"] * 2
        rig.clock.advance(3600)
        rig.disk.work()
        assert await _answer(rig, await way.arrive(frontend, b"content")) == STORED
        await frontend.is_quiet()


async def test_below_the_reserve(way: Way, tmp_path: Path) -> None:
    """If too little space is free, no upload begins."""

    class Nearly(FaultyFiles):
        def free(self, directory: int) -> Space:
            return Space(9, 100)

    reserve = Reserve(percent=10)
    async with _on_disk(tmp_path, files=Nearly(), reserve=reserve) as (frontend, rig):
        assert refusal_code(await way.send(frontend, b"content")) == "no-space"
        rig.disk.work()
        assert not rig.files.calls.keys() & {"create", "write", "writev"}
        assert frontend.log.kinds == ["refused"]
        await frontend.is_quiet()


async def test_all_memory_is_taken(way: Way, tmp_path: Path) -> None:
    """
    An upload that arrives while the others use all memory goes to disk at once, and is
    stored.
    """
    content = os.urandom(100_000)
    async with _on_disk(tmp_path, memory=MemoryBudget(100)) as (frontend, rig):
        peers = []
        for _ in range(3):
            coming = ensureDeferred(way.arrive(frontend, content))
            while not coming.called:  # for which it has to wait for the disk
                await turns(1)
                if way is not Way.WHOLE:
                    rig.disk.work()
            peers.append(await coming)
        for peer in peers:
            assert await _answer(rig, peer) == STORED
        assert [*rig.stored.values()] == [content] * 3
        await frontend.is_quiet()


@pytest.mark.parametrize("size", [7, 100_000])
async def test_given_up(way: Way, tmp_path: Path, size: int) -> None:
    """An upload that is refused at shutdown while it waits for the disk is not written."""
    async with _on_disk(tmp_path) as (frontend, rig):
        peer = await way.arrive(frontend, bytes(size))
        await until(lambda: rig.disk.waiting)
        drained = frontend.factory.drain()
        assert not drained.called
        frontend.factory.refuse_the_rest()
        assert drained.called
        assert refusal_code(await in_thread(read_all, peer)) == "shutting-down"
        rig.disk.work()
        assert rig.stored == {}
        assert not rig.files.calls.keys() & {"create", "write", "writev", "fsync", "rename"}
        await frontend.is_quiet()


async def test_gone_while_it_waits_for_the_disk(way: Way, tmp_path: Path) -> None:
    """
    A sender that disconnects meanwhile forfeits the answer; its slot stays taken until
    the end.
    """
    async with _on_disk(tmp_path) as (frontend, rig):
        peer = await way.arrive(frontend, b"content")
        await until(lambda: rig.disk.waiting)
        reset(peer)
        await turns()
        assert frontend.factory.uploads_in_flight == 1
        assert frontend.factory.gate.admission.slots.taken == 1
        rig.disk.work()
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert rig.stored == {NAME: b"content"}
        assert frontend.log.kinds == ["stored"]
        assert frontend.log.loud() == []


# -- afterwards ---------------------------------------------------------------


class _Hooks:
    """
    A runner that starts no programs.

    :ivar told: the markers for which it was told to run one.
    """

    def __init__(self) -> None:
        self.told: list[Marker] = []
        self.peer: socket.socket | None = None
        self.heard = b""

    def check(self) -> None:
        """Find nothing wrong."""

    def start(self, queue: object) -> None:
        """Start nothing."""

    def stored(self, spool: object, marker: Marker) -> None:
        self.told.append(marker)
        assert self.peer is not None
        self.heard = received_so_far(self.peer)

    def stop(self, seconds: float) -> Deferred[None]:
        return succeed(None)


async def test_marker(way: Way, tmp_path: Path) -> None:
    """
    A stored file has a marker with everything that is known; its program is started after
    the sender has been answered.
    """
    hooks = _Hooks()
    async with _on_disk(tmp_path, hooks=hooks) as (frontend, rig):
        frontend.factory.name = "front"
        hooks.peer = peer = await way.arrive(frontend, b"content")
        await until(lambda: rig.disk.waiting)
        rig.disk.work()
        await until(lambda: hooks.told)
        assert hooks.heard == STORED
        (name,) = waiting(rig.folder)
        written = lines(rig.folder / HOOKS / WAITING / name)[0]
        host, port = peer.getsockname()
        assert (written["listener"], written["peer"]) == ("front", f"{host}:{port}")
        assert written["arrived"] == MILLISECONDS / 1000
        assert rig.stored == {NAME: b"content"}
        await frontend.is_quiet()


@pytest.mark.parametrize("end", ["stored", "refused"])
async def test_observers_after_the_answer(way: Way, end: str) -> None:
    """An observer of an end can rely on the sender having been answered."""
    heard: list[bytes] = []
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.factory.observers = (lambda _: heard.append(received_so_far(peer)),)
        if end == "stored":
            frontend.store.release()
            assert heard == [STORED]
        else:
            frontend.factory.refuse_the_rest()
            assert [*map(refusal_code, heard)] == ["shutting-down"]


# -- the socket ---------------------------------------------------------------


async def test_urgent_bytes(way: Way) -> None:
    """Urgent bytes are bytes of the file, in their order."""

    def end(peer: socket.socket) -> None:
        peer.send(b"!", socket.MSG_OOB)
        peer.sendall(b" and more")
        peer.send(b"?", socket.MSG_OOB)
        peer.shutdown(socket.SHUT_WR)

    async with open_frontend() as frontend:
        keep_urgent_bytes(frontend.port, Sockets())
        peer = await way.arrive(frontend, b"content", end=end)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"content! and more?"]


@pytest.mark.parametrize("end", [close, half_close_and_reset, reset])
async def test_dead_at_a_unix_socket(
    way: Way, tmp_path: Path, end: Callable[[socket.socket], None]
) -> None:
    """A sender at a Unix socket that is dead at its end is aborted, and nothing is stored."""
    async with open_frontend() as frontend, frontend.also_at("unix", tmp_path) as connect:
        await way.arrive(frontend, b"content", connect=connect, end=end)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["aborted"]
        assert frontend.factory.gate.admission.slots.taken == 0


LONG = "x" * 8_000_000
"""An answer that a socket takes in several pieces."""


async def test_long_answer(way: Way) -> None:
    """The part of an answer that a socket does not take at once is sent later."""
    async with open_frontend(RawSettings(answer=LONG)) as frontend:
        assert await way.send(frontend, b"content") == LONG.encode()
        await frontend.is_quiet()
        assert frontend.factory.gate.admission.slots.taken == 0
        assert len(frontend.factory.active_settings.lingering) == 0


async def test_long_answer_that_is_not_read(way: Way) -> None:
    """A sender that does not read its answer is waited for a limited time; its slot is released."""
    async with open_frontend(RawSettings(answer=LONG, linger_time=5)) as frontend:
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.log.ends)
        frontend.clock.advance(4.9)
        await turns()
        assert frontend.factory.protocols
        frontend.clock.advance(0.1)
        await frontend.is_quiet()
        assert frontend.factory.gate.admission.slots.taken == 0
        with pytest.raises(ConnectionResetError):
            read_all(peer)


async def test_no_transport_for_a_long_answer(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """If no transport can be made for the rest of an answer, the connection is closed."""
    expected_errors.append("Cannot allocate memory")

    def broken(_: Any, view: memoryview, ours: socket.socket, *__: Any) -> None:
        ours.close()
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async with open_frontend(RawSettings(answer=LONG)) as frontend:
        with monkeypatch.context() as patch:
            patch.setattr(EagerServer, "__init__", broken)
            await Way.WHOLE.arrive(frontend, b"content")
            await until(lambda: frontend.log.ends)
        await turns()
        left = [*frontend.factory.protocols]
        frontend.factory.protocols.clear()
        assert left == []
        assert frontend.factory.gate.admission.slots.taken == 0


@pytest.mark.parametrize("end", [half_close, close])
async def test_many_at_once(end: Callable[[socket.socket], None], tmp_path: Path) -> None:
    """
    Many uploads that are whole in the same turn of the reactor do not mix, on real disk
    threads.
    """
    rig = ThreadedRig(tmp_path / "inbox")
    contents = [b"upload %d " % number * (number + 1) for number in range(100)]
    async with open_frontend(RawSettings(max_per_address=0), store=rig.store) as frontend:
        peers = [await Way.WHOLE.arrive(frontend, content, end=end) for content in contents]
        if end is half_close:
            assert [await in_thread(read_all, peer) for peer in peers] == [STORED] * 100
        await until(lambda: len(frontend.log.ends) == 100)
        await frontend.is_quiet()
        assert sorted(rig.stored().values()) == sorted(contents)
        assert frontend.factory.gate.admission.slots.taken == 0
        assert len(frontend.factory.gate.admission) == 0
    rig.close()


async def test_accepted_at_the_end() -> None:
    """A sender that connected before the daemon stops is still served; later ones are not."""
    async with open_frontend() as frontend:
        frontend.port.stopReading()
        early = [await Way.WHOLE.arrive(frontend, b"%d" % number) for number in range(20)]
        accept_the_rest(frontend.port, Sockets())
        await until(lambda: len(frontend.stored) == 20)
        assert [read_all(peer) for peer in early] == [STORED] * 20
        frontend.factory.drain()
        frontend.port.startReading()
        assert refusal_code(await Way.WHOLE.send(frontend, b"late")) == "shutting-down"
        assert len(frontend.stored) == 20
