"""
Whatever raises an exception that it must not: the upload ends, its connection is
closed, its place is free, and the next one is served.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

from tests.daemon import SUCCESS
from tests.helpers import OpenDoor, in_thread, open_door, read_all, reset, turns, until
from tests.ways import Way
from twisted_upload.admission import Places
from twisted_upload.eager import EagerServer
from twisted_upload.ends import UploadEnd
from twisted_upload.memory import MemoryStore
from twisted_upload.sender_base import STORE_PATIENCE
from twisted_upload.settings import DoorSettings
from twisted_upload.turned_away import LONGEST_STAY, TurnedAway

Patch = pytest.MonkeyPatch


def broken(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.fixture(autouse=True)
def _expected(expected_errors: list[str]) -> None:
    expected_errors.append("Cannot allocate memory")


def _incoming(call: str) -> Callable[[Patch, OpenDoor], None]:
    """One call of an incoming upload."""
    kind = type(MemoryStore(lambda: 0).begin(None, broken))  # type: ignore[arg-type]
    return lambda patch, _: patch.setattr(kind, call, broken)


def _in(name: str) -> Callable[[Patch, OpenDoor], None]:
    return lambda patch, _: patch.setattr(f"twisted_upload.{name}", broken)


def _once(patch: Patch, kind: Any, call: str) -> None:
    """The first time, that is; it is needed for closing the connection."""

    def breaks(*_: Any) -> None:
        patch.undo()
        broken()

    patch.setattr(kind, call, breaks)


def _transport(call: str) -> Callable[[Patch, OpenDoor], None]:
    return lambda patch, _: _once(patch, EagerServer, call)


# Of an upload that is whole when it is accepted, and of one that comes later.
WHOLE = {
    "the answer": _in("whole.say"),
    "the text": _in("sender_base.kept_answer"),
    "to the store": _incoming("write"),
    "keeping": _incoming("commit"),
    "letting in": _in("admission.Admission.enter"),
    "the sender": _in("raw.WholeUpload"),
}
LATER = {
    "reading": _in("sender.read_now"),
    "the end": _in("sender.ending"),
    "the answer": _in("sender.say_and_close"),
    "the text": _in("sender_base.kept_answer"),
    "to the store": _incoming("write"),
    "as a producer": _incoming("registerProducer"),
    "keeping": _incoming("commit"),
    "stopping to read": _transport("stopReading"),
}


def _until_it_ends(peer: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        read_all(peer)


async def _is_served(door: OpenDoor, places: Places) -> None:
    """Nothing has been left by those before."""
    await door.is_quiet()
    assert places.taken == 0
    assert door.factory.uploads_in_flight == 0
    assert not door.factory._unheard
    assert len(door.factory.gate.admission) == 0
    assert await door.send(b"the next one") == SUCCESS
    await door.is_quiet()


@pytest.mark.parametrize(
    ("way", "what"),
    [*(("whole", what) for what in WHOLE), *(("later", what) for what in LATER)],
)
async def test_an_upload(way: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure at any step of an upload."""
    places = Places()
    async with open_door(places=places) as door:
        with monkeypatch.context() as patch:
            peer = door.connect()
            if way == "whole":
                WHOLE[what](patch, door)
            elif what == "reading":
                LATER[what](patch, door)
                peer.sendall(b"con")
            else:
                await until(lambda: door.senders)
                LATER[what](patch, door)
            if what != "reading":
                peer.sendall(b"content")
                peer.shutdown(socket.SHUT_WR)
            await in_thread(_until_it_ends, peer)
            await door.is_quiet()
        if what in ("reading", "letting in", "the sender"):
            assert door.log.kinds == []
        else:
            kept = what in ("the answer", "the text", "stopping to read")
            assert door.log.kinds == ["kept" if kept else ANY]
        await _is_served(door, places)


