"""
The raw door, over real sockets.

"The raw door, exactly" in the plan has ten points; the sections below follow
them.  Point 9 is in ``test_listening.py``, the client's half of point 10 in
``test_client.py``.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, is_hypothesis_test, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.logger import LogLevel, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.helpers import (
    PATIENCE,
    OpenFrontend,
    in_thread,
    open_descriptors,
    open_frontend,
    pass_time,
    reactor,
    read_all,
    reset,
    turns,
    until,
)
from tests.support.stores import Rig, ThreadedRig
from tests.support.ways import Way, close, half_close_and_reset, in_each_way
from twisted_upload.core.answers import CODES, SUCCESS, StoredAnswer, read_answer
from twisted_upload.errors import Busy, Empty, NoSpace, StoreFailed, UploadRefused
from twisted_upload.frontends.raw.factory import FrontendSettings, UploadFactory, UploadProtocol
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore
from twisted_upload.net.networks import Rules, parse_network
from twisted_upload.stores.directory.incoming import MOST_HELD
from twisted_upload.stores.memory import MemoryIncoming, MemoryStore
from twisted_upload.testing import FaultyFiles

KEPT = "上传成功".encode()


def _refusal(answer: bytes) -> str:
    """The code of a refusal, which is one well-formed line."""
    text = answer.decode()
    assert text.startswith("上传失败: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    refused = read_answer(answer)
    assert isinstance(refused, UploadRefused)
    assert refused.code in CODES
    assert refused.explanation
    assert "/" not in refused.explanation
    assert "Traceback" not in refused.explanation
    return refused.code


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The door keeps its promises whether its transports read at once or not."""
    if not is_hypothesis_test(metafunc.function):
        in_each_way(metafunc)


@pytest.fixture(autouse=True)
def _eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenFrontend, "eager", getattr(request, "param", True))


def _heard_so_far(peer: socket.socket) -> bytes:
    readable, _, _ = select.select([peer], [], [], 0)
    return peer.recv(65536) if readable else b""


def _send_all_then_read(peer: socket.socket, data: bytes, times: int = 1) -> bytes:
    """A blocking sender as old as sockets: it reads only when it has sent everything."""
    for _ in range(times):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)
    return read_all(peer)


def _flood(peer: socket.socket) -> str:
    """A sender that never stops; what stops it."""
    piece = bytes(65536)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            peer.sendall(piece)
        except (ConnectionResetError, BrokenPipeError) as error:
            return errno.errorcode[error.errno or 0]
    return "nothing"


async def test_transports(request: pytest.FixtureRequest) -> None:
    """What is said of the transports of these tests is so."""
    async with open_frontend() as frontend:
        eager = request.node.callspec.params["_eager"]
        assert (frontend.port.transport is not tcp.Server) is eager


def test_interfaces() -> None:
    """The protocol hears half-closes, and is a producer that can be paused."""
    protocol = UploadFactory(MemoryStore(time.time), reactor).buildProtocol(None)
    assert verifyObject(IHalfCloseableProtocol, protocol)
    assert verifyObject(IPushProducer, protocol)


# -- 1. one connection is one upload ------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=5000), min_size=1, max_size=8),
    way=st.sampled_from([*Way, None]),
)
async def test_any_chunking(pieces: list[bytes], way: Way | None) -> None:
    """However the bytes are cut on their way, the file is the same bytes."""
    async with open_frontend() as frontend:
        sending = way.send(frontend, *pieces) if way is not None else frontend.send(*pieces)
        assert await sending == KEPT
        assert frontend.kept == [b"".join(pieces)]


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"SSH-2.0-x\r\n",
        b"\xff\xf4\xff\xfd\x06",
        b"\x04",
        "上传成功".encode(),
        b"\n",
    ],
    ids=["all", "http", "tls", "proxy", "ssh", "telnet", "eot", "answer", "newline"],
)
async def test_unchanged(way: Way, content: bytes) -> None:
    """Whatever the bytes look like, they are the file and nothing else."""
    async with open_frontend() as frontend:
        assert await way.send(frontend, content) == KEPT
        assert frontend.kept == [content]


async def test_large() -> None:
    """A large file comes through whole, and its sender hears it."""
    content = os.urandom(1 << 20) * 16
    async with open_frontend() as frontend:
        assert await frontend.send(content) == KEPT
        assert hashlib.sha256(frontend.kept[0]).digest() == hashlib.sha256(content).digest()


async def test_many_at_a_time() -> None:
    """Many connections at a time are as many uploads, each with its own bytes and answer."""
    async with open_frontend(FrontendSettings(max_per_address=100)) as frontend:

        def send() -> list[bytes]:
            peers = [frontend.connect() for _ in range(100)]
            for part in b"first %d", b" and second %d":
                for number, peer in enumerate(peers):
                    peer.sendall(part % number)
            for peer in peers:
                peer.shutdown(socket.SHUT_WR)
            return [read_all(peer) for peer in peers]

        assert await in_thread(send) == [KEPT] * 100
        assert sorted(frontend.kept) == sorted(
            b"first %d and second %d" % (number, number) for number in range(100)
        )
        assert frontend.log.kinds == ["kept"] * 100


async def test_large_does_not_delay_small(way: Way) -> None:
    """While a large upload is on its way, a small one comes and goes."""
    async with open_frontend() as frontend:
        large = frontend.connect()
        piece = bytes(1 << 20)
        await in_thread(large.sendall, piece)
        assert await way.send(frontend, b"small") == KEPT
        assert frontend.kept == [b"small"]
        assert await in_thread(_send_all_then_read, large, piece) == KEPT
        assert len(frontend.kept) == 2


