"""
Senders that reset, close or disconnect: what becomes of their uploads.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.frontends import open_frontend
from tests.support.senders import STORED, read_all, reset
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way, close, half_close_and_reset
from twisted_upload.errors import NoSpace
from twisted_upload.frontends.raw.settings import RawSettings

pytestmark = pytest.mark.each_transport


# -- 5. reset before the half-close -------------------------------------------


async def test_reset(way: Way) -> None:
    """A connection that is reset before the half-close is aborted, and nothing is stored."""
    async with open_frontend() as frontend:
        await way.arrive(frontend, b"half a file", end=reset)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["aborted"]
        assert frontend.log.ends[0]["size"] == 11


async def test_reset_while_paused() -> None:
    """A reset that arrives while the sender is paused is noticed when the sender is resumed."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"half a file")
        await frontend.has_received(11)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        reset(peer)
        await turns()
        incoming.producer.resumeProducing()
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.kinds == ["aborted"]


async def test_end_while_paused() -> None:
    """A half-close that arrives while the sender is paused waits, with all bytes before it."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"first")
        await frontend.has_received(5)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        peer.sendall(b" and last")
        peer.shutdown(socket.SHUT_WR)
        await turns()
        assert frontend.incoming == b"first"
        incoming.producer.resumeProducing()
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"first and last"]


async def test_reset_of_a_port_probe(way: Way) -> None:
    """A connection that is reset before its first byte is not logged."""
    async with open_frontend() as frontend:
        await way.arrive(frontend, end=reset)
        await until(lambda: frontend.log.others)
        await frontend.is_quiet()
        assert frontend.log.ends == []
        assert frontend.log.loud() == []


# -- 6. fire and forget -------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8192 * 20, 1 << 22])
async def test_fire_and_forget(size: int) -> None:
    """The file of a sender that closes without waiting for the answer is stored."""
    async with open_frontend() as frontend:

        def send() -> None:
            with frontend.connect() as peer:
                peer.sendall(b"x" * size)

        await in_thread(send)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.stored == [b"x" * size]
        assert frontend.log.kinds == ["stored"]


@pytest.mark.parametrize("end", [close, half_close_and_reset])
@pytest.mark.parametrize("size", [1, 4096, 50_000])
async def test_gone_at_the_end(way: Way, end: Callable[[socket.socket], None], size: int) -> None:
    """A small file is stored although its sender is gone, even if all had arrived at accept."""
    async with open_frontend() as frontend:
        await way.arrive(frontend, b"x" * size, end=end)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.stored == [b"x" * size]
        assert frontend.log.kinds == ["stored"]
        assert frontend.log.loud() == []


async def test_reset_after_the_half_close(way: Way) -> None:
    """A sender that resets while the store is committing forfeits the answer, not the file."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        reset(peer)
        await turns()
        frontend.store.release()
        await frontend.is_quiet()
        assert frontend.stored == [b"content"]
        assert frontend.log.kinds == ["stored"]


async def test_loss_after_silence() -> None:
    """
    A sender whose file was ended by silence may disconnect; the log says that no answer
    was delivered.
    """
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        frontend.clock.advance(1)
        await until(lambda: frontend.store._held)
        reset(peer)
        await frontend.is_quiet()
        assert frontend.log.ends == []
        frontend.store.release()
        assert frontend.stored == [b"content"]
        assert frontend.log.kinds == ["stored"]
        assert frontend.log.ends[0]["answered"] is False


async def test_failure_without_a_sender() -> None:
    """A store failure is logged even if the sender has disconnected."""
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        frontend.store.failing = NoSpace()
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        frontend.clock.advance(1)
        await until(lambda: frontend.store._held)
        reset(peer)
        await frontend.is_quiet()
        frontend.store.release()
        assert frontend.log.kinds == ["refused"]


async def test_reset_that_looks_like_an_end() -> None:
    """
    Nothing is stored for a reset that Twisted reports as a half-close.

    If the kernel reports a disconnection in the middle of a reset, and nothing to read,
    Twisted takes it for the end of the reading side.
    """
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"half of it")
        await frontend.has_received(10)
        (protocol,) = frontend.senders
        reset(peer)
        protocol.readConnectionLost()
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.kinds == ["aborted"]


async def test_half_close_that_is_none() -> None:
    """A half-close reported by Twisted is ignored while the sender can still send."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"half of it, ")
        await frontend.has_received(12)
        (protocol,) = frontend.senders
        protocol.transport.pauseProducing()
        protocol.readConnectionLost()
        peer.sendall(b"and the rest")
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"half of it, and the rest"]
