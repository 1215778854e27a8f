"""
Uploads over the raw front end, on real sockets: their bytes are the file, and the answer
says that it has been stored.
"""

from __future__ import annotations

import gc
import hashlib
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from tests.support.frontends import open_frontend
from tests.support.senders import (
    STORED,
    read_all,
    received_so_far,
    refusal_code,
    send_all_then_read,
)
from tests.support.waiting import in_thread, reactor, turns, until
from tests.support.ways import Way, close
from twisted_upload.core.answers import SUCCESS, StoredAnswer, read_answer
from twisted_upload.errors import Busy, Empty
from twisted_upload.frontends.raw.factory import UploadFactory, UploadProtocol
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.stores.memory import MemoryStore

pytestmark = pytest.mark.each_transport


async def test_transports(request: pytest.FixtureRequest) -> None:
    """These tests use the transports that their parameter says."""
    async with open_frontend() as frontend:
        eager = request.node.callspec.params["_eager"]
        assert (frontend.port.transport is not tcp.Server) is eager


def test_interfaces() -> None:
    """The protocol is told of half-closes, and is a producer that can be paused."""
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
    """However the bytes are split on their way, the file has the same bytes."""
    async with open_frontend() as frontend:
        sending = way.send(frontend, *pieces) if way is not None else frontend.send(*pieces)
        assert await sending == STORED
        assert frontend.stored == [b"".join(pieces)]


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
        assert await way.send(frontend, content) == STORED
        assert frontend.stored == [content]


async def test_large() -> None:
    """A large file is stored whole, and its sender is told."""
    content = os.urandom(1 << 20) * 16
    async with open_frontend() as frontend:
        assert await frontend.send(content) == STORED
        assert hashlib.sha256(frontend.stored[0]).digest() == hashlib.sha256(content).digest()


async def test_many_at_a_time() -> None:
    """Many connections at a time are as many uploads, each with its own bytes and answer."""
    async with open_frontend(RawSettings(max_per_address=100)) as frontend:

        def send() -> list[bytes]:
            peers = [frontend.connect() for _ in range(100)]
            for part in b"first %d", b" and second %d":
                for number, peer in enumerate(peers):
                    peer.sendall(part % number)
            for peer in peers:
                peer.shutdown(socket.SHUT_WR)
            return [read_all(peer) for peer in peers]

        assert await in_thread(send) == [STORED] * 100
        assert sorted(frontend.stored) == sorted(
            b"first %d and second %d" % (number, number) for number in range(100)
        )
        assert frontend.log.kinds == ["stored"] * 100


async def test_large_does_not_delay_small(way: Way) -> None:
    """A large upload in flight does not delay a small one."""
    async with open_frontend() as frontend:
        large = frontend.connect()
        piece = bytes(1 << 20)
        await in_thread(large.sendall, piece)
        assert await way.send(frontend, b"small") == STORED
        assert frontend.stored == [b"small"]
        assert await in_thread(send_all_then_read, large, piece) == STORED
        assert len(frontend.stored) == 2


async def test_unix_socket(way: Way, tmp_path: Path) -> None:
    """A front end can listen on a Unix socket, with half-closes and answers."""
    async with open_frontend() as frontend, frontend.also_at("unix", tmp_path) as connect:
        assert await way.send(frontend, b"content", connect=connect) == STORED
        assert frontend.stored == [b"content"]
        assert frontend.log.ends[0]["peer"] == f"unix uid {os.getuid()} pid {os.getpid()}"


@pytest.mark.parametrize(
    ("family", "name"), [("IPv4", "127.0.0.1:{}"), ("mapped", "127.0.0.1:{}"), ("IPv6", "[::1]:{}")]
)
async def test_name_of_a_sender(way: Way, family: str, name: str) -> None:
    """A sender is named as people write such addresses, also an IPv4 sender at an IPv6 socket."""
    async with open_frontend() as frontend, frontend.also_at(family) as connect:
        peer = await way.arrive(frontend, b"content", connect=connect)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.log.ends[0]["peer"] == name.format(peer.getsockname()[1])


# -- 2. stored ----------------------------------------------------------------


async def test_answer(way: Way) -> None:
    """The answer is exactly 12 bytes, and then the connection closes."""
    async with open_frontend() as frontend:
        answer = await way.send(frontend, b"content")
        assert answer == b"\xe4\xb8\x8a\xe4\xbc\xa0\xe6\x88\x90\xe5\x8a\x9f"
        assert len(answer) == 12
        await frontend.is_quiet()


async def test_answer_waits_for_the_store(way: Way) -> None:
    """A sender that has half-closed is told success when, and only when, the file is stored."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.clock.advance(3600)
        await turns()
        assert received_so_far(peer) == b""
        assert frontend.stored == []
        assert frontend.log.ends == []
        frontend.store.release()
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"content"]


async def test_custom_answer(way: Way) -> None:
    """The operator chooses the text of the answer."""
    async with open_frontend(RawSettings(answer="我很好,谢谢你")) as frontend:
        assert await way.send(frontend, b"content") == "我很好,谢谢你".encode()


@pytest.mark.parametrize("answer", [SUCCESS, "OK"])
async def test_receipts(way: Way, answer: str) -> None:
    """With receipts, the answer is one line with name, size and SHA-256."""
    async with open_frontend(RawSettings(receipts=True, answer=answer)) as frontend:
        received = await way.send(frontend, b"hello")
        digest = hashlib.sha256(b"hello").hexdigest()
        assert received.decode() == f"{answer} 1795328130123.bin 5 {digest}\n"
        assert read_answer(received, answer) == StoredAnswer("1795328130123.bin", 5, digest)
        assert frontend.store.files == {"1795328130123.bin": b"hello"}


async def test_half_closed_is_not_garbage(way: Way) -> None:
    """A half-closed connection that waits for its store survives garbage collection."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        gc.collect()
        frontend.store.release()
        assert await in_thread(read_all, peer) == STORED


# -- 8. zero bytes ------------------------------------------------------------


async def test_empty(way: Way) -> None:
    """An upload of zero bytes is refused, does not reach the store, and is only a debug line."""
    async with open_frontend() as frontend:
        assert refusal_code(await way.send(frontend)) == Empty.code
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.store.unfinished == []
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert [event["log_level"] for event in frontend.log.others] == [LogLevel.debug]


async def test_port_probe(way: Way) -> None:
    """A connection that just closes is only a debug line."""
    async with open_frontend() as frontend:
        await way.arrive(frontend, end=close)
        await until(lambda: frontend.log.others)
        await frontend.is_quiet()
        assert frontend.log.ends == []
        assert frontend.log.loud() == []


async def test_allow_empty(way: Way) -> None:
    """With ``--allow-empty``, empty files are stored."""
    async with open_frontend(RawSettings(allow_empty=True)) as frontend:
        assert await way.send(frontend) == STORED
        assert frontend.stored == [b""]
        assert frontend.log.kinds == ["stored"]


async def test_empty_where_the_store_refuses(way: Way) -> None:
    """If the store refuses an empty file, the sender is told, as for any other."""
    async with open_frontend(RawSettings(allow_empty=True)) as frontend:
        frontend.store.refusing = Busy()
        assert refusal_code(await way.send(frontend)) == "busy"


def test_one_protocol_per_connection() -> None:
    """The factory builds a new protocol for each connection."""
    factory = UploadFactory(MemoryStore(time.time), reactor)
    one, other = factory.buildProtocol(None), factory.buildProtocol(None)
    assert isinstance(one, UploadProtocol)
    assert one is not other
    assert factory.protocols == {}