async def test_unix_socket(way: Way, tmp_path: Path) -> None:
    """A Unix socket is a door too, with half-closes and answers."""
    async with open_frontend() as frontend, frontend.also_at("unix", tmp_path) as connect:
        assert await way.send(frontend, b"content", connect=connect) == KEPT
        assert frontend.kept == [b"content"]
        assert frontend.log.ends[0]["peer"] == f"unix uid {os.getuid()} pid {os.getpid()}"


@pytest.mark.parametrize(
    ("family", "name"), [("IPv4", "127.0.0.1:{}"), ("mapped", "127.0.0.1:{}"), ("IPv6", "[::1]:{}")]
)
async def test_name_of_a_sender(way: Way, family: str, name: str) -> None:
    """A sender is named as people write such addresses, that of IPv4 at an IPv6 socket too."""
    async with open_frontend() as frontend, frontend.also_at(family) as connect:
        peer = await way.come(frontend, b"content", connect=connect)
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.log.ends[0]["peer"] == name.format(peer.getsockname()[1])


# -- 2. kept ------------------------------------------------------------------


async def test_answer(way: Way) -> None:
    """The answer is exactly 12 bytes, and then the connection closes."""
    async with open_frontend() as frontend:
        answer = await way.send(frontend, b"content")
        assert answer == b"\xe4\xb8\x8a\xe4\xbc\xa0\xe6\x88\x90\xe5\x8a\x9f"
        assert len(answer) == 12
        await frontend.is_quiet()


async def test_answer_waits_for_the_store(way: Way) -> None:
    """Who has half-closed hears success when, and only when, the store has kept the file."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.clock.advance(3600)
        await turns()
        assert _heard_so_far(peer) == b""
        assert frontend.kept == []
        assert frontend.log.ends == []
        frontend.store.release()
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.kept == [b"content"]


async def test_answer_of_ones_own(way: Way) -> None:
    """The operator chooses the words of success."""
    async with open_frontend(FrontendSettings(answer="我很好,谢谢你")) as frontend:
        assert await way.send(frontend, b"content") == "我很好,谢谢你".encode()


@pytest.mark.parametrize("answer", [SUCCESS, "OK"])
async def test_receipts(way: Way, answer: str) -> None:
    """With receipts, success is one line that tells name, size and SHA-256."""
    async with open_frontend(FrontendSettings(receipts=True, answer=answer)) as frontend:
        heard = await way.send(frontend, b"hello")
        digest = hashlib.sha256(b"hello").hexdigest()
        assert heard.decode() == f"{answer} 1795328130123.bin 5 {digest}\n"
        assert read_answer(heard, answer) == StoredAnswer("1795328130123.bin", 5, digest)
        assert frontend.store.files == {"1795328130123.bin": b"hello"}


async def test_half_closed_is_not_garbage(way: Way) -> None:
    """A half-closed connection that waits for its store survives the garbage collector."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        gc.collect()
        frontend.store.release()
        assert await in_thread(read_all, peer) == KEPT


# -- 3. refused ---------------------------------------------------------------


async def test_store_refuses_at_once() -> None:
    """A store that takes nothing is heard at the first byte, without waiting for the end."""
    async with open_frontend() as frontend:
        frontend.store.refusing = Busy()
        peer = frontend.connect()
        peer.sendall(b"first")
        assert _refusal(await in_thread(read_all, peer)) == "busy"
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("family", ["IPv4", "unix"])
async def test_store_refuses(way: Way, tmp_path: Path, family: str) -> None:
    """The same where all may have come before it is asked."""
    async with open_frontend() as frontend, frontend.also_at(family, tmp_path) as connect:
        frontend.store.refusing = Busy()
        peer = await way.come(frontend, bytes(100_000), connect=connect)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert _refusal(read_all(peer)) == "busy"
        assert frontend.log.kinds == ["refused"]
        assert frontend.log.loud() == []


async def test_store_refuses_the_next_bytes_too() -> None:
    """What comes together with a refused first byte does no harm."""
    async with open_frontend() as frontend:
        frontend.store.refusing = Busy()
        assert _refusal(await frontend.send(*[b"x" * 65536] * 50)) == "busy"
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("refusal", [NoSpace(), StoreFailed()])
async def test_store_fails_at_the_end(way: Way, refusal: UploadRefused) -> None:
    """A store that cannot keep the file is heard instead of success."""
    async with open_frontend() as frontend:
        frontend.store.failing = refusal
        assert _refusal(await way.send(frontend, b"content")) == refusal.code
        assert frontend.kept == []
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("paused", [False, True])
async def test_store_fails_in_the_middle(paused: bool) -> None:
    """A store that fails on the way is heard while the sender sends, and where it is paused."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        (incoming,) = frontend.store.unfinished
        if paused:
            assert incoming.producer is not None
            incoming.producer.pauseProducing()
        sending = in_thread(_send_all_then_read, peer, bytes(1 << 20), 8)
        incoming.fail(NoSpace())
        assert _refusal(await sending) == "no-space"
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["refused"]


async def test_broken_store(way: Way, expected_errors: list[str]) -> None:
    """A store that breaks its promise is logged; its sender hears no more than store-error."""
    expected_errors.append("secret")

    @implementer(IUploadStore)
    class Broken:
        def begin(
            self, arrival: Arrival, failed: Callable[[UploadRefused], None]
        ) -> IIncomingUpload:
            raise RuntimeError("secret /etc/path")

    async with open_frontend(store=Broken()) as frontend:
        assert _refusal(await way.send(frontend, b"content")) == "store-error"


async def test_broken_commit(way: Way, expected_errors: list[str]) -> None:
    """The same for a commit that fails with something else than a refusal."""
    expected_errors.append("secret")
    async with open_frontend() as frontend:
        frontend.store.failing = RuntimeError("secret /etc/path")  # type: ignore[assignment]
        assert _refusal(await way.send(frontend, b"content")) == "store-error"


# -- 4. refused while the sender sends ----------------------------------------


@pytest.mark.parametrize(("size", "code"), [(999, None), (1000, None), (1001, "too-large")])
async def test_max_size(way: Way, size: int, code: str | None) -> None:
    """The largest size is still accepted, and one byte more is not."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        answer = await way.send(frontend, b"x" * 700, b"x" * (size - 700))
        if code is None:
            assert answer == KEPT
            assert frontend.kept == [b"x" * size]
        else:
            assert _refusal(answer) == code
            assert "1000 bytes" in answer.decode()
            assert frontend.kept == []
            assert frontend.store.unfinished == []


