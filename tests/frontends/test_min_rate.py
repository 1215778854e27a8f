"""
Senders that are too slow (``--min-rate``).
"""

from __future__ import annotations

import pytest

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.gate import receive
from tests.support.senders import STORED, refusal_code
from tests.support.waiting import TurnByTurn, turns, until
from tests.support.ways import Way
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.timeouts import AT_ONCE

pytestmark = pytest.mark.each_transport


# -- how slow -----------------------------------------------------------------


async def _pass(frontend: OpenFrontend, seconds: int) -> None:
    for _ in range(seconds):
        frontend.clock.advance(1)
        await turns(1)


async def test_too_slow() -> None:
    """A steady trickle is too slow; the answer names the rate."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=10)) as frontend:
        peer = frontend.connect()
        for number in range(30):
            peer.sendall(b"x")
            await frontend.has_received(number + 1)
            frontend.clock.advance(1)
        assert not frontend.log.ends
        peer.sendall(b"x")
        await frontend.has_received(31)
        frontend.clock.advance(5)
        answer = await receive(peer)
        assert refusal_code(answer) == "timeout"
        assert "500 bytes per second" in answer.decode()
        assert frontend.log.kinds == ["refused"]


async def test_many_are_too_slow() -> None:
    """
    If many are too slow at the same moment, one turn of the reactor handles only some of
    them.
    """
    clock = TurnByTurn()
    chosen = RawSettings(min_rate=500, idle_timeout=0, max_per_address=0)
    async with open_frontend(chosen, clock=clock) as frontend:
        for _ in range(AT_ONCE + 7):
            frontend.connect().sendall(b"x")
        await until(lambda: len(frontend.store.unfinished) == AT_ONCE + 7)
        for _ in range(7):
            clock.turn(5)
        assert frontend.log.kinds == ["refused"] * AT_ONCE
        clock.turn()
        assert frontend.log.kinds == ["refused"] * (AT_ONCE + 7)


async def test_bytes_buy_time() -> None:
    """Every 500 bytes buy a second, for as long as they keep arriving."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        for number in range(20):
            peer.sendall(b"x" * 2500)
            await frontend.has_received(2500 * (number + 1))
            await _pass(frontend, 5)
        await _pass(frontend, 30)
        assert not frontend.log.ends
        await _pass(frontend, 5)
        assert refusal_code(await receive(peer)) == "timeout"


async def test_bytes_of_long_ago_buy_no_time() -> None:
    """A fast start does not pay for trickling later."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 500_000)
        await frontend.has_received(500_000)
        for number in range(35):
            assert not frontend.log.ends
            peer.sendall(b"x")
            await frontend.has_received(500_001 + number)
            await _pass(frontend, 1)
        await _pass(frontend, 5)
        assert refusal_code(await receive(peer)) == "timeout"


@pytest.mark.parametrize("min_rate", [0, 500])
async def test_no_min_rate(min_rate: int) -> None:
    """A rate of 0 disables the check."""
    async with open_frontend(RawSettings(min_rate=min_rate, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_received(1)
        await _pass(frontend, 300)
        assert frontend.log.kinds == (["refused"] if min_rate else [])


async def test_waiting_for_us_is_not_slow() -> None:
    """Time during which we have paused the sender does not count."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 5000)
        await frontend.has_received(5000)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        await _pass(frontend, 20)
        incoming.producer.pauseProducing()
        incoming.producer.pauseProducing()
        await _pass(frontend, 500)
        incoming.producer.resumeProducing()
        await _pass(frontend, 10)
        assert not frontend.log.ends
        await _pass(frontend, 10)
        assert frontend.log.kinds == ["refused"]


async def test_waiting_for_the_store_is_not_slow(way: Way) -> None:
    """A sender that has half-closed waits for the store as long as that takes."""
    async with open_frontend(RawSettings(min_rate=500)) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"x")
        await until(lambda: frontend.store._held)
        await _pass(frontend, 300)
        frontend.store.release()
        assert await receive(peer) == STORED


async def test_silence_that_ends_is_not_slow() -> None:
    """Silence that will end an upload is not refused as slowness first."""
    chosen = RawSettings(min_rate=500, idle_timeout=0, finish_after_idle=45)
    async with open_frontend(chosen) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_received(1)
        await _pass(frontend, 46)
        assert await receive(peer) == STORED
