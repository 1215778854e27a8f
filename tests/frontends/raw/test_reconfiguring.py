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
from twisted_upload.frontends.raw.factory import FrontendSettings
from twisted_upload.net.networks import Rules, parse_network

pytestmark = pytest.mark.each_transport


# -- settings that change -----------------------------------------------------


async def test_new_settings_are_for_those_who_come(way: Way) -> None:
    """Settings that change bind whoever comes from then on, and nobody who is there."""
    old = FrontendSettings(max_size=100, idle_timeout=60)
    async with open_frontend(old) as frontend:
        there = frontend.connect()
        there.sendall(b"x" * 50)
        await frontend.has_come(50)
        frontend.factory.reconfigure(FrontendSettings(max_size=10, idle_timeout=5, answer="OK"))
        assert refusal_code(await way.send(frontend, b"x" * 11)) == "too-large"
        assert await way.send(frontend, b"x" * 10) == b"OK"
        frontend.clock.advance(6)
        there.sendall(b"x" * 50)
        there.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, there) == STORED
        assert sorted(map(len, frontend.stored)) == [10, 100]


async def test_old_words_stay(way: Way) -> None:
    """Whoever has come under old settings hears what they say."""
    async with open_frontend(FrontendSettings(answer="old", receipts=True)) as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.factory.reconfigure(FrontendSettings(answer="new"))
        frontend.store.release()
        assert (await in_thread(read_all, peer)).startswith(b"old 1795328130123.bin 7 ")
        assert await way.send(frontend, b"content") == b"new"


async def test_old_time_outs_stay() -> None:
    """A time-out that has been taken away still ends those who came under it."""
    async with open_frontend(FrontendSettings(idle_timeout=5)) as frontend:
        there = frontend.connect()
        there.sendall(b"half")
        await frontend.has_come(4)
        frontend.factory.reconfigure(FrontendSettings(idle_timeout=0))
        frontend.clock.advance(5)
        assert refusal_code(await in_thread(read_all, there)) == "timeout"


async def test_new_rules_are_for_those_who_come(way: Way) -> None:
    """Whoever may not come in any more, and is there, stays; who has come counts."""
    async with open_frontend() as frontend:
        there = frontend.connect()
        there.sendall(b"half")
        await frontend.has_come(4)
        frontend.factory.reconfigure(FrontendSettings(max_per_address=1))
        assert refusal_code(await way.send(frontend, b"another")) == "busy"
        frontend.factory.reconfigure(
            FrontendSettings(rules=Rules(deny=[parse_network("127.0.0.0/8")]))
        )
        assert refusal_code(await way.send(frontend, b"another")) == "not-allowed"
        there.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, there) == STORED
        frontend.factory.reconfigure(FrontendSettings(max_per_address=1))
        assert await way.send(frontend, b"another") == STORED