async def test_refused_as_soon_as_known() -> None:
    """A refusal is there to be read while the sender could still send."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 1001)
        assert _refusal(await in_thread(read_all, peer)) == "too-large"


async def test_lingering_close() -> None:
    """A blocking sender that reads only at the very end still reads why it was refused."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        peer = frontend.connect()
        answer = await in_thread(_send_all_then_read, peer, bytes(1 << 20), 32)
        assert _refusal(answer) == "too-large"
        await frontend.is_quiet()
        assert frontend.log.kinds == ["refused"]


@pytest.mark.parametrize("family", ["IPv4", "unix"])
async def test_much_too_large(way: Way, tmp_path: Path, family: str) -> None:
    """
    The same for a small one, all of which may have come before it is refused: it is
    read before the connection is closed.  A unix socket would tell.
    """
    chosen = FrontendSettings(max_size=1000)
    async with open_frontend(chosen) as frontend, frontend.also_at(family, tmp_path) as connect:
        peer = await way.come(frontend, bytes(1001), bytes(100_000), connect=connect)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert _refusal(read_all(peer)) == "too-large"
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["refused"]


async def test_lingering_is_bounded_in_amount() -> None:
    """A refused sender that sends without end is cut off."""
    async with open_frontend(FrontendSettings(max_size=1000, linger_size=1 << 20)) as frontend:
        peer = frontend.connect()
        assert await in_thread(_flood, peer) in ("ECONNRESET", "EPIPE")
        await frontend.is_quiet()
        assert frontend.log.kinds == ["refused"]


async def test_lingering_is_bounded_in_time() -> None:
    """A refused sender that stays is cut off."""
    async with open_frontend(FrontendSettings(max_size=1000, linger_time=5)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 2000)
        assert _refusal(await in_thread(read_all, peer)) == "too-large"
        frontend.clock.advance(4.9)
        peer.sendall(b"still here")
        await turns()
        assert frontend.factory.protocols
        frontend.clock.advance(0.2)
        await frontend.is_quiet()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            peer.sendall(b"for nobody")


async def test_lingering_time_is_not_extended() -> None:
    """What a refused sender still sends does not buy it time."""
    async with open_frontend(FrontendSettings(max_size=1000, linger_time=5)) as frontend:
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


# -- 5. reset before the half-close -------------------------------------------


async def test_reset(way: Way) -> None:
    """A connection reset before the half-close is lost, and nothing of it is kept."""
    async with open_frontend() as frontend:
        await way.come(frontend, b"half a file", end=reset)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["lost"]
        assert frontend.log.ends[0]["size"] == 11


async def test_reset_while_paused() -> None:
    """A reset that comes while the sender is paused is noticed when it is resumed."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"half a file")
        await frontend.has_come(11)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        reset(peer)
        await turns()
        incoming.producer.resumeProducing()
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.kinds == ["lost"]


async def test_end_while_paused() -> None:
    """A half-close that comes while the sender is paused waits, with all bytes before it."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"first")
        await frontend.has_come(5)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        peer.sendall(b" and last")
        peer.shutdown(socket.SHUT_WR)
        await turns()
        assert frontend.incoming == b"first"
        incoming.producer.resumeProducing()
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.kept == [b"first and last"]


async def test_reset_of_a_port_probe(way: Way) -> None:
    """A connection that is reset without a byte is not worth a word."""
    async with open_frontend() as frontend:
        await way.come(frontend, end=reset)
        await until(lambda: frontend.log.others)
        await frontend.is_quiet()
        assert frontend.log.ends == []
        assert frontend.log.loud() == []


# -- 6. fire and forget -------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8192 * 20, 1 << 22])
async def test_fire_and_forget(size: int) -> None:
    """A sender that closes without waiting for the answer still has its file kept."""
    async with open_frontend() as frontend:

        def send() -> None:
            with frontend.connect() as peer:
                peer.sendall(b"x" * size)

        await in_thread(send)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.kept == [b"x" * size]
        assert frontend.log.kinds == ["kept"]


@pytest.mark.parametrize("end", [close, half_close_and_reset])
@pytest.mark.parametrize("size", [1, 4096, 50_000])
async def test_gone_at_the_end(way: Way, end: Callable[[socket.socket], None], size: int) -> None:
    """The same for a small one, which may be there whole with its sender gone."""
    async with open_frontend() as frontend:
        await way.come(frontend, b"x" * size, end=end)
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert frontend.kept == [b"x" * size]
        assert frontend.log.kinds == ["kept"]
        assert frontend.log.loud() == []


