"""
Refused uploads: by the store, for their size, and while the sender is sending.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from zope.interface import implementer

from tests.support.frontends import open_frontend
from tests.support.senders import STORED, flood, read_all, refusal_code, send_all_then_read
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way
from twisted_upload.errors import Busy, NoSpace, StoreFailed, UploadRefused
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore

pytestmark = pytest.mark.each_transport


# -- 3. refused ---------------------------------------------------------------


async def test_store_refuses_at_once() -> None:
    """If the store refuses, the sender is told at the first byte, before the end of the file."""
    async with open_frontend() as frontend:
        frontend.store.refusing = Busy()
        peer = frontend.connect()
        peer.sendall(b"first")
        assert refusal_code(await in_thread(read_all, peer)) == "busy"
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("family", ["IPv4", "unix"])
async def test_store_refuses(way: Way, tmp_path: Path, family: str) -> None:
    """
    The refusal of a store is sent, even if the whole file had arrived before the store
    was asked.
    """
    async with open_frontend() as frontend, frontend.also_at(family, tmp_path) as connect:
        frontend.store.refusing = Busy()
        peer = await way.arrive(frontend, bytes(100_000), connect=connect)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert refusal_code(read_all(peer)) == "busy"
        assert frontend.log.kinds == ["refused"]
        assert frontend.log.loud() == []


async def test_store_refuses_the_next_bytes_too() -> None:
    """Bytes that arrive together with a refused first byte do no harm."""
    async with open_frontend() as frontend:
        frontend.store.refusing = Busy()
        assert refusal_code(await frontend.send(*[b"x" * 65536] * 50)) == "busy"
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("refusal", [NoSpace(), StoreFailed()])
async def test_store_fails_at_the_end(way: Way, refusal: UploadRefused) -> None:
    """If the store cannot commit, the sender gets the refusal instead of success."""
    async with open_frontend() as frontend:
        frontend.store.failing = refusal
        assert refusal_code(await way.send(frontend, b"content")) == refusal.code
        assert frontend.stored == []
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("paused", [False, True])
async def test_store_fails_in_the_middle(paused: bool) -> None:
    """A store failure is reported while the sender is sending, even if it is paused."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        (incoming,) = frontend.store.unfinished
        if paused:
            assert incoming.producer is not None
            incoming.producer.pauseProducing()
        sending = in_thread(send_all_then_read, peer, bytes(1 << 20), 8)
        incoming.fail(NoSpace())
        assert refusal_code(await sending) == "no-space"
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["refused"]


async def test_broken_store(way: Way, expected_errors: list[str]) -> None:
    """A store that breaks its promise is logged; the sender is only told store-error."""
    expected_errors.append("secret")

    @implementer(IUploadStore)
    class Broken:
        def begin(
            self, arrival: Arrival, failed: Callable[[UploadRefused], None]
        ) -> IIncomingUpload:
            raise RuntimeError("secret /etc/path")

    async with open_frontend(store=Broken()) as frontend:
        assert refusal_code(await way.send(frontend, b"content")) == "store-error"


async def test_broken_commit(way: Way, expected_errors: list[str]) -> None:
    """
    A commit that fails with anything but a refusal is logged; the sender is only told
    store-error.
    """
    expected_errors.append("secret")
    async with open_frontend() as frontend:
        frontend.store.failing = RuntimeError("secret /etc/path")  # type: ignore[assignment]
        assert refusal_code(await way.send(frontend, b"content")) == "store-error"


# -- 4. refused while the sender sends ----------------------------------------


@pytest.mark.parametrize(("size", "code"), [(999, None), (1000, None), (1001, "too-large")])
async def test_max_size(way: Way, size: int, code: str | None) -> None:
    """An upload of the maximum size is accepted, and one byte more is refused."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        answer = await way.send(frontend, b"x" * 700, b"x" * (size - 700))
        if code is None:
            assert answer == STORED
            assert frontend.stored == [b"x" * size]
        else:
            assert refusal_code(answer) == code
            assert "1000 bytes" in answer.decode()
            assert frontend.stored == []
            assert frontend.store.unfinished == []


async def test_refused_as_soon_as_known() -> None:
    """A refusal can be read while the sender could still send."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 1001)
        assert refusal_code(await in_thread(read_all, peer)) == "too-large"


async def test_lingering_close() -> None:
    """A blocking sender that reads only at the very end still receives the reason."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        peer = frontend.connect()
        answer = await in_thread(send_all_then_read, peer, bytes(1 << 20), 32)
        assert refusal_code(answer) == "too-large"
        await frontend.is_quiet()
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("family", ["IPv4", "unix"])
async def test_much_too_large(way: Way, tmp_path: Path, family: str) -> None:
    """
    A sender of a small file, all of which may have arrived before it is refused, receives
    the reason: the file is read before the connection is closed.  Over a Unix socket,
    unread data would show.
    """
    chosen = RawSettings(max_size=1000)
    async with open_frontend(chosen) as frontend, frontend.also_at(family, tmp_path) as connect:
        peer = await way.arrive(frontend, bytes(1001), bytes(100_000), connect=connect)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert refusal_code(read_all(peer)) == "too-large"
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["refused"]


async def test_lingering_is_bounded_in_amount() -> None:
    """A refused sender that never stops sending is disconnected."""
    async with open_frontend(RawSettings(max_size=1000, linger_size=1 << 20)) as frontend:
        peer = frontend.connect()
        assert await in_thread(flood, peer) in ("ECONNRESET", "EPIPE")
        await frontend.is_quiet()
        assert frontend.log.kinds == ["refused"]


async def test_lingering_is_bounded_in_time() -> None:
    """A refused sender that stays connected is disconnected."""
    async with open_frontend(RawSettings(max_size=1000, linger_time=5)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 2000)
        assert refusal_code(await in_thread(read_all, peer)) == "too-large"
        frontend.clock.advance(4.9)
        peer.sendall(b"still here")
        await turns()
        assert frontend.factory.protocols
        frontend.clock.advance(0.2)
        await frontend.is_quiet()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            peer.sendall(b"too late")


async def test_lingering_time_is_not_extended() -> None:
    """Whatever a refused sender still sends does not extend its time."""
    async with open_frontend(RawSettings(max_size=1000, linger_time=5)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 2000)
        await until(lambda: frontend.log.ends)
        for _ in range(6):
            try:
                peer.sendall(b"more")
            except OSError:
                break
            await turns()
            frontend.clock.advance(1)
            await turns()
        await frontend.is_quiet()
