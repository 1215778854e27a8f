"""
How uploads end: with exactly one event each, and with nothing left behind.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogLevel, formatEvent

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.processes import open_descriptors
from tests.support.senders import STORED, read_all, reset
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way, close
from twisted_upload.errors import NoSpace
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.stores.memory import MemoryIncoming

pytestmark = pytest.mark.each_transport


# -- the log ------------------------------------------------------------------


async def _stored(frontend: OpenFrontend, way: Way) -> None:
    await way.send(frontend, b"x" * 100)


async def _refused(frontend: OpenFrontend, way: Way) -> None:
    await way.send(frontend, b"x" * 2000)


async def _aborted(frontend: OpenFrontend, way: Way) -> None:
    ends = len(frontend.log.ends)
    await way.arrive(frontend, b"x" * 50, end=reset)
    await until(lambda: len(frontend.log.ends) > ends)
    await frontend.is_quiet()


@pytest.mark.parametrize(
    ("scenario", "fields"),
    [
        (
            _stored,
            {"outcome": "stored", "size": 100, "name": "1795328130123.bin", "ended_by_idle": False},
        ),
        (_refused, {"outcome": "refused", "code": "too-large"}),
        (_aborted, {"outcome": "aborted", "size": 50}),
    ],
)
async def test_one_event_for_one_end(
    way: Way, scenario: Callable[[OpenFrontend, Way], Any], fields: Any
) -> None:
    """Each upload ends with exactly one event, with peer, size, seconds, and name or code."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        await scenario(frontend, way)
        await frontend.is_quiet()
        (end,) = frontend.log.ends
        assert fields.items() <= end.items()
        assert end["log_level"] == LogLevel.info
        assert end["peer"].startswith("127.0.0.1:")
        assert end["seconds"] == 0
        assert isinstance(end["size"], int)
        line = formatEvent(end)
        assert "\n" not in line
        assert end["peer"] in line
        assert str(end["size"]) in line
        assert str(fields.get("name", fields.get("code", ""))) in line
        assert frontend.log.loud() == []


async def test_seconds() -> None:
    """The seconds of an upload are counted from the connection to the end."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_received(1)
        frontend.clock.advance(12.5)
        peer.shutdown(socket.SHUT_WR)
        await in_thread(read_all, peer)
        assert frontend.log.ends[0]["seconds"] == 12.5


async def test_seconds_of_the_store(way: Way) -> None:
    """The seconds of an upload include the time that the store takes."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.clock.advance(12.5)
        frontend.store.release()
        assert await in_thread(read_all, peer) == STORED
        assert frontend.log.ends[0]["seconds"] == 12.5


async def test_log_has_no_bytes_of_the_sender(way: Way) -> None:
    """Nothing that a sender sends is logged."""
    async with open_frontend() as frontend:
        await way.send(frontend, b"forged\n2026-11-22 stored everything {peer}")
        assert not any("forged" in str(event) for event in frontend.log.ends + frontend.log.others)


# -- any order of events ------------------------------------------------------

_ACTS = st.sampled_from(
    ["send", "send", "send", "much", "half-close", "close", "reset", "wait", "linger", "fail",
     "pause", "resume", "hold", "release", "collect"]
)  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    acts=st.lists(_ACTS, min_size=1, max_size=10),
    early=st.sampled_from([0, 0, 1, 2, 3, 4]),
    finish=st.booleans(),
    empty=st.booleans(),
)
async def test_any_order(acts: list[str], early: int, finish: bool, empty: bool) -> None:
    """
    Whatever the sender, the store and the clock do, even before the connection is
    accepted, an upload ends at most once and leaves nothing behind.
    """
    chosen = RawSettings(finish_after_idle=10 if finish else 0, allow_empty=empty, max_size=100_000)
    async with open_frontend(chosen) as frontend:
        peer = frontend.connect()
        incoming: MemoryIncoming | None = None
        open_ = True
        for number, what in enumerate(acts):
            if number == early:
                await until(
                    lambda: frontend.factory.protocols or frontend.log.ends or frontend.log.others
                )
            if number >= early:
                await turns(2)
            incoming = frontend.store.unfinished[0] if frontend.store.unfinished else incoming
            producer = incoming.producer if incoming is not None else None
            try:
                if what == "send" and open_:
                    peer.send(b"x" * 1000, socket.MSG_DONTWAIT)
                elif what == "much" and open_:
                    peer.send(b"x" * 60_000, socket.MSG_DONTWAIT)
                elif what == "half-close" and open_:
                    peer.shutdown(socket.SHUT_WR)
                elif what == "close":
                    peer.close()
                    open_ = False
                elif what == "reset" and open_:
                    reset(peer)
                    open_ = False
            except OSError:
                pass
            if what == "wait":
                frontend.clock.advance(11)
            elif what == "linger":
                frontend.clock.advance(70)
            elif what == "fail" and incoming is not None and incoming._committed is None:
                incoming.fail(NoSpace())
            elif what == "pause" and producer is not None:
                producer.pauseProducing()
            elif what == "resume" and producer is not None:
                producer.resumeProducing()
            elif what == "hold":
                frontend.store.holding = True
            elif what == "release":
                frontend.store.release()
            elif what == "collect":
                gc.collect()
        await turns(2)
        for unfinished in [*frontend.store.unfinished]:
            if unfinished.producer is not None:
                unfinished.producer.resumeProducing()
        await turns(2)
        frontend.store.release()
        await turns(2)
        peer.close()
        frontend.clock.advance(200)
        await turns(2)
        frontend.clock.advance(200)
        await frontend.is_quiet()
        assert frontend.store.unfinished == []
        assert len(frontend.log.ends) <= 1
        assert len(frontend.stored) == frontend.log.kinds.count("stored")
        assert frontend.log.loud() == []
        assert not frontend.clock.getDelayedCalls()


async def test_nothing_stays_open(way: Way) -> None:
    """After many connections with all kinds of ends, no file descriptor is left open."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        await frontend.send(b"warm up")
        before = len(open_descriptors("socket:"))
        for _ in range(20):
            await _stored(frontend, way)
            await _refused(frontend, way)
            await _aborted(frontend, way)
            await way.arrive(frontend, end=close)
            for peer in frontend._peers:
                peer.close()
            await frontend.is_quiet()
        assert len(open_descriptors("socket:")) <= before
