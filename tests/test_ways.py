"""
The ways in which an upload comes to a door (`tests.ways`), and what does not depend on
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

from tests.helpers import OpenDoor, in_thread, open_door, read_all, reset, turns, until
from tests.markers import lines, waiting
from tests.stores import MILLISECONDS, Rig, ThreadedRig
from tests.ways import Way, close, half_close, half_close_and_reset
from twisted_upload.answers import read_answer
from twisted_upload.eager import EagerServer
from twisted_upload.errors import UploadRefused
from twisted_upload.files import Space
from twisted_upload.hook_queue import HOOKS, WAITING
from twisted_upload.markers import Marker
from twisted_upload.names import told_suffix
from twisted_upload.ports import accept_the_rest, keep_urgent_bytes
from twisted_upload.raw import UploadProtocol
from twisted_upload.settings import DoorSettings
from twisted_upload.space import Reserve
from twisted_upload.tally import ProgramCounts
from twisted_upload.testing import FaultyFiles

KEPT = "上传成功".encode()


# -- the ways -----------------------------------------------------------------


async def test_whole_at_accept() -> None:
    """Of one that is whole when it is accepted all bytes are there then, and the end."""
    async with open_door() as door:
        door.port.stopReading()
        peer = await Way.WHOLE.come(door, b"con", b"tent")
        ours, _ = door.port.socket.accept()
        with ours:
            assert ours.recv(100) == b"content"
            assert ours.recv(100) == b""
        peer.close()


@pytest.mark.parametrize(
    ("way", "heard"),
    [
        (Way.BEGUN, ["con", "tent", "the end"]),
        (Way.PIECES, ["con", "tent", "the end"]),
        (Way.LATER, ["content", "the end"]),
    ],
)
async def test_others(way: Way, heard: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the others no more is there than is said of them."""
    told: list[str] = []

    class Ear(UploadProtocol):
        def dataReceived(self, data: bytes) -> None:
            told.append(data.decode())
            super().dataReceived(data)

        def readConnectionLost(self) -> None:
            told.append("the end")
            super().readConnectionLost()

    monkeypatch.setattr("twisted_upload.raw.UploadProtocol", Ear)
    async with open_door() as door:
        assert await way.send(door, b"con", b"tent") == KEPT
        assert told == heard


# -- to a disk ----------------------------------------------------------------

NAME = f"{MILLISECONDS}.bin"


@contextlib.asynccontextmanager
async def _on_disk(
    tmp_path: Path, chosen: DoorSettings | None = None, **more: Any
) -> AsyncIterator[tuple[OpenDoor, Rig]]:
    """A door whose store has a disk that works when the test says so."""
    rig = Rig(tmp_path / "inbox", **more)
    async with open_door(chosen, store=rig.store) as door:
        yield door, rig
        assert door.factory.gate.admission.places.taken == 0
    rig.disk.work()
    assert (rig.store.held, rig.unfinished) == (0, [])
    rig.close()


async def _hear(rig: Rig, peer: socket.socket) -> bytes:
    """What a sender hears while the disk works."""
    hearing = in_thread(read_all, peer)
    while not hearing.called:
        rig.disk.work()
        await turns(1)
    return await hearing


def _code(answer: bytes) -> str:
    refused = read_answer(answer)
    assert isinstance(refused, UploadRefused), answer
    return refused.code


@pytest.mark.parametrize("size", [1, 4096, 100_000])
async def test_file(way: Way, tmp_path: Path, size: int) -> None:
    """Until the disk has done its work nothing is said or visible; then there is the file."""
    content = os.urandom(size)
    async with _on_disk(tmp_path) as (door, rig):
        peer = await way.come(door, content)
        await until(lambda: door.factory.uploads_in_flight and rig.disk.waiting)
        await turns()
        assert select.select([peer], [], [], 0)[0] == []
        assert rig.kept == {}
        assert await _hear(rig, peer) == KEPT
        assert rig.kept == {NAME: content}
        assert stat.S_IMODE((rig.folder / NAME).stat().st_mode) == 0o640
        await door.is_quiet()


