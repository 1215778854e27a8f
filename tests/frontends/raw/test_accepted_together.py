"""
Senders between being accepted and being served, of which there are many in one turn of
the reactor: nothing that is promised to them hangs on what happens just then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.gate import hear_outcome
from tests.support.senders import reset
from tests.support.waiting import turns, until
from tests.support.ways import close, half_close
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.settings import FrontendSettings


def _accepted(frontend: OpenFrontend, *said: bytes, end: bool = False) -> list[socket.socket]:
    """Senders that have said this, and have been accepted in one turn, and no more."""
    peers = []
    for data in said:
        peers.append(frontend.connect())
        if data:
            peers[-1].sendall(data)
        if end:
            peers[-1].shutdown(socket.SHUT_WR)
    frontend.port.doRead()
    return peers


async def _nobody_is_left(frontend: OpenFrontend) -> None:
    await frontend.is_quiet()
    assert frontend.factory.gate.admission.slots.taken == 0
    assert len(frontend.factory.gate.admission) == 0


@pytest.mark.parametrize("said", [b"", b"con"])
async def test_the_rest(said: bytes) -> None:
    """What comes after that is the rest of the file."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, said)
        peer.sendall(b"content"[len(said) :])
        peer.shutdown(socket.SHUT_WR)
        assert await hear_outcome(peer) == "stored"
        assert frontend.stored == [b"content"]
        await _nobody_is_left(frontend)


@pytest.mark.parametrize("end", [reset, close, half_close])
@pytest.mark.parametrize("said", [b"", b"con"])
async def test_the_end(said: bytes, end: Callable[[socket.socket], None]) -> None:
    """An end that comes just then is the end of what has come."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, said)
        end(peer)
        await until(lambda: frontend.log.ends or frontend.log.others)
        ended = "aborted" if end is reset else "stored"
        assert frontend.log.kinds == ([ended] if said else [])
        assert frontend.stored == ([said] if said and end is not reset else [])
        assert frontend.store.unfinished == []
        await _nobody_is_left(frontend)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("settings", "most"), [(FrontendSettings(), 2), (FrontendSettings(max_per_address=2), 0)]
)
async def test_slots(settings: FrontendSettings, most: int, whole: bool) -> None:
    """However many come in one turn, no more are let in than there are slots for."""
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
        assert sorted([await hear_outcome(peer) for peer in peers]) == ["busy"] * 3 + ["stored"] * 2
        await _nobody_is_left(frontend)


@pytest.mark.parametrize("said", [b"", b"con"])
async def test_stopping(said: bytes) -> None:
    """One that comes while the daemon begins to stop hears so."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, said)
        frontend.factory.drain()
        assert await hear_outcome(peer) == "shutting-down"
        assert frontend.stored == []
        peer.shutdown(socket.SHUT_WR)
        await _nobody_is_left(frontend)


@pytest.mark.parametrize("said", [b"", b"con"])
async def test_closed_port(said: bytes) -> None:
    """A port that is closed then leaves them what they came for."""
    async with open_frontend() as frontend:
        (peer,) = _accepted(frontend, said)
        await maybeDeferred(frontend.port.stopListening)
        await turns()
        peer.sendall(b"content"[len(said) :])
        peer.shutdown(socket.SHUT_WR)
        assert await hear_outcome(peer) == "stored"
        assert frontend.stored == [b"content"]
        await _nobody_is_left(frontend)


@pytest.mark.parametrize("whole", [False, True])
async def test_time_outs(whole: bool) -> None:
    """They are for those of whom there may be more to come, and for all of them."""
    async with open_frontend(FrontendSettings(idle_timeout=60)) as frontend:
        frontend.store.holding = True
        (peer,) = _accepted(frontend, b"content", end=whole)
        await until(lambda: frontend.store.unfinished)
        await turns()
        for _ in range(61):
            frontend.clock.advance(1)
        frontend.store.release()
        assert await hear_outcome(peer) == ("stored" if whole else "timeout")
