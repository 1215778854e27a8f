"""
Connections that the gate rejects: what they are told, and how long they stay.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from tests.support.frontends import open_frontend
from tests.support.gate import counted, counts, receive, rules_of
from tests.support.processes import open_descriptors
from tests.support.senders import STORED, read_all, refusal_code, reset
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way, close
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.rejection import LONGEST_STAY, MOST_DISCARDED

pytestmark = pytest.mark.each_transport


# -- rejected -----------------------------------------------------------------

MOST = ConnectionSlots().most_rejected

DENY_ALL = RawSettings(rules=rules_of(deny="0.0.0.0/0"))


async def test_answered_at_once() -> None:
    """A rejected sender is told at once, before it has sent anything."""
    async with open_frontend(DENY_ALL) as frontend:
        peer = frontend.connect()
        assert refusal_code(await receive(peer)) == "not-allowed"
        peer.close()
        await frontend.is_quiet()


async def test_answered_after_sending() -> None:
    """A rejected sender that sends its whole file before it reads is told as well."""
    async with open_frontend(DENY_ALL) as frontend:
        for _ in range(5):
            assert refusal_code(await frontend.send(*[bytes(65536)] * 8)) == "not-allowed"
        await frontend.is_quiet()


@pytest.mark.parametrize("family", ["IPv4", "unix"])
async def test_answered_after_little(way: Way, tmp_path: Path, family: str) -> None:
    """
    A rejected sender of little data, which may have arrived before the connection is
    accepted, is told as well: the data is read before the connection is closed.  Over a
    Unix socket, unread data would show.
    """
    async with open_frontend() as frontend, frontend.also_at(family, tmp_path) as connect:
        frontend.factory.drain()
        for number, size in enumerate([1, 4096, 100_000], 1):
            peer = await way.arrive(frontend, bytes(size), connect=connect)
            await until(partial(counted, frontend, {"shutting-down": number}))
            await frontend.is_quiet()
            assert refusal_code(read_all(peer)) == "shutting-down"


async def test_disconnected_after_a_moment() -> None:
    """A rejected sender is disconnected after a moment; what it sends buys no time."""
    async with open_frontend(DENY_ALL) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.clock.advance(LONGEST_STAY - 0.1)
        peer.sendall(b"still here")
        await turns()
        assert frontend.factory.protocols
        frontend.clock.advance(0.2)
        await frontend.is_quiet()


async def test_keeps_sending() -> None:
    """A rejected sender that keeps sending is read for a limited time."""
    async with open_frontend(DENY_ALL) as frontend:
        peer = frontend.connect()

        def flood() -> int:
            sent = 0
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while sent < 64 * MOST_DISCARDED:
                    sent += peer.send(bytes(65536))
            return sent

        assert await in_thread(flood) < 64 * MOST_DISCARDED
        await frontend.is_quiet()


async def test_many_stay() -> None:
    """A limited number may stay; one more closes the oldest at once."""
    async with open_frontend(DENY_ALL) as frontend:
        peers = [frontend.connect() for _ in range(MOST)]
        await until(lambda: len(frontend.factory.protocols) == MOST)
        await turns()
        last = [frontend.connect() for _ in range(10)]
        await until(lambda: counts(frontend) == {"not-allowed": MOST + 10})
        assert len(frontend.factory.protocols) == MOST
        for peer in peers + last:
            assert refusal_code(await receive(peer)) == "not-allowed"
        frontend.clock.advance(LONGEST_STAY)
        await frontend.is_quiet()


async def test_gone_before_the_answer() -> None:
    """A sender that disconnected before it could be answered does no harm."""
    async with open_frontend(DENY_ALL) as frontend:
        for _ in range(20):
            reset(frontend.connect())
        await until(lambda: counts(frontend) == {"not-allowed": 20})
        await frontend.is_quiet()


@pytest.mark.parametrize("end", [close, reset])
async def test_does_not_wait(way: Way, end: Callable[[socket.socket], None]) -> None:
    """A sender that has sent something and does not wait for the answer does no harm."""
    async with open_frontend(DENY_ALL) as frontend:
        for _ in range(3):
            await way.arrive(frontend, b"content", end=end)
        await until(lambda: counts(frontend) == {"not-allowed": 3})
        await frontend.is_quiet()


async def test_nothing_is_used(way: Way) -> None:
    """A rejected sender uses nothing of the store and no line of the log."""
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    async with open_frontend(DENY_ALL) as frontend:
        globalLogPublisher.addObserver(observer)
        try:
            for _ in range(10):
                await way.send(frontend, b"content")
        finally:
            globalLogPublisher.removeObserver(observer)
        assert events == []
        assert frontend.store.unfinished == []


async def test_while_stopping(way: Way) -> None:
    """A sender that connects while the daemon stops is told so, without a log line."""
    async with open_frontend() as frontend:
        done = frontend.factory.drain()
        assert done.called
        assert refusal_code(await way.send(frontend, b"content")) == "shutting-down"
        assert frontend.log.ends == []
        assert counts(frontend) == {"shutting-down": 1}


@pytest.mark.parametrize("whole", [False, True])
async def test_descriptors_are_not_taken(tmp_path: Path, whole: bool) -> None:
    """File descriptors sent over a Unix socket are closed, and nothing is logged."""
    (tmp_path / "passed").write_bytes(b"")
    passed = os.open(tmp_path / "passed", os.O_RDONLY)
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    async with open_frontend() as frontend:
        frontend.store.holding = True
        async with frontend.also_at("unix", tmp_path) as connect:
            globalLogPublisher.addObserver(observer)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed] * 9))]
            peer = connect()
            peer.sendmsg([b"content"], rights)
            os.close(passed)
            if whole:
                peer.shutdown(socket.SHUT_WR)
            await frontend.has_received(7)
            globalLogPublisher.removeObserver(observer)
            assert open_descriptors(tmp_path) == []
            assert events == []
            if not whole:
                peer.shutdown(socket.SHUT_WR)
            frontend.store.release()
            assert await receive(peer) == STORED
        assert frontend.stored == [b"content"]