async def test_names(way: Way, tmp_path: Path) -> None:
    """Files of the same millisecond have names of their own, in the order in which they came."""
    async with _on_disk(tmp_path) as (door, rig):
        for content in b"first", b"second", b"third":
            assert await _hear(rig, await way.come(door, content)) == KEPT
        assert rig.kept == {
            NAME: b"first",
            NAME.replace(".", "-1."): b"second",
            NAME.replace(".", "-2."): b"third",
        }
        await door.is_quiet()


async def test_suffix(way: Way, tmp_path: Path) -> None:
    """What a file is is told from its first bytes, however few of them come at first."""
    async with _on_disk(tmp_path, suffix=told_suffix) as (door, rig):
        peer = await way.come(door, b"\x89P", b"NG\r\n\x1a\n" + bytes(50))
        assert await _hear(rig, peer) == KEPT
        assert [*rig.kept] == [f"{MILLISECONDS}.png"]
        await door.is_quiet()


@pytest.mark.parametrize("call", ["create", "write", "chmod", "fsync", "rename"])
async def test_failing_disk(way: Way, tmp_path: Path, call: str) -> None:
    """A disk that fails in any step of a small upload is heard; the next one is kept."""
    async with _on_disk(tmp_path, mode=0o666) as (door, rig):
        # Pieces are written together.
        for one in {call, "writev" if call == "write" else call}:
            rig.files.fail(one, errno.ENOSPC)
        assert _code(await _hear(rig, await way.come(door, b"content"))) == "no-space"
        assert rig.files.calls[call] + (call == "write" and rig.files.calls["writev"]) == 1
        rig.files.heal()
        assert rig.kept == {}
        assert rig.unfinished == []
        assert await _hear(rig, await way.come(door, b"content")) == KEPT
        assert [event.get("code") for event in door.log.ends] == ["no-space", None]
        await door.is_quiet()


async def test_unhealthy(way: Way, tmp_path: Path) -> None:
    """After a failure of the disk all are refused, and nothing is asked of it, until it works."""
    async with _on_disk(tmp_path) as (door, rig):
        rig.files.fail("fsync", errno.EIO)
        assert _code(await _hear(rig, await way.come(door, b"content"))) == "store-error"
        await door.is_quiet()
        assert _code(await way.send(door, b"content")) == "store-error"
        assert rig.disk.waiting == 0
        assert [event["code"] for event in door.log.ends] == ["store-error"] * 2
        rig.clock.advance(3600)
        rig.disk.work()
        assert await _hear(rig, await way.come(door, b"content")) == KEPT
        await door.is_quiet()


async def test_below_the_reserve(way: Way, tmp_path: Path) -> None:
    """Where too little space is free, nothing is begun."""

    class Nearly(FaultyFiles):
        def free(self, directory: int) -> Space:
            return Space(9, 100)

    reserve = Reserve(percent=10)
    async with _on_disk(tmp_path, files=Nearly(), reserve=reserve) as (door, rig):
        assert _code(await way.send(door, b"content")) == "no-space"
        rig.disk.work()
        assert not rig.files.calls.keys() & {"create", "write", "writev"}
        assert door.log.kinds == ["refused"]
        await door.is_quiet()


async def test_all_memory_is_taken(way: Way, tmp_path: Path) -> None:
    """One that comes while the others hold all memory goes to the disk at once, and is kept."""
    content = os.urandom(100_000)
    async with _on_disk(tmp_path, most_held=100) as (door, rig):
        peers = []
        for _ in range(3):
            coming = ensureDeferred(way.come(door, content))
            while not coming.called:  # where it has to wait for the disk
                await turns(1)
                if way is not Way.WHOLE:
                    rig.disk.work()
            peers.append(await coming)
        for peer in peers:
            assert await _hear(rig, peer) == KEPT
        assert [*rig.kept.values()] == [content] * 3
        await door.is_quiet()