async def test_reset_after_the_half_close(way: Way) -> None:
    """A sender that is reset while the store keeps its file forfeits the answer, not the file."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        reset(peer)
        await turns()
        frontend.store.release()
        await frontend.is_quiet()
        assert frontend.kept == [b"content"]
        assert frontend.log.kinds == ["kept"]


async def test_loss_after_silence() -> None:
    """The same where silence ended the file; the log tells that nobody heard the answer."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        frontend.clock.advance(1)
        await until(lambda: frontend.store._held)
        reset(peer)
        await frontend.is_quiet()
        assert frontend.log.ends == []
        frontend.store.release()
        assert frontend.kept == [b"content"]
        assert frontend.log.kinds == ["kept"]
        assert frontend.log.ends[0]["heard"] is False


async def test_failure_that_nobody_hears() -> None:
    """A store that fails when the sender has gone is in the log all the same."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        frontend.store.failing = NoSpace()
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        frontend.clock.advance(1)
        await until(lambda: frontend.store._held)
        reset(peer)
        await frontend.is_quiet()
        frontend.store.release()
        assert frontend.log.kinds == ["refused"]


# -- 7. silence ---------------------------------------------------------------


async def test_idle_timeout() -> None:
    """A sender that goes silent is refused when its time is over, and told of nc -N."""
    async with open_frontend(FrontendSettings(idle_timeout=60)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"half a file")
        await frontend.has_come(11)
        pass_time(frontend.clock, 59.9)
        await turns()
        assert _heard_so_far(peer) == b""
        frontend.clock.advance(0.2)
        answer = await in_thread(read_all, peer)
        assert _refusal(answer) == "timeout"
        assert "nc -N" in answer.decode()
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert [event.get("code") for event in frontend.log.ends] == ["timeout"]


async def test_idle_without_a_byte() -> None:
    """A sender that never says anything does not stay either."""
    async with open_frontend(FrontendSettings(idle_timeout=60)) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.clock.advance(60)
        assert _refusal(await in_thread(read_all, peer)) == "timeout"


async def test_every_byte_buys_time() -> None:
    """Each byte gives a sender all of its time again."""
    async with open_frontend(FrontendSettings(idle_timeout=60, min_rate=0)) as frontend:
        peer = frontend.connect()
        for number in range(5):
            peer.sendall(b"x")
            await frontend.has_come(number + 1)
            pass_time(frontend.clock, 59)
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.kept == [b"xxxxx"]


async def test_no_idle_timeout() -> None:
    """An idle timeout of 0 is none."""
    async with open_frontend(FrontendSettings(idle_timeout=0, min_rate=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_come(1)
        frontend.clock.advance(1e6)
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == KEPT


@pytest.mark.parametrize("finish", [0, 30])
async def test_paused_time_does_not_count(finish: float) -> None:
    """Time during which we have paused the sender never counts against it."""
    chosen = FrontendSettings(idle_timeout=60, finish_after_idle=finish, min_rate=0)
    async with open_frontend(chosen) as frontend:
        seconds = finish or 60
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
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
        assert answer == KEPT if finish else _refusal(answer) == "timeout"


async def test_storing_time_does_not_count(way: Way) -> None:
    """A store may take its time: the sender has said all."""
    async with open_frontend(FrontendSettings(idle_timeout=60, finish_after_idle=10)) as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.clock.advance(3600)
        frontend.store.release()
        assert await in_thread(read_all, peer) == KEPT


async def test_finish_after_idle() -> None:
    """Silence of the chosen length ends the file, and the sender hears it without half-closing."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        peer = frontend.connect()
        peer.sendall("你好么? tcp ,我来了".encode())
        await until(lambda: frontend.incoming)
        frontend.clock.advance(0.9)
        await turns()
        assert _heard_so_far(peer) == b""
        frontend.clock.advance(0.2)
        assert await in_thread(peer.recv, 1024) == KEPT
        peer.close()
        await frontend.is_quiet()
        assert frontend.kept == ["你好么? tcp ,我来了".encode()]
        (end,) = frontend.log.ends
        assert end["by_silence"] is True
        assert "silence" in formatEvent(end)


async def test_finish_after_idle_and_half_close(way: Way) -> None:
    """A half-close ends the file at once, and is not marked as silence."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        assert await way.send(frontend, b"content") == KEPT
        assert frontend.log.ends[0]["by_silence"] is False


async def test_finish_after_idle_needs_a_byte() -> None:
    """Before the first byte it is the idle timeout that counts."""
    async with open_frontend(FrontendSettings(finish_after_idle=1, idle_timeout=60)) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.clock.advance(59)
        peer.sendall(b"content")
        await frontend.has_come(7)
        frontend.clock.advance(1)
        assert await in_thread(read_all, peer) == KEPT


@pytest.mark.parametrize("when", ["storing", "answered"])
async def test_late_bytes(when: str) -> None:
    """What comes after the silence that ended the file is too late, and changes nothing."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = when == "storing"
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        frontend.clock.advance(1)
        await turns()
        peer.sendall(b" and more")
        await turns()
        frontend.clock.advance(2)
        if when == "storing":
            frontend.store.release()
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == KEPT
        await frontend.is_quiet()
        assert frontend.kept == [b"content"]
        assert frontend.log.kinds == ["kept"]
        assert frontend.log.ends[0]["size"] == 7


