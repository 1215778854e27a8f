"""
Exceptions where none should be raised: the upload ends, its connection is closed, its
slot is released, and the next connection is served.
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

from tests.support.daemon import SUCCESS
from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.senders import read_all, reset
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.rejection import LONGEST_STAY, RejectedConnection
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.net.transport import EagerServer
from twisted_upload.stores.memory import MemoryStore

Patch = pytest.MonkeyPatch


def broken(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.fixture(autouse=True)
def _expected(expected_errors: list[str]) -> None:
    expected_errors.append("Cannot allocate memory")


def _incoming(call: str) -> Callable[[Patch, OpenFrontend], None]:
    """Break one method of an incoming upload."""
    kind = type(MemoryStore(lambda: 0).begin(None, broken))  # type: ignore[arg-type]
    return lambda patch, _: patch.setattr(kind, call, broken)


def _in(name: str) -> Callable[[Patch, OpenFrontend], None]:
    return lambda patch, _: patch.setattr(f"twisted_upload.{name}", broken)


def _once(patch: Patch, kind: Any, call: str) -> None:
    """Break it the first time only: closing the connection needs it too."""

    def breaks(*_: Any) -> None:
        patch.undo()
        broken()

    patch.setattr(kind, call, breaks)


def _transport(call: str) -> Callable[[Patch, OpenFrontend], None]:
    return lambda patch, _: _once(patch, EagerServer, call)


# Steps of an upload that is complete when it is accepted, and of one that arrives later.
WHOLE = {
    "the answer": _in("frontends.raw.whole_upload.send_last"),
    "the text": _in("frontends.raw.sender.stored_answer"),
    "to the store": _incoming("write"),
    "committing": _incoming("commit"),
    "taking a slot": _in("frontends.admission.ConnectionSlot.take"),
    "the sender": _in("frontends.raw.factory.WholeUpload"),
}
LATER = {
    "reading": _in("frontends.raw.protocol.read_now"),
    "the end": _in("frontends.raw.protocol.has_half_closed"),
    "the answer": _in("frontends.raw.protocol.answer_and_close"),
    "the text": _in("frontends.raw.sender.stored_answer"),
    "to the store": _incoming("write"),
    "as a producer": _incoming("registerProducer"),
    "committing": _incoming("commit"),
    "stopping to read": _transport("stopReading"),
}


def _until_it_ends(peer: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        read_all(peer)


async def _is_served(frontend: OpenFrontend, slots: ConnectionSlots) -> None:
    """The next upload is served, and nothing is left of those before."""
    await frontend.is_quiet()
    assert slots.taken == 0
    assert frontend.factory.uploads_in_flight == 0
    assert not frontend.factory._unanswered
    assert len(frontend.factory.gate.admission) == 0
    assert await frontend.send(b"the next one") == SUCCESS
    await frontend.is_quiet()


@pytest.mark.parametrize(
    ("way", "what"),
    [*(("whole", what) for what in WHOLE), *(("later", what) for what in LATER)],
)
async def test_an_upload(way: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any step of an upload may fail."""
    slots = ConnectionSlots()
    async with open_frontend(slots=slots) as frontend:
        with monkeypatch.context() as patch:
            peer = frontend.connect()
            if way == "whole":
                WHOLE[what](patch, frontend)
            elif what == "reading":
                LATER[what](patch, frontend)
                peer.sendall(b"con")
            else:
                await until(lambda: frontend.senders)
                LATER[what](patch, frontend)
            if what != "reading":
                peer.sendall(b"content")
                peer.shutdown(socket.SHUT_WR)
            await in_thread(_until_it_ends, peer)
            await frontend.is_quiet()
        if what in ("reading", "taking a slot", "the sender"):
            assert frontend.log.kinds == []
        else:
            stored = what in ("the answer", "the text", "stopping to read")
            assert frontend.log.kinds == ["stored" if stored else ANY]
        await _is_served(frontend, slots)


