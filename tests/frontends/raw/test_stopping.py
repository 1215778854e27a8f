"""
Uploads in flight when the daemon stops.
"""

from __future__ import annotations

import socket
from time import time

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.support.frontends import open_frontend
from tests.support.lifecycle import UnsureStore
from tests.support.senders import STORED, read_all, refusal_code, reset, send_all_then_read
from tests.support.waiting import in_thread, until
from tests.support.ways import Way
from twisted_upload.frontends.raw.settings import RawSettings

pytestmark = pytest.mark.each_transport


# -- stopping -----------------------------------------------------------------


async def test_drain(way: Way) -> None:
    """While the daemon drains, uploads in flight are finished, and new ones are refused."""
    async with open_frontend() as frontend:
        peer, idle = frontend.connect(), frontend.connect()
        peer.sendall(b"half")
        await frontend.has_received(4)
        await until(lambda: len(frontend.factory.protocols) == 2)
        drained = frontend.factory.drain()
        assert not drained.called
        assert refusal_code(await in_thread(read_all, idle)) == "shutting-down"
        assert refusal_code(await in_thread(read_all, frontend.connect())) == "shutting-down"
        assert refusal_code(await way.send(frontend, b"a new one")) == "shutting-down"
        assert not drained.called
        assert await in_thread(send_all_then_read, peer, b" a file") == STORED
        await drained
        assert frontend.stored == [b"half a file"]


async def test_drain_waits_for_the_store(way: Way) -> None:
    """An upload that the store is committing is still in flight."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        drained = frontend.factory.drain()
        assert frontend.factory.uploads_in_flight == 1
        assert not drained.called
        frontend.store.release()
        await drained
        assert await in_thread(read_all, peer) == STORED


async def test_drain_waits_without_a_sender() -> None:
    """An upload whose sender has disconnected is in flight until it is stored."""
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        frontend.clock.advance(1)
        await until(lambda: frontend.store._held)
        reset(peer)
        await frontend.is_quiet()
        drained = frontend.factory.drain()
        assert not drained.called
        frontend.store.release()
        await drained
        assert frontend.stored == [b"content"]


async def test_drain_waits_for_an_empty_one(way: Way) -> None:
    """An upload without a byte is in flight too, if empty files are allowed."""
    async with open_frontend(RawSettings(allow_empty=True)) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend)
        await until(lambda: frontend.store._held)
        drained = frontend.factory.drain()
        assert frontend.factory.uploads_in_flight == 1
        assert not drained.called
        frontend.store.release()
        await drained
        assert await in_thread(read_all, peer) == STORED


async def test_nothing_to_drain(way: Way) -> None:
    """With nothing in flight, draining ends at once."""
    async with open_frontend() as frontend:
        assert await way.send(frontend, b"content") == STORED
        await frontend.is_quiet()
        assert frontend.factory.drain().called
        assert frontend.factory.all_gone().called


@pytest.mark.parametrize("when", ["receiving", "storing"])
async def test_refuse_the_rest(when: str) -> None:
    """When the time is over, remaining uploads are refused, and nothing of them is stored."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        if when == "storing":
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: frontend.store._held)
        drained, gone = frontend.factory.drain(), frontend.factory.all_gone()
        frontend.factory.refuse_the_rest()
        assert drained.called
        assert refusal_code(await in_thread(read_all, peer)) == "shutting-down"
        frontend.store.release()
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["refused"]
        peer.close()
        await gone


async def test_refuse_what_is_being_committed(way: Way) -> None:
    """Uploads that the store is committing are refused too, however they arrived."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        drained, gone = frontend.factory.drain(), frontend.factory.all_gone()
        assert not drained.called
        assert not gone.called
        frontend.factory.refuse_the_rest()
        assert drained.called
        assert refusal_code(await in_thread(read_all, peer)) == "shutting-down"
        frontend.store.release()
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert [event.get("code") for event in frontend.log.ends] == ["shutting-down"]
        peer.close()
        await gone


async def test_refused_too_late(way: Way) -> None:
    """A sender whose file may be visible all the same is told nothing: its connection breaks."""
    store = UnsureStore(time)
    store.holding = True
    async with open_frontend(store=store) as frontend:
        peer = await way.arrive(frontend, b"content")
        await until(lambda: store._held)
        gone = frontend.factory.all_gone()
        frontend.factory.refuse_the_rest()
        with pytest.raises(ConnectionResetError):
            await in_thread(peer.recv, 1)
        await gone
        assert frontend.factory.uploads_in_flight == 0
        assert [event.get("code") for event in frontend.log.ends] == ["shutting-down"]


async def test_stop_waiting() -> None:
    """A caller that waits for the drain can cancel."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        ends: list[object] = []
        waiting: list[Deferred[None]] = [frontend.factory.drain(), frontend.factory.all_gone()]
        for one in waiting:
            one.addErrback(lambda failure: ends.append(failure.type))
            one.cancel()
        assert ends == [CancelledError, CancelledError]
        assert await in_thread(send_all_then_read, peer, b"") == STORED


async def test_abort_the_rest() -> None:
    """Connections that do not close are reset in the end."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        gone = frontend.factory.all_gone()
        frontend.factory.abort_the_rest()
        await gone
        with pytest.raises(ConnectionResetError):
            await in_thread(peer.recv, 1)
        assert frontend.stored == []
        assert frontend.log.kinds == ["aborted"]


async def test_abort_what_is_being_committed(way: Way) -> None:
    """An upload that is being committed forfeits the answer, not the file; the log says so."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        gone = frontend.factory.all_gone()
        assert not gone.called
        frontend.factory.abort_the_rest()
        await gone
        with pytest.raises(ConnectionResetError):
            await in_thread(peer.recv, 1)
        drained = frontend.factory.drain()
        assert not drained.called
        frontend.store.release()
        await drained
        assert frontend.stored == [b"content"]
        assert [(event["outcome"], event["answered"]) for event in frontend.log.ends] == [
            ("stored", False)
        ]