@pytest.mark.parametrize("size", [7, 100_000])
async def test_given_up(way: Way, tmp_path: Path, size: int) -> None:
    """What is refused at the end of the daemon while it waits for the disk is not written."""
    async with _on_disk(tmp_path) as (door, rig):
        peer = await way.come(door, bytes(size))
        await until(lambda: rig.disk.waiting)
        drained = door.factory.drain()
        assert not drained.called
        door.factory.refuse_the_rest()
        assert drained.called
        assert _code(await in_thread(read_all, peer)) == "shutting-down"
        rig.disk.work()
        assert rig.kept == {}
        assert not rig.files.calls.keys() & {"create", "write", "writev", "fsync", "rename"}
        await door.is_quiet()


async def test_gone_while_it_waits_for_the_disk(way: Way, tmp_path: Path) -> None:
    """A sender that goes meanwhile forfeits the answer, and keeps its place until the end."""
    async with _on_disk(tmp_path) as (door, rig):
        peer = await way.come(door, b"content")
        await until(lambda: rig.disk.waiting)
        reset(peer)
        await turns()
        assert door.factory.uploads_in_flight == 1
        assert door.factory.gate.admission.places.taken == 1
        rig.disk.work()
        await until(lambda: door.log.ends)
        await door.is_quiet()
        assert rig.kept == {NAME: b"content"}
        assert door.log.kinds == ["kept"]
        assert door.log.loud() == []


# -- what follows -------------------------------------------------------------


class _Hooks:
    """
    Starts no programs.

    :ivar told: for which markers it should have.
    """

    counts = ProgramCounts()

    def __init__(self) -> None:
        self.told: list[Marker] = []
        self.peer: socket.socket | None = None
        self.heard = b""

    def check(self) -> None:
        """Fine."""

    def start(self, queue: object) -> None:
        """It does not."""

    def kept(self, marker: Marker) -> None:
        self.told.append(marker)
        self.heard = _heard_so_far(self.peer)

    def stop(self, seconds: float) -> Deferred[None]:
        return succeed(None)


def _heard_so_far(peer: socket.socket | None) -> bytes:
    assert peer is not None
    return peer.recv(100) if select.select([peer], [], [], 0)[0] else b""


async def test_marker(way: Way, tmp_path: Path) -> None:
    """Of a kept file there is a marker with all that is known; its program is told after the
    sender."""
    hooks = _Hooks()
    async with _on_disk(tmp_path, hooks=hooks) as (door, rig):
        door.factory.name = "front"
        hooks.peer = peer = await way.come(door, b"content")
        await until(lambda: rig.disk.waiting)
        rig.disk.work()
        await until(lambda: hooks.told)
        assert hooks.heard == KEPT
        (name,) = waiting(rig.folder)
        said = lines(rig.folder / HOOKS / WAITING / name)[0]
        host, port = peer.getsockname()
        assert (said["listener"], said["peer"]) == ("front", f"{host}:{port}")
        assert said["arrived"] == MILLISECONDS / 1000
        assert rig.kept == {NAME: b"content"}
        await door.is_quiet()


@pytest.mark.parametrize("end", ["kept", "refused"])
async def test_told_after_the_answer(way: Way, end: str) -> None:
    """Whoever is told of an end can be sure that the sender has been."""
    heard: list[bytes] = []
    async with open_door() as door:
        door.store.holding = True
        peer = await way.come(door, b"content")
        await until(lambda: door.store._held)
        door.factory.witnesses = (lambda _: heard.append(_heard_so_far(peer)),)
        if end == "kept":
            door.store.release()
            assert heard == [KEPT]
        else:
            door.factory.refuse_the_rest()
            assert [*map(_code, heard)] == ["shutting-down"]


# -- the socket ---------------------------------------------------------------


async def test_urgent_bytes(way: Way) -> None:
    """Urgent bytes are bytes of the file, in their place."""

    def end(peer: socket.socket) -> None:
        peer.send(b"!", socket.MSG_OOB)
        peer.sendall(b" and more")
        peer.send(b"?", socket.MSG_OOB)
        peer.shutdown(socket.SHUT_WR)

    async with open_door() as door:
        keep_urgent_bytes(door.port)
        peer = await way.come(door, b"content", end=end)
        assert await in_thread(read_all, peer) == KEPT
        assert door.kept == [b"content! and more?"]