async def test_late_end() -> None:
    """A half-close while the store keeps what silence has ended is no second end."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        frontend.clock.advance(1)
        peer.shutdown(socket.SHUT_WR)
        await turns()
        frontend.store.release()
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.log.kinds == ["kept"]


async def test_empty_and_finish_after_idle(way: Way) -> None:
    """An empty file that waits for its store is not ended a second time by silence."""
    async with open_frontend(FrontendSettings(finish_after_idle=1, allow_empty=True)) as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend)
        await until(lambda: frontend.store._held)
        frontend.clock.advance(2)
        frontend.store.release()
        assert await in_thread(read_all, peer) == KEPT


# -- 8. zero bytes ------------------------------------------------------------


async def test_empty(way: Way) -> None:
    """An upload of zero bytes is refused, takes nothing from the store, and is a debug line."""
    async with open_frontend() as frontend:
        assert _refusal(await way.send(frontend)) == Empty.code
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert [event["log_level"] for event in frontend.log.others] == [LogLevel.debug]


async def test_port_probe(way: Way) -> None:
    """A connection that just closes is no more than a debug line."""
    async with open_frontend() as frontend:
        await way.come(frontend, end=close)
        await until(lambda: frontend.log.others)
        await frontend.is_quiet()
        assert frontend.log.ends == []
        assert frontend.log.loud() == []


async def test_allow_empty(way: Way) -> None:
    """Where the operator wants them, empty files are kept."""
    async with open_frontend(FrontendSettings(allow_empty=True)) as frontend:
        assert await way.send(frontend) == KEPT
        assert frontend.kept == [b""]
        assert frontend.log.kinds == ["kept"]


async def test_empty_where_the_store_refuses(way: Way) -> None:
    """A store's refusal of an empty file is heard as that of any other."""
    async with open_frontend(FrontendSettings(allow_empty=True)) as frontend:
        frontend.store.refusing = Busy()
        assert _refusal(await way.send(frontend)) == "busy"


# -- the log ------------------------------------------------------------------


async def _kept(frontend: OpenFrontend, way: Way) -> None:
    await way.send(frontend, b"x" * 100)


async def _refused(frontend: OpenFrontend, way: Way) -> None:
    await way.send(frontend, b"x" * 2000)


async def _lost(frontend: OpenFrontend, way: Way) -> None:
    ends = len(frontend.log.ends)
    await way.come(frontend, b"x" * 50, end=reset)
    await until(lambda: len(frontend.log.ends) > ends)
    await frontend.is_quiet()


@pytest.mark.parametrize(
    ("scenario", "fields"),
    [
        (_kept, {"end": "kept", "size": 100, "name": "1795328130123.bin", "by_silence": False}),
        (_refused, {"end": "refused", "code": "too-large"}),
        (_lost, {"end": "lost", "size": 50}),
    ],
)
async def test_one_event_for_one_end(
    way: Way, scenario: Callable[[OpenFrontend, Way], Any], fields: Any
) -> None:
    """Every end of an upload is exactly one event, with peer, size, seconds, and name or code."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
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
    """An upload's seconds are those from the connection to the end."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_come(1)
        frontend.clock.advance(12.5)
        peer.shutdown(socket.SHUT_WR)
        await in_thread(read_all, peer)
        assert frontend.log.ends[0]["seconds"] == 12.5


async def test_seconds_of_the_store(way: Way) -> None:
    """Those that the store takes are among them."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.clock.advance(12.5)
        frontend.store.release()
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.log.ends[0]["seconds"] == 12.5


async def test_log_has_no_bytes_of_the_sender(way: Way) -> None:
    """What a sender sends is never in the log."""
    async with open_frontend() as frontend:
        await way.send(frontend, b"forged\n2026-11-22 kept everything {peer}")
        assert not any("forged" in str(event) for event in frontend.log.ends + frontend.log.others)


# -- back-pressure ------------------------------------------------------------


async def test_stalled_disk(tmp_path: Path) -> None:
    """A sender at full speed against a disk that stands still is stopped, not buffered."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        content = os.urandom(65536) * 256
        sending = in_thread(_send_all_then_read, peer, content)
        await until(lambda: rig.disk.waiting)
        await turns(200)
        assert rig.store.held < MOST_HELD + 1024 * 1024
        frontend.clock.advance(3600)
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert await sending == KEPT
        assert [*rig.kept.values()] == [content]
        assert frontend.log.kinds == ["kept"]
        assert rig.store.held == 0
    rig.close()


@pytest.mark.parametrize("call", ["create", "writev", "splice", "chmod", "fsync", "rename"])
async def test_failing_disk(tmp_path: Path, call: str) -> None:
    """A disk that fails in any step of a large upload is heard; its sender is not left hanging."""
    rig = Rig(tmp_path / "inbox", mode=0o666)
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        sending = in_thread(_send_all_then_read, peer, bytes(1 << 20), 16)
        rig.files.fail(call, errno.ENOSPC)
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert _refusal(await sending) == "no-space"
        rig.disk.work()
        assert rig.kept == {}
        assert rig.unfinished == []
        assert rig.store.held == 0
        assert frontend.log.kinds == ["refused"]
    rig.close()


