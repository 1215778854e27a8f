"""
Silent senders: ``--idle-timeout`` and ``--finish-after-idle``.
"""

from __future__ import annotations

import socket

import pytest
from twisted.logger import formatEvent

from tests.support.frontends import open_frontend
from tests.support.senders import STORED, read_all, received_so_far, refusal_code
from tests.support.waiting import in_thread, pass_time, turns, until
from tests.support.ways import Way
from twisted_upload.frontends.raw.settings import RawSettings

pytestmark = pytest.mark.each_transport


# -- 7. silence ---------------------------------------------------------------


async def test_idle_timeout() -> None:
    """A silent sender is refused at the timeout; the answer mentions nc -N."""
    async with open_frontend(RawSettings(idle_timeout=60)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"half a file")
        await frontend.has_received(11)
        pass_time(frontend.clock, 59.9)
        await turns()
        assert received_so_far(peer) == b""
        frontend.clock.advance(0.2)
        answer = await in_thread(read_all, peer)
        assert refusal_code(answer) == "timeout"
        assert "nc -N" in answer.decode()
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert [event.get("code") for event in frontend.log.ends] == ["timeout"]


async def test_http() -> None:
    """
    An HTTP client at the raw port is told so when it has waited for the idle timeout.  Not
    before: a file may begin like an HTTP request.
    """
    request = b"PUT /photo.jpg HTTP/1.1\r\nHost: box.example\r\nContent-Length: 5\r\n\r\nhello"
    async with open_frontend(RawSettings(idle_timeout=60)) as frontend:
        peer = frontend.connect()
        peer.sendall(request)
        await frontend.has_received(len(request))
        pass_time(frontend.clock, 60)
        answer = await in_thread(read_all, peer)
        assert refusal_code(answer) == "timeout"
        assert "HTTP request" in answer.decode()


async def test_file_like_http(way: Way) -> None:
    """A file that begins like an HTTP request is stored, byte for byte."""
    content = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    async with open_frontend() as frontend:
        assert await way.send(frontend, content) == STORED
        assert frontend.stored == [content]


async def test_idle_without_a_byte() -> None:
    """A sender that never sends anything is refused at the timeout."""
    async with open_frontend(RawSettings(idle_timeout=60)) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.clock.advance(60)
        assert refusal_code(await in_thread(read_all, peer)) == "timeout"


async def test_every_byte_buys_time() -> None:
    """Each byte restarts the timeout."""
    async with open_frontend(RawSettings(idle_timeout=60, min_rate=0)) as frontend:
        peer = frontend.connect()
        for number in range(5):
            peer.sendall(b"x")
            await frontend.has_received(number + 1)
            pass_time(frontend.clock, 59)
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"xxxxx"]


async def test_no_idle_timeout() -> None:
    """An idle timeout of 0 disables it."""
    async with open_frontend(RawSettings(idle_timeout=0, min_rate=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_received(1)
        frontend.clock.advance(1e6)
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == STORED


@pytest.mark.parametrize("finish", [0, 30])
async def test_paused_time_does_not_count(finish: float) -> None:
    """Time during which we have paused the sender never counts against it."""
    chosen = RawSettings(idle_timeout=60, finish_after_idle=finish, min_rate=0)
    async with open_frontend(chosen) as frontend:
        seconds = finish or 60
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        pass_time(frontend.clock, seconds - 1)
        incoming.producer.pauseProducing()
        pass_time(frontend.clock, 500)
        incoming.producer.resumeProducing()
        pass_time(frontend.clock, seconds - 1)
        await turns()
        assert frontend.store.unfinished == [incoming]
        frontend.clock.advance(1)
        answer = await in_thread(read_all, peer)
        assert answer == STORED if finish else refusal_code(answer) == "timeout"


async def test_storing_time_does_not_count(way: Way) -> None:
    """Time that the store takes does not count either: the sender has sent everything."""
    async with open_frontend(RawSettings(idle_timeout=60, finish_after_idle=10)) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.clock.advance(3600)
        frontend.store.release()
        assert await in_thread(read_all, peer) == STORED


async def test_finish_after_idle() -> None:
    """
    Silence of the configured length ends the file; the sender is answered without a
    half-close.
    """
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        peer = frontend.connect()
        peer.sendall("你好么? tcp ,我来了".encode())
        await until(lambda: frontend.incoming)
        frontend.clock.advance(0.9)
        await turns()
        assert received_so_far(peer) == b""
        frontend.clock.advance(0.2)
        assert await in_thread(peer.recv, 1024) == STORED
        peer.close()
        await frontend.is_quiet()
        assert frontend.stored == ["你好么? tcp ,我来了".encode()]
        (end,) = frontend.log.ends
        assert end["ended_by_idle"] is True
        assert "idle timeout" in formatEvent(end)


async def test_finish_after_idle_and_half_close(way: Way) -> None:
    """A half-close ends the file at once, and it is not recorded as ended by silence."""
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        assert await way.send(frontend, b"content") == STORED
        assert frontend.log.ends[0]["ended_by_idle"] is False


async def test_finish_after_idle_needs_a_byte() -> None:
    """Before the first byte, the idle timeout applies."""
    async with open_frontend(RawSettings(finish_after_idle=1, idle_timeout=60)) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.clock.advance(59)
        peer.sendall(b"content")
        await frontend.has_received(7)
        frontend.clock.advance(1)
        assert await in_thread(read_all, peer) == STORED


@pytest.mark.parametrize("when", ["storing", "answered"])
async def test_late_bytes(when: str) -> None:
    """Bytes that arrive after the silence that ended the file are ignored."""
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = when == "storing"
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        frontend.clock.advance(1)
        await turns()
        peer.sendall(b" and more")
        await turns()
        frontend.clock.advance(2)
        if when == "storing":
            frontend.store.release()
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == STORED
        await frontend.is_quiet()
        assert frontend.stored == [b"content"]
        assert frontend.log.kinds == ["stored"]
        assert frontend.log.ends[0]["size"] == 7


async def test_late_end() -> None:
    """A half-close while the store is committing a file ended by silence is no second end."""
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_received(7)
        frontend.clock.advance(1)
        peer.shutdown(socket.SHUT_WR)
        await turns()
        frontend.store.release()
        assert await in_thread(read_all, peer) == STORED
        assert frontend.log.kinds == ["stored"]


async def test_empty_and_finish_after_idle(way: Way) -> None:
    """An empty file that waits for its store is not ended a second time by silence."""
    async with open_frontend(RawSettings(finish_after_idle=1, allow_empty=True)) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend)
        await until(lambda: frontend.store._held)
        frontend.clock.advance(2)
        frontend.store.release()
        assert await in_thread(read_all, peer) == STORED
