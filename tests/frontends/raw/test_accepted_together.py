"""
Senders that have been accepted but not served yet.  Many may be in this state in one turn
of the reactor; every promise applies to them too.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.gate import outcome_of
from tests.support.senders import reset
from tests.support.waiting import turns, until
from tests.support.ways import close, half_close
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.settings import RawSettings


def _accepted(frontend: OpenFrontend, *sent: bytes, end: bool = False) -> list[socket.socket]:
    """
    Return senders that have sent this data and have been accepted in one turn, and
    nothing else.
    """
    peers = []
    for data in sent:
        peers.append(frontend.connect())
        if data:
            peers[-1].sendall(data)
        if end:
            peers[-1].shutdown(socket.SHUT_WR)
    frontend.port.doRead()
    return peers


async def _all_have_left(frontend: OpenFrontend) -> None:
    await frontend.is_quiet()
    assert frontend.factory.gate.admission.slots.taken == 0
    assert len(frontend.factory.gate.admission) == 0


@pytest.mark.parametrize("sent", [b"", b"con"])
async def test_the_rest(sent: bytes) -> None:
    """Data that arrives after the accept is the rest of the file."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, sent)
        peer.sendall(b"content"[len(sent) :])
        peer.shutdown(socket.SHUT_WR)
        assert await outcome_of(peer) == "stored"
        assert frontend.stored == [b"content"]
        await _all_have_left(frontend)


@pytest.mark.parametrize("end", [reset, close, half_close])
@pytest.mark.parametrize("sent", [b"", b"con"])
async def test_the_end(sent: bytes, end: Callable[[socket.socket], None]) -> None:
    """An end that arrives after the accept ends the upload with the bytes received so far."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, sent)
        end(peer)
        await until(lambda: frontend.log.ends or frontend.log.others)
        ended = "aborted" if end is reset else "stored"
        assert frontend.log.kinds == ([ended] if sent else [])
        assert frontend.stored == ([sent] if sent and end is not reset else [])
        assert frontend.store.unfinished == []
        await _all_have_left(frontend)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("settings", "most"), [(RawSettings(), 2), (RawSettings(max_per_address=2), 0)]
)
async def test_slots(settings: RawSettings, most: int, whole: bool) -> None:
    """However many connections arrive in one turn, no more are accepted than there are slots."""
    slots = ConnectionSlots(most)
    async with open_frontend(settings, slots=slots) as frontend:
        frontend.store.holding = True
        peers = _accepted(frontend, *[b"content"] * 5, end=whole)
        await until(lambda: frontend.factory.refusals.total["busy"] == 3)
        await until(lambda: len(frontend.store.unfinished) == 2)
        assert slots.taken == 2
        frontend.store.release()
        if not whole:
            for peer in peers:
                peer.shutdown(socket.SHUT_WR)
        assert sorted([await outcome_of(peer) for peer in peers]) == ["busy"] * 3 + ["stored"] * 2
        await _all_have_left(frontend)


@pytest.mark.parametrize("sent", [b"", b"con"])
async def test_stopping(sent: bytes) -> None:
    """A sender that connects just as the daemon begins to stop is told so."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, sent)
        frontend.factory.drain()
        assert await outcome_of(peer) == "shutting-down"
        assert frontend.stored == []
        peer.shutdown(socket.SHUT_WR)
        await _all_have_left(frontend)


@pytest.mark.parametrize("sent", [b"", b"con"])
async def test_closed_port(sent: bytes) -> None:
    """A sender that was accepted just before the port closed can still upload."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, sent)
        await maybeDeferred(frontend.port.stopListening)
        await turns()
        peer.sendall(b"content"[len(sent) :])
        peer.shutdown(socket.SHUT_WR)
        assert await outcome_of(peer) == "stored"
        assert frontend.stored == [b"content"]
        await _all_have_left(frontend)


@pytest.mark.parametrize("whole", [False, True])
async def test_timeouts(whole: bool) -> None:
    """Timeouts apply only to uploads that may still be incomplete, and to all of those."""
    async with open_frontend(RawSettings(idle_timeout=60)) as frontend:
        frontend.store.holding = True
        (peer,) = _accepted(frontend, b"content", end=whole)
        await until(lambda: frontend.store.unfinished)
        await turns()
        for _ in range(61):
            frontend.clock.advance(1)
        frontend.store.release()
        assert await outcome_of(peer) == ("stored" if whole else "timeout")