async def test_lost_while_the_disk_stands_still(tmp_path: Path) -> None:
    """A sender that is lost while a disk has its bytes in hand leaves nothing."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        peer.sendall(bytes(400_000))
        await until(lambda: rig.disk.waiting)
        reset(peer)
        await frontend.is_quiet()
        rig.disk.work()
        assert rig.kept == {}
        assert rig.unfinished == []
        assert rig.store.held == 0
    rig.close()


# -- large uploads, whose socket the store takes from -------------------------


@contextlib.asynccontextmanager
async def _large_frontend(
    tmp_path: Path, chosen: FrontendSettings | None = None
) -> AsyncIterator[tuple[OpenFrontend, ThreadedRig]]:
    rig = ThreadedRig(tmp_path / "inbox", files=FaultyFiles())
    async with open_frontend(chosen, store=rig.store) as frontend:
        yield frontend, rig
    await rig.settle()
    assert rig.unfinished() == 0
    assert rig.store.held == 0
    assert len(open_descriptors(rig.folder)) <= 3
    rig.close()


def _fill(peer: socket.socket) -> bytes:
    """Send as much of a large file as the kernel takes; the rest of it."""
    peer.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < len(LARGE):
            sent += peer.send(LARGE[sent:])
    peer.settimeout(PATIENCE)
    return LARGE[sent:]


async def _is_lent(frontend: OpenFrontend, rig: Rig) -> None:
    """Wait until the store has the socket of the one upload, and do not let it go on."""
    for _ in range(100):
        await turns()
        if any(protocol._lent for protocol in frontend.senders):
            return
        rig.disk.work(1)
    raise AssertionError("it was never lent")


def _taken(rig: ThreadedRig) -> int:
    """How often the store has taken from a socket."""
    files = rig.store._files
    assert isinstance(files, FaultyFiles)
    return files.calls["receive"]


LARGE = os.urandom(1 << 20) * 24


async def test_lent(tmp_path: Path) -> None:
    """A large upload's bytes go by the short way, and are the same."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        assert await in_thread(_send_all_then_read, frontend.connect(), LARGE) == KEPT
        assert [*rig.kept().values()] == [LARGE]
        assert _taken(rig) > 0
        assert [event["size"] for event in frontend.log.ends] == [len(LARGE)]


async def test_lent_with_receipts(tmp_path: Path) -> None:
    """With receipts, the SHA-256 is that of all the bytes."""
    async with _large_frontend(tmp_path, FrontendSettings(receipts=True)) as (frontend, _):
        answer = await in_thread(_send_all_then_read, frontend.connect(), LARGE)
        read = read_answer(answer)
        assert isinstance(read, StoredAnswer)
        assert (read.size, read.sha256) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())


@settings(deadline=None, derandomize=True, max_examples=15)
@given(sizes=st.lists(st.integers(1, 3_000_000), min_size=1, max_size=5))
async def test_lent_in_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """However the bytes come, in bursts and with pauses, the file is the same bytes."""
    async with _large_frontend(tmp_path_factory.mktemp("large")) as (frontend, rig):
        peer, at = frontend.connect(), 0
        for size in sizes:
            await in_thread(peer.sendall, LARGE[at : at + size])
            at += size
            await turns(3)
        assert await in_thread(_send_all_then_read, peer, b"") == KEPT
        assert [*rig.kept().values()] == [LARGE[:at]]


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_lent_up_to_the_largest_size(tmp_path: Path, more: int) -> None:
    """The largest size is exact for large uploads too."""
    chosen = FrontendSettings(max_size=3_000_000)
    async with _large_frontend(tmp_path, chosen) as (frontend, rig):
        content = LARGE[: 3_000_000 + more]
        answer = await in_thread(_send_all_then_read, frontend.connect(), content)
        if more > 0:
            assert _refusal(answer) == "too-large"
            await rig.settle()
            assert rig.kept() == {}
        else:
            assert answer == KEPT
            assert [*rig.kept().values()] == [content]


async def test_lent_and_much_too_large(tmp_path: Path) -> None:
    """A refusal is heard by a large sender that reads only at the end."""
    async with _large_frontend(tmp_path, FrontendSettings(max_size=3_000_000)) as (frontend, rig):
        answer = await in_thread(_send_all_then_read, frontend.connect(), LARGE)
        assert _refusal(answer) == "too-large"
        await rig.settle()
        assert rig.kept() == {}


async def test_lent_and_reset(tmp_path: Path) -> None:
    """A large upload that is reset in the middle is lost."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE)
        reset(peer)
        await frontend.is_quiet()
        await rig.settle()
        assert rig.kept() == {}
        assert frontend.log.kinds == ["lost"]


async def test_lent_and_fire_and_forget(tmp_path: Path) -> None:
    """A large sender that closes without waiting for the answer has its file kept."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE)
        peer.close()
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert [*rig.kept().values()] == [LARGE]


async def test_lent_and_silent(tmp_path: Path) -> None:
    """A large sender that goes silent is refused when its time is over, and not before."""
    async with _large_frontend(tmp_path, FrontendSettings(idle_timeout=60)) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE[:3_000_000])
        await until(lambda: len(frontend.factory.active_settings.idle))
        await rig.settle()
        await turns(20)
        await rig.settle()
        pass_time(frontend.clock, 59)
        await turns()
        assert frontend.log.ends == []
        pass_time(frontend.clock, 2)
        assert _refusal(await in_thread(read_all, peer)) == "timeout"
        await rig.settle()
        assert rig.kept() == {}


async def test_lent_and_finished_by_silence(tmp_path: Path) -> None:
    """Silence ends a large upload where it is to end uploads."""
    async with _large_frontend(tmp_path, FrontendSettings(finish_after_idle=1)) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE[:3_000_000])
        await turns(20)
        await rig.settle()
        await until(lambda: len(frontend.factory.active_settings.finishing))
        frontend.clock.advance(1)
        assert await in_thread(read_all, peer) == KEPT
        assert [*rig.kept().values()] == [LARGE[:3_000_000]]


