"""
Requests in any pieces: wherever the reads begin and end, the same bytes mean the same.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.support.http import put, store_puts
from twisted_upload.frontends.http.body import ChunkedBody, InvalidBody
from twisted_upload.frontends.http.factory import HTTPFactory
from twisted_upload.stores.memory import MemoryStore

_PEER = IPv4Address("TCP", "192.0.2.7", 50123)


class Immediate(StringTransport):
    """A transport that takes everything at once, and can be paused."""

    def __init__(self) -> None:
        super().__init__(peerAddress=_PEER)  # type: ignore[no-untyped-call]
        self.ended = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]
        producer.resumeProducing()
        producer.resumeProducing()

    def loseWriteConnection(self) -> None:
        self.ended = True


class InMemory:
    """A connection without a socket, and what it has stored and sent."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(lambda: 1_795_328_130.123, suffix=lambda _: ".bin")
        self.factory = HTTPFactory(
            self.store,
            self.clock,
            handler=store_puts,
            observers=(),
            now=lambda: 1_795_328_130.123,
        )
        self.transport = Immediate()
        self.connection: Any = self.factory.buildProtocol(_PEER)
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Let bytes arrive, as a transport passes them on: not while it is paused."""
        for _ in range(1000):
            if self.transport.producerState == "producing":
                break
            self.clock.advance(0)
        self.connection.dataReceived(data)

    def end(self) -> tuple[list[bytes], bytes]:
        """Let everything be served; return what is stored, and what has been sent."""
        for _ in range(1000):
            self.clock.advance(0)
        stored, sent = [*self.store.files.values()], self.transport.io.getvalue()
        unfinished = [bytes(it.content) for it in self.store.unfinished]
        self.connection.connectionLost()
        self.factory.stopFactory()
        assert self.factory.slots.taken == 0
        assert self.store.unfinished == []
        return stored + unfinished, sent


def result_of(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    """Return what is stored and sent if these pieces arrive one after the other."""
    memory = InMemory()
    for piece in pieces:
        memory.send(piece)
    return memory.end()


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a stream at these places."""
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5;a=b\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n0\r\nX: y\r\n\r\n"
GET = b"GET /x?y HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"

REQUESTS = st.sampled_from(
    [
        put(b"hello"),
        put(),
        put(b"x" * 300, "/name", "X-Long: " + "y" * 300),
        b"\r\n" + put(b"after an empty line"),
        put(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"),
        GET,
    ]
)
LAST = st.sampled_from(
    [
        b"",
        CHUNKED + CHUNKS,
        CHUNKED + CHUNKS + put(b"after the end"),
        put(b"last", "/", "Connection: close") + put(b"after the end"),
        put(b"smuggled", "/", "Transfer-Encoding: chunked"),
        CHUNKED + b"5\r\nhello\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost",
        put(b"incomplete")[:-1],
        b"\xff\xd8\xff",
    ]
)
CUTS = st.lists(st.integers(0, 10_000), max_size=30)


@given(st.lists(REQUESTS, max_size=5), LAST, CUTS)
def test_any_pieces(requests: list[bytes], last: bytes, cuts: list[int]) -> None:
    """Responses and stored files do not depend on how a stream is cut into reads."""
    stream = b"".join(requests) + last
    whole = result_of([stream])
    assert result_of(split(stream, cuts)) == whole
    stored, _ = whole
    assert b"after the end" not in stored
    assert b"smuggled" not in stored


@given(CUTS)
def test_chunks(cuts: list[int]) -> None:
    """A chunked body is decoded the same, however it is cut."""
    body = ChunkedBody()
    decoded = b"".join(body.feed(piece) for piece in split(CHUNKS, cuts))
    assert decoded == b"hello world"
    assert body.complete
    assert body.trailers == {"x": "y"}


@given(st.binary(max_size=64), CUTS)
def test_any_chunks(data: bytes, cuts: list[int]) -> None:
    """Any bytes are a chunked body, the beginning of one, or not valid."""

    def decode(pieces: list[bytes]) -> bytes | None:
        body = ChunkedBody()
        try:
            return b"".join(body.feed(piece) for piece in pieces)
        except InvalidBody:
            return None

    whole, cut = decode([data]), decode(split(data, cuts))
    assert whole == cut


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=12))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever a client sends, there is no exception, and nothing that it did not ask for."""
    stored, sent = result_of(pieces)
    assert stored == []
    assert sent == b"" or sent.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