@pytest.mark.parametrize("call", ["write", "loseWriteConnection", "resumeProducing"])
async def test_a_refusal(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending a refusal may fail."""
    slots = ConnectionSlots()
    async with open_frontend(RawSettings(max_size=20), slots=slots) as frontend:
        with monkeypatch.context() as patch:
            peer = frontend.connect()
            await until(lambda: frontend.senders)
            patch.setattr(frontend.senders[0].transport, call, broken)
            peer.sendall(b"more than is allowed here")
            await until(lambda: frontend.log.ends)
            await frontend.is_quiet()
        assert frontend.log.kinds == ["refused"]
        await _is_served(frontend, slots)


@pytest.mark.parametrize("call", ["pauseProducing", "resumeProducing"])
async def test_pausing(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pausing or resuming the sender may fail."""
    slots = ConnectionSlots()
    async with open_frontend(slots=slots) as frontend:
        with monkeypatch.context() as patch:
            peer = frontend.connect()
            peer.sendall(b"content")
            await frontend.has_received(7)
            (incoming,) = frontend.store.unfinished
            patch.setattr(frontend.senders[0].transport, call, broken)
            producer = incoming.producer
            assert producer is not None
            producer.pauseProducing()
            producer.resumeProducing()
            await frontend.is_quiet()
        assert frontend.log.kinds == ["aborted"]
        await _is_served(frontend, slots)


async def test_an_observer(way: Way) -> None:
    """An observer may break its promise and raise."""
    slots = ConnectionSlots()
    outcomes: list[UploadOutcome] = []
    async with open_frontend(slots=slots) as frontend:
        frontend.factory.observers = (outcomes.append, broken)
        assert await way.send(frontend, b"content") == SUCCESS
        frontend.factory.observers = ()
        assert [it.outcome for it in outcomes] == ["stored"]
        await _is_served(frontend, slots)


@pytest.mark.parametrize("end", ["reset", "refuse"])
async def test_abort(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may fail to abort an upload."""
    slots = ConnectionSlots()
    async with open_frontend(slots=slots) as frontend:
        with monkeypatch.context() as patch:
            _incoming("abort")(patch, frontend)
            peer = frontend.connect()
            peer.sendall(b"content")
            await frontend.has_received(7)
            (incoming,) = frontend.store.unfinished
            if end == "reset":
                reset(peer)
            else:
                frontend.factory.refuse_the_rest()
                peer.shutdown(socket.SHUT_WR)
            await frontend.is_quiet()
        incoming.abort()
        await _is_served(frontend, slots)


@pytest.mark.parametrize("call", ["fell_silent", "idle_for_too_long"])
async def test_a_timer(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure in one sender's timeout does not delay the timeouts of others."""
    slots = ConnectionSlots()
    chosen = RawSettings(finish_after_idle=2 if call == "fell_silent" else 0, idle_timeout=2)
    async with open_frontend(chosen, slots=slots) as frontend:
        peers = [frontend.connect() for _ in range(2)]
        for peer in peers:
            peer.sendall(b"content")
        await frontend.has_received(14)
        with monkeypatch.context() as patch:
            lost = frontend.senders[0]._upload.lost
            breaking = SimpleNamespace(fell_silent=broken, refused=broken, lost=lost)
            patch.setattr(frontend.senders[0], "_upload", breaking)
            frontend.clock.advance(2)
        await until(lambda: len(frontend.log.ends) == 2)
        for peer in peers:
            peer.close()
        await _is_served(frontend, slots)


async def test_a_rejected_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while a rejected connection is being closed does not keep it open."""
    slots = ConnectionSlots(1)
    async with open_frontend(slots=slots) as frontend:
        frontend.connect()
        await until(lambda: frontend.senders)
        peer = frontend.connect()
        await until(lambda: len(frontend.factory.protocols) == 2)
        (away,) = [it for it in frontend.factory.protocols if isinstance(it, RejectedConnection)]
        with monkeypatch.context() as patch:
            _once(patch, away.transport, "stopReading")
            frontend.clock.advance(LONGEST_STAY)
        assert len(frontend.factory.protocols) == 1
        assert b"busy" in await in_thread(read_all, peer)


# -- a store that has stalled -------------------------------------------------


async def _is_refused(frontend: OpenFrontend, peer: socket.socket) -> None:
    for _ in range(int(STORE_PATIENCE / 5) + 1):
        assert not frontend.log.ends
        frontend.clock.advance(5)
    await turns()
    frontend.clock.advance(5)
    assert b"store-error" in await in_thread(read_all, peer)
    peer.close()
    await frontend.is_quiet()
    assert [it.get("code") for it in frontend.log.ends] == ["store-error"]


@pytest.mark.parametrize("state", ["paused", "storing", "ended by idle timeout"])
async def test_a_stalled_store(state: str) -> None:
    """An upload does not wait for a stalled store for ever."""
    slots = ConnectionSlots()
    chosen = RawSettings(finish_after_idle=5 if state == "ended by idle timeout" else 0, min_rate=0)
    async with open_frontend(chosen, slots=slots) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        if state == "paused":
            (incoming,) = frontend.store.unfinished
            assert incoming.producer is not None
            incoming.producer.pauseProducing()
        elif state == "storing":
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: frontend.senders[0]._half_closed)
        else:
            frontend.clock.advance(5)
        await _is_refused(frontend, peer)
        assert slots.taken == 0


async def test_a_store_that_never_commits(way: Way) -> None:
    """A complete upload does not wait for a stalled store for ever, however it arrived."""
    slots = ConnectionSlots()
    async with open_frontend(slots=slots) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        await _is_refused(frontend, peer)
        assert slots.taken == 0


async def test_a_stalled_store_and_no_sender(way: Way) -> None:
    """An upload whose sender has disconnected does not wait for ever either."""
    slots = ConnectionSlots()
    async with open_frontend(slots=slots) as frontend:
        frontend.store.holding = True
        await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        assert (slots.taken, frontend.log.ends) == (1, [])
        for _ in range(int(STORE_PATIENCE / 5) + 2):
            frontend.clock.advance(5)
        assert slots.taken == 0
        assert [it.get("code") for it in frontend.log.ends] == ["store-error"]
        assert not frontend.clock.getDelayedCalls()


# -- what a peer does not read ------------------------------------------------


@pytest.mark.parametrize("end", ["stored", "refused"])
async def test_an_answer_that_is_never_read(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An answer is bounded in time and memory, whatever the peer does.  In this test, the
    peer's kernel accepts nothing at all.
    """
    async with open_frontend(RawSettings(max_size=7)) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.senders)
        (sender,) = frontend.senders
        monkeypatch.setattr(sender.transport, "writeSomeData", lambda data: 0)
        monkeypatch.setattr("twisted_upload.frontends.raw.protocol.answer_and_close", _slowly)
        peer.sendall(b"content" if end == "stored" else b"contents")
        if end == "stored":
            peer.shutdown(socket.SHUT_WR)
        await until(lambda: frontend.log.kinds == [end])
        waiting = sender.transport
        assert 0 < waiting._tempDataLen + len(waiting.dataBuffer) < 4096
        frontend.clock.advance(4.9)
        await turns()
        assert frontend.factory.protocols
        frontend.clock.advance(0.1)
        await frontend.is_quiet()


def _slowly(transport: Any, answer: bytes) -> None:
    transport.write(answer)
    transport.loseConnection()