async def test_lent_while_stopping(tmp_path: Path) -> None:
    """A large upload that is refused while the store has its socket leaves nothing."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        sending = in_thread(_send_all_then_read, peer, _fill(peer))
        await _is_lent(frontend, rig)
        frontend.factory.refuse_the_rest()
        await turns(5)
        rig.disk.work()
        assert _refusal(await sending) == "shutting-down"
        rig.disk.work()
        assert rig.kept == {}
        assert rig.unfinished == []
        assert rig.store.held == 0
    rig.close()


async def test_gone_while_lent(tmp_path: Path) -> None:
    """A connection that the daemon resets while the store has its socket leaves nothing."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        sockets = len(open_descriptors("socket:"))
        peer = frontend.connect()
        _fill(peer)
        sending = in_thread(_flood, peer)
        await _is_lent(frontend, rig)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert await sending in ("ECONNRESET", "EPIPE")
        rig.disk.work()
        assert rig.kept == {}
        assert rig.unfinished == []
        peer.close()
        assert len(open_descriptors("socket:")) == sockets
    rig.close()


async def test_lent_over_a_unix_socket(tmp_path: Path) -> None:
    """The short way works for Unix sockets too."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        port = reactor.listenUNIX(str(tmp_path / "door"), frontend.factory)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(str(tmp_path / "door"))
            assert await in_thread(_send_all_then_read, peer, LARGE) == KEPT
        await port.stopListening()
        assert [*rig.kept().values()] == [LARGE]


async def test_lent_to_a_file_system_that_cannot(tmp_path: Path) -> None:
    """Where the kernel cannot move bytes from a socket to a file, they go the long way."""
    rig = ThreadedRig(tmp_path / "inbox", files=FaultyFiles())
    files = rig.store._files
    assert isinstance(files, FaultyFiles)
    files.fail("splice", errno.EINVAL, times=100_000)
    async with open_frontend(store=rig.store) as frontend:
        assert await in_thread(_send_all_then_read, frontend.connect(), LARGE) == KEPT
        assert [*rig.kept().values()] == [LARGE]
    rig.close()


async def test_many_large_at_a_time(tmp_path: Path) -> None:
    """Large uploads at the same time, more than there are disk threads, do not mix."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        sending = [
            in_thread(_send_all_then_read, frontend.connect(), LARGE[number * 1000 : 3_000_000])
            for number in range(8)
        ]
        assert [await one for one in sending] == [KEPT] * 8
        assert sorted(rig.kept().values()) == sorted(
            LARGE[number * 1000 : 3_000_000] for number in range(8)
        )


# -- stopping -----------------------------------------------------------------


async def test_drain(way: Way) -> None:
    """While it drains, uploads in flight come to their good end, and new ones are refused."""
    async with open_frontend() as frontend:
        peer, idle = frontend.connect(), frontend.connect()
        peer.sendall(b"half")
        await frontend.has_come(4)
        await until(lambda: len(frontend.factory.protocols) == 2)
        drained = frontend.factory.drain()
        assert not drained.called
        assert _refusal(await in_thread(read_all, idle)) == "shutting-down"
        assert _refusal(await in_thread(read_all, frontend.connect())) == "shutting-down"
        assert _refusal(await way.send(frontend, b"a new one")) == "shutting-down"
        assert not drained.called
        assert await in_thread(_send_all_then_read, peer, b" a file") == KEPT
        await drained
        assert frontend.kept == [b"half a file"]


async def test_drain_waits_for_the_store(way: Way) -> None:
    """An upload that the store is keeping is still in flight."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        drained = frontend.factory.drain()
        assert frontend.factory.uploads_in_flight == 1
        assert not drained.called
        frontend.store.release()
        await drained
        assert await in_thread(read_all, peer) == KEPT


async def test_drain_waits_for_the_unheard() -> None:
    """An upload whose sender has gone is still in flight until the store has kept it."""
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        frontend.clock.advance(1)
        await until(lambda: frontend.store._held)
        reset(peer)
        await frontend.is_quiet()
        drained = frontend.factory.drain()
        assert not drained.called
        frontend.store.release()
        await drained
        assert frontend.kept == [b"content"]


async def test_drain_waits_for_an_empty_one(way: Way) -> None:
    """The same for one without a byte, where those are kept."""
    async with open_frontend(FrontendSettings(allow_empty=True)) as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend)
        await until(lambda: frontend.store._held)
        drained = frontend.factory.drain()
        assert frontend.factory.uploads_in_flight == 1
        assert not drained.called
        frontend.store.release()
        await drained
        assert await in_thread(read_all, peer) == KEPT


async def test_nothing_to_drain(way: Way) -> None:
    """Where nothing is in flight, draining is over at once."""
    async with open_frontend() as frontend:
        assert await way.send(frontend, b"content") == KEPT
        await frontend.is_quiet()
        assert frontend.factory.drain().called
        assert frontend.factory.all_gone().called


@pytest.mark.parametrize("when", ["receiving", "storing"])
async def test_refuse_the_rest(when: str) -> None:
    """When the time is over, the rest is refused, and nothing of it is kept."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        if when == "storing":
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: frontend.store._held)
        drained, gone = frontend.factory.drain(), frontend.factory.all_gone()
        frontend.factory.refuse_the_rest()
        assert drained.called
        assert _refusal(await in_thread(read_all, peer)) == "shutting-down"
        frontend.store.release()
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert frontend.log.kinds == ["refused"]
        peer.close()
        await gone