@pytest.mark.parametrize("call", ["write", "loseWriteConnection", "resumeProducing"])
async def test_a_refusal(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while a refusal is told."""
    places = Places()
    async with open_door(DoorSettings(max_size=20), places=places) as door:
        with monkeypatch.context() as patch:
            peer = door.connect()
            await until(lambda: door.senders)
            patch.setattr(door.senders[0].transport, call, broken)
            peer.sendall(b"more than is allowed here")
            await until(lambda: door.log.ends)
            await door.is_quiet()
        assert door.log.kinds == ["refused"]
        await _is_served(door, places)


@pytest.mark.parametrize("call", ["pauseProducing", "resumeProducing"])
async def test_a_pace(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while the store slows the sender down, or lets it go on."""
    places = Places()
    async with open_door(places=places) as door:
        with monkeypatch.context() as patch:
            peer = door.connect()
            peer.sendall(b"content")
            await door.has_come(7)
            (incoming,) = door.store.unfinished
            patch.setattr(door.senders[0].transport, call, broken)
            producer = incoming.producer
            assert producer is not None
            producer.pauseProducing()
            producer.resumeProducing()
            await door.is_quiet()
        assert door.log.kinds == ["lost"]
        await _is_served(door, places)


async def test_a_witness(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness that breaks its promise."""
    places = Places()
    told: list[UploadEnd] = []
    async with open_door(places=places) as door:
        door.factory.witnesses = (told.append, broken)
        assert await way.send(door, b"content") == SUCCESS
        door.factory.witnesses = ()
        assert [it.end for it in told] == ["kept"]
        await _is_served(door, places)


@pytest.mark.parametrize("end", ["reset", "refuse"])
async def test_abort(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot forget an upload."""
    places = Places()
    async with open_door(places=places) as door:
        with monkeypatch.context() as patch:
            _incoming("abort")(patch, door)
            peer = door.connect()
            peer.sendall(b"content")
            await door.has_come(7)
            (incoming,) = door.store.unfinished
            if end == "reset":
                reset(peer)
            else:
                door.factory.refuse_the_rest()
                peer.shutdown(socket.SHUT_WR)
            await door.is_quiet()
        incoming.abort()
        await _is_served(door, places)


@pytest.mark.parametrize("call", ["fell_silent", "idle_for_too_long"])
async def test_a_timer(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while silence ends or refuses an upload keeps no other from its end."""
    places = Places()
    chosen = DoorSettings(finish_after_idle=2 if call == "fell_silent" else 0, idle_timeout=2)
    async with open_door(chosen, places=places) as door:
        peers = [door.connect() for _ in range(2)]
        for peer in peers:
            peer.sendall(b"content")
        await door.has_come(14)
        with monkeypatch.context() as patch:
            lost = door.senders[0]._upload.lost
            breaking = SimpleNamespace(fell_silent=broken, refused=broken, lost=lost)
            patch.setattr(door.senders[0], "_upload", breaking)
            door.clock.advance(2)
        await until(lambda: len(door.log.ends) == 2)
        for peer in peers:
            peer.close()
        await _is_served(door, places)


async def test_who_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was turned away, and is to leave, leaves."""
    places = Places(1)
    async with open_door(places=places) as door:
        door.connect()
        await until(lambda: door.senders)
        peer = door.connect()
        await until(lambda: len(door.factory.protocols) == 2)
        (away,) = [it for it in door.factory.protocols if isinstance(it, TurnedAway)]
        with monkeypatch.context() as patch:
            _once(patch, away.transport, "stopReading")
            door.clock.advance(LONGEST_STAY)
        assert len(door.factory.protocols) == 1
        assert b"busy" in await in_thread(read_all, peer)


# -- a store that does nothing ------------------------------------------------


async def _is_refused(door: OpenDoor, peer: socket.socket) -> None:
    for _ in range(int(STORE_PATIENCE / 5) + 1):
        assert not door.log.ends
        door.clock.advance(5)
    await turns()
    door.clock.advance(5)
    assert b"store-error" in await in_thread(read_all, peer)
    peer.close()
    await door.is_quiet()
    assert [it.get("code") for it in door.log.ends] == ["store-error"]


@pytest.mark.parametrize("state", ["paused", "storing", "ended by silence"])
async def test_a_store_that_does_nothing(state: str) -> None:
    """An upload does not wait for ever for a store that stands still."""
    places = Places()
    chosen = DoorSettings(finish_after_idle=5 if state == "ended by silence" else 0, min_rate=0)
    async with open_door(chosen, places=places) as door:
        door.store.holding = True
        peer = door.connect()
        peer.sendall(b"content")
        await door.has_come(7)
        if state == "paused":
            (incoming,) = door.store.unfinished
            assert incoming.producer is not None
            incoming.producer.pauseProducing()
        elif state == "storing":
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: door.senders[0]._half_closed)
        else:
            door.clock.advance(5)
        await _is_refused(door, peer)
        assert places.taken == 0


async def test_a_store_that_keeps_nothing(way: Way) -> None:
    """The same for one that has come to its end, whichever way."""
    places = Places()
    async with open_door(places=places) as door:
        door.store.holding = True
        peer = await way.come(door, b"content")
        await until(lambda: door.store._held)
        await _is_refused(door, peer)
        assert places.taken == 0


async def test_nobody_waits_any_more(way: Way) -> None:
    """Nor does one whose sender has gone."""
    places = Places()
    async with open_door(places=places) as door:
        door.store.holding = True
        await way.come(door, b"content")
        await until(lambda: door.store._held)
        door.factory.abort_the_rest()
        await door.is_quiet()
        assert (places.taken, door.log.ends) == (1, [])
        for _ in range(int(STORE_PATIENCE / 5) + 2):
            door.clock.advance(5)
        assert places.taken == 0
        assert [it.get("code") for it in door.log.ends] == ["store-error"]
        assert not door.clock.getDelayedCalls()


# -- what a peer does not read ------------------------------------------------


@pytest.mark.parametrize("end", ["kept", "refused"])
async def test_an_answer_that_is_never_taken(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An answer waits for so long, and takes so little memory, whatever a peer does: here it
    is one whose kernel takes nothing at all.
    """
    async with open_door(DoorSettings(max_size=7)) as door:
        peer = door.connect()
        await until(lambda: door.senders)
        (sender,) = door.senders
        monkeypatch.setattr(sender.transport, "writeSomeData", lambda data: 0)
        monkeypatch.setattr("twisted_upload.sender.say_and_close", _slowly)
        peer.sendall(b"content" if end == "kept" else b"contents")
        if end == "kept":
            peer.shutdown(socket.SHUT_WR)
        await until(lambda: door.log.kinds == [end])
        waiting = sender.transport
        assert 0 < waiting._tempDataLen + len(waiting.dataBuffer) < 4096
        door.clock.advance(4.9)
        await turns()
        assert door.factory.protocols
        door.clock.advance(0.1)
        await door.is_quiet()


def _slowly(transport: Any, answer: bytes) -> None:
    transport.write(answer)
    transport.loseConnection()
