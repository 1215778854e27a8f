"""
Settings that change while senders are connected.
"""

from __future__ import annotations

import socket

import pytest

from tests.support.frontends import open_frontend
from tests.support.senders import STORED, read_all, refusal_code
from tests.support.waiting import in_thread, until
from tests.support.ways import Way
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.networks import Rules, parse_network

pytestmark = pytest.mark.each_transport


# -- new settings -------------------------------------------------------------


async def test_new_settings_are_for_new_connections(way: Way) -> None:
    """New settings apply to new connections only."""
    old = RawSettings(max_size=100, idle_timeout=60)
    async with open_frontend(old) as frontend:
        connected = frontend.connect()
        connected.sendall(b"x" * 50)
        await frontend.has_received(50)
        frontend.factory.reconfigure(RawSettings(max_size=10, idle_timeout=5, answer="OK"))
        assert refusal_code(await way.send(frontend, b"x" * 11)) == "too-large"
        assert await way.send(frontend, b"x" * 10) == b"OK"
        frontend.clock.advance(6)
        connected.sendall(b"x" * 50)
        connected.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, connected) == STORED
        assert sorted(map(len, frontend.stored)) == [10, 100]


async def test_the_old_answer_stays(way: Way) -> None:
    """A connection accepted under the old settings gets the old answer."""
    async with open_frontend(RawSettings(answer="old", receipts=True)) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.factory.reconfigure(RawSettings(answer="new"))
        frontend.store.release()
        assert (await in_thread(read_all, peer)).startswith(b"old 1795328130123.bin 7 ")
        assert await way.send(frontend, b"content") == b"new"


async def test_old_timeouts_stay() -> None:
    """A timeout that has been removed still applies to connections accepted before."""
    async with open_frontend(RawSettings(idle_timeout=5)) as frontend:
        connected = frontend.connect()
        connected.sendall(b"half")
        await frontend.has_received(4)
        frontend.factory.reconfigure(RawSettings(idle_timeout=0))
        frontend.clock.advance(5)
        assert refusal_code(await in_thread(read_all, connected)) == "timeout"


async def test_new_rules_are_for_new_connections(way: Way) -> None:
    """A connection that the new rules would deny stays open, and still counts."""
    async with open_frontend() as frontend:
        connected = frontend.connect()
        connected.sendall(b"half")
        await frontend.has_received(4)
        frontend.factory.reconfigure(RawSettings(max_per_address=1))
        assert refusal_code(await way.send(frontend, b"another")) == "busy"
        frontend.factory.reconfigure(RawSettings(rules=Rules(deny=[parse_network("127.0.0.0/8")])))
        assert refusal_code(await way.send(frontend, b"another")) == "not-allowed"
        connected.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, connected) == STORED
        frontend.factory.reconfigure(RawSettings(max_per_address=1))
        assert await way.send(frontend, b"another") == STORED