async def test_refuse_what_is_being_kept(way: Way) -> None:
    """The same, however it has come, where the store is keeping it."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        drained, gone = frontend.factory.drain(), frontend.factory.all_gone()
        assert not drained.called
        assert not gone.called
        frontend.factory.refuse_the_rest()
        assert drained.called
        assert _refusal(await in_thread(read_all, peer)) == "shutting-down"
        frontend.store.release()
        assert frontend.kept == []
        assert frontend.store.unfinished == []
        assert [event.get("code") for event in frontend.log.ends] == ["shutting-down"]
        peer.close()
        await gone


async def test_stop_waiting() -> None:
    """Whoever waits for the drain can stop waiting."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        ends: list[object] = []
        waiting: list[Deferred[None]] = [frontend.factory.drain(), frontend.factory.all_gone()]
        for one in waiting:
            one.addErrback(lambda failure: ends.append(failure.type))
            one.cancel()
        assert ends == [CancelledError, CancelledError]
        assert await in_thread(_send_all_then_read, peer, b"") == KEPT


async def test_abort_the_rest() -> None:
    """Connections that will not go are reset in the end."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        await frontend.has_come(7)
        gone = frontend.factory.all_gone()
        frontend.factory.abort_the_rest()
        await gone
        with pytest.raises(ConnectionResetError):
            await in_thread(peer.recv, 1)
        assert frontend.kept == []
        assert frontend.log.kinds == ["lost"]


async def test_abort_what_is_being_kept(way: Way) -> None:
    """One that is being kept forfeits the answer, not the file; the log tells so."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
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
        assert frontend.kept == [b"content"]
        assert [(event["end"], event["heard"]) for event in frontend.log.ends] == [("kept", False)]


# -- anything -----------------------------------------------------------------

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
async def test_anything(acts: list[str], early: int, finish: bool, empty: bool) -> None:
    """
    Whatever sender, store and clock do, some of it before the connection is accepted, an
    upload has at most one end, and leaves nothing.
    """
    chosen = FrontendSettings(
        finish_after_idle=10 if finish else 0, allow_empty=empty, max_size=100_000
    )
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
        assert len(frontend.kept) == frontend.log.kinds.count("kept")
        assert frontend.log.loud() == []
        assert not frontend.clock.getDelayedCalls()


async def test_nothing_stays_open(way: Way) -> None:
    """After many connections with all kinds of ends, no descriptor is left."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        await frontend.send(b"warm up")
        before = len(open_descriptors("socket:"))
        for _ in range(20):
            await _kept(frontend, way)
            await _refused(frontend, way)
            await _lost(frontend, way)
            await way.come(frontend, end=close)
            for peer in frontend._peers:
                peer.close()
            await frontend.is_quiet()
        assert len(open_descriptors("socket:")) <= before


def test_a_protocol_for_everybody() -> None:
    """The factory gives every connection a protocol of its own."""
    factory = UploadFactory(MemoryStore(time.time), reactor)
    one, other = factory.buildProtocol(None), factory.buildProtocol(None)
    assert isinstance(one, UploadProtocol)
    assert one is not other
    assert factory.protocols == set()


async def test_reset_that_looks_like_an_end() -> None:
    """
    A reset that Twisted reports as a half-close keeps nothing.

    Where the kernel reports a disconnection in the middle of a reset, and
    nothing to read, Twisted calls it the end of the reading side.
    """
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"half of it")
        await frontend.has_come(10)
        (protocol,) = frontend.senders
        reset(peer)
        protocol.readConnectionLost()
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.kinds == ["lost"]


async def test_end_that_is_none() -> None:
    """What Twisted reports as a half-close is none while the sender can still send."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"half of it, ")
        await frontend.has_come(12)
        (protocol,) = frontend.senders
        protocol.transport.pauseProducing()
        protocol.readConnectionLost()
        peer.sendall(b"and the rest")
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == KEPT
        assert frontend.kept == [b"half of it, and the rest"]


# -- settings that change -----------------------------------------------------


async def test_new_settings_are_for_those_who_come(way: Way) -> None:
    """Settings that change bind whoever comes from then on, and nobody who is there."""
    old = FrontendSettings(max_size=100, idle_timeout=60)
    async with open_frontend(old) as frontend:
        there = frontend.connect()
        there.sendall(b"x" * 50)
        await frontend.has_come(50)
        frontend.factory.reconfigure(FrontendSettings(max_size=10, idle_timeout=5, answer="OK"))
        assert _refusal(await way.send(frontend, b"x" * 11)) == "too-large"
        assert await way.send(frontend, b"x" * 10) == b"OK"
        frontend.clock.advance(6)
        there.sendall(b"x" * 50)
        there.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, there) == KEPT
        assert sorted(map(len, frontend.kept)) == [10, 100]


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
        assert _refusal(await in_thread(read_all, there)) == "timeout"


async def test_new_rules_are_for_those_who_come(way: Way) -> None:
    """Whoever may not come in any more, and is there, stays; who has come counts."""
    async with open_frontend() as frontend:
        there = frontend.connect()
        there.sendall(b"half")
        await frontend.has_come(4)
        frontend.factory.reconfigure(FrontendSettings(max_per_address=1))
        assert _refusal(await way.send(frontend, b"another")) == "busy"
        frontend.factory.reconfigure(
            FrontendSettings(rules=Rules(deny=[parse_network("127.0.0.0/8")]))
        )
        assert _refusal(await way.send(frontend, b"another")) == "not-allowed"
        there.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, there) == KEPT
        frontend.factory.reconfigure(FrontendSettings(max_per_address=1))
        assert await way.send(frontend, b"another") == KEPT