@pytest.mark.parametrize("end", [close, half_close_and_reset, reset])
async def test_dead_at_a_unix_socket(
    way: Way, tmp_path: Path, end: Callable[[socket.socket], None]
) -> None:
    """A sender at a unix socket that has gone at its end is lost, and nothing is kept."""
    async with open_door() as door, door.also_at("unix", tmp_path) as connect:
        await way.come(door, b"content", connect=connect, end=end)
        await until(lambda: door.log.ends)
        await door.is_quiet()
        assert door.kept == []
        assert door.store.unfinished == []
        assert door.log.kinds == ["lost"]
        assert door.factory.gate.admission.places.taken == 0


LONG = "x" * 8_000_000
"""An answer of which a socket takes some at a time."""


async def test_long_answer(way: Way) -> None:
    """What a socket does not take of the answer at once comes later."""
    async with open_door(DoorSettings(answer=LONG)) as door:
        assert await way.send(door, b"content") == LONG.encode()
        await door.is_quiet()
        assert door.factory.gate.admission.places.taken == 0
        assert len(door.factory.terms.lingering) == 0


async def test_long_answer_that_nobody_reads(way: Way) -> None:
    """A sender that does not take it is waited for, so long and no longer; its place is free."""
    async with open_door(DoorSettings(answer=LONG, linger_time=5)) as door:
        peer = await way.come(door, b"content")
        await until(lambda: door.log.ends)
        door.clock.advance(4.9)
        await turns()
        assert door.factory.protocols
        door.clock.advance(0.1)
        await door.is_quiet()
        assert door.factory.gate.admission.places.taken == 0
        with pytest.raises(ConnectionResetError):
            read_all(peer)


async def test_no_transport_for_a_long_answer(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """Where what is left of an answer can have no transport, the connection is closed."""
    expected_errors.append("Cannot allocate memory")

    def broken(_: Any, view: memoryview, ours: socket.socket, *__: Any) -> None:
        ours.close()
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async with open_door(DoorSettings(answer=LONG)) as door:
        with monkeypatch.context() as patch:
            patch.setattr(EagerServer, "__init__", broken)
            await Way.WHOLE.come(door, b"content")
            await until(lambda: door.log.ends)
        await turns()
        left = [*door.factory.protocols]
        door.factory.protocols.clear()
        assert left == []
        assert door.factory.gate.admission.places.taken == 0


@pytest.mark.parametrize("end", [half_close, close])
async def test_many_at_once(end: Callable[[socket.socket], None], tmp_path: Path) -> None:
    """Many that are whole in the same turn of the reactor do not mix, on real disk threads."""
    rig = ThreadedRig(tmp_path / "inbox")
    contents = [b"upload %d " % number * (number + 1) for number in range(100)]
    async with open_door(DoorSettings(max_per_address=0), store=rig.store) as door:
        peers = [await Way.WHOLE.come(door, content, end=end) for content in contents]
        if end is half_close:
            assert [await in_thread(read_all, peer) for peer in peers] == [KEPT] * 100
        await until(lambda: len(door.log.ends) == 100)
        await door.is_quiet()
        assert sorted(rig.kept().values()) == sorted(contents)
        assert door.factory.gate.admission.places.taken == 0
        assert len(door.factory.gate.admission) == 0
    rig.close()


async def test_accepted_at_the_end() -> None:
    """Whoever has connected before a daemon stops is still served; who comes then is not."""
    async with open_door() as door:
        door.port.stopReading()
        early = [await Way.WHOLE.come(door, b"%d" % number) for number in range(20)]
        accept_the_rest(door.port)
        await until(lambda: len(door.kept) == 20)
        assert [read_all(peer) for peer in early] == [KEPT] * 20
        door.factory.drain()
        door.port.startReading()
        assert _code(await Way.WHOLE.send(door, b"late")) == "shutting-down"
        assert len(door.kept) == 20
