"""
Tests of requests that are refused by the connection: what the client is told, that it can
read it, and that nothing is stored.
"""

from __future__ import annotations

import pytest
from twisted.logger import LogLevel

from tests.support.http import OpenHTTP, Reply, open_http, put
from tests.support.tls_peers import client_context
from tests.support.waiting import in_thread, until
from twisted_upload.frontends.http.head import LONGEST_HEAD
from twisted_upload.frontends.http.settings import HTTPSettings

pytestmark = pytest.mark.usefixtures("each_transport")

CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
AFTER = put(b"this must never be stored", "/smuggled")


async def refused(http: OpenHTTP, *pieces: bytes) -> Reply:
    """Send bytes; return the only response, after which the connection ends."""
    client = await http.connect_later()
    reply = await client.ask(*pieces)
    assert reply.closes
    assert await client.ends()
    client.close()
    await http.is_quiet()
    assert http.stored == []
    assert http.store.unfinished == []
    assert [event for event in http.log.others if event["log_level"] > LogLevel.info] == []
    return reply


BAD = {
    "length and chunks": (
        put(b"0\r\n\r\n", "/", "Transfer-Encoding: chunked") + AFTER,
        400,
    ),
    "two lengths": (put(b"12345", "/", "Content-Length: 5") + AFTER, 400),
    "space before colon": (put(b"12345", "/", "Transfer-Encoding : chunked") + AFTER, 400),
    "folded": (put(b"12345", "/", "X: y\r\n z") + AFTER, 400),
    "bare LF": (put(b"12345", "/", "X: y\nTransfer-Encoding: chunked") + AFTER, 400),
    "unknown coding": (
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n" + AFTER,
        501,
    ),
    "huge": (b"PUT / HTTP/1.1\r\nX: " + b"a" * LONGEST_HEAD, 431),
    "huge and complete": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * LONGEST_HEAD + b"\r\n\r\n" + AFTER,
        431,
    ),
    "no HTTP": (b"\xff\xd8\xff\xe0" + bytes(100000), 400),
    "a line of text": (b"hello\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "method": (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "expectation": (put(b"12345", "/", "Expect: the unexpected"), 417),
}


@pytest.mark.parametrize(("sent", "status"), BAD.values(), ids=BAD.keys())
async def test_refused(sent: bytes, status: int) -> None:
    """A head that is not valid is refused, and what follows it is not read as a request."""
    async with open_http() as http:
        reply = await refused(http, sent)
        assert reply.status == status
        assert reply.text.startswith("上传失败: ")


CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "space": b"5 \r\nhello\r\n0\r\n\r\n",
    "bare LF": b"5\nhello\n0\n\n",
    "bare LF after data": b"5\r\nhello\n0\r\n\r\n",
    "bare CR": b"5\rhello\r0\r\r",
    "too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "too short": b"6\r\nhello\r\n0\r\n\r\n\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "length in the trailers": b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    "folded trailer": b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
    "endless extension": b"5;" + b"a" * 200_000,
    "endless trailers": b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 10_000,
    "little in many": b"1;aaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 10_000,
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_chunks(chunks: bytes) -> None:
    """Chunks that are not valid end the request: nothing is stored."""
    async with open_http() as http:
        reply = await refused(http, CHUNKED, chunks)
        assert reply.status == 400
        assert "bad-request" in reply.text


async def test_in_pieces() -> None:
    """Bytes that are not HTTP are refused with the first one that cannot be."""
    async with open_http() as http:
        client = await http.connect_later()
        client.send(b"SSH-2.0")
        await until(lambda: any(it._buffer for it in http.connections))
        reply = await client.ask(b"-OpenSSH\r\n")
        assert (reply.status, await client.ends()) == (400, True)


async def test_tls_at_the_wrong_port() -> None:
    """A client that speaks TLS to a port that does not is told so, and sees no timeout."""
    async with open_http() as http:
        if http.over_tls:
            return
        client = http.connect()
        context = client_context()

        def shake_hands() -> str:
            try:
                context.wrap_socket(client.socket, server_hostname="127.0.0.1")
            except OSError as error:
                return str(error)
            return ""

        assert "version number" in (await in_thread(shake_hands)).lower().replace("_", " ")
        await http.is_quiet()


async def test_large_body_after_a_refusal() -> None:
    """A client that sends everything before it reads has the response all the same."""
    async with open_http() as http:
        client = await http.connect_later()
        request = put(bytes(8 << 20), "/", "Content-Length: 1")
        reply = await client.ask(request)
        assert reply.status == 400
        client.close()
        await http.is_quiet()


async def test_lingering_is_bounded_in_size() -> None:
    """A client that sends on without end after a refusal is disconnected."""
    async with open_http(HTTPSettings(linger_size=1 << 20)) as http:
        client = await http.connect_later()

        def flood() -> bool:
            client.send(put(b"1", "/", "Content-Length: 1"))
            try:
                for _ in range(1000):
                    client.send(bytes(1 << 20))
            except OSError:
                return True
            return False

        assert await in_thread(flood)
        await http.is_quiet()


async def test_lingering_is_bounded_in_time() -> None:
    """A client that does not close after the last response is disconnected."""
    async with open_http(HTTPSettings(linger_time=5)) as http:
        client = await http.connect_later()
        assert (await client.ask(b"hello\n")).status == 400
        assert http.connections
        http.clock.advance(4.9)
        assert http.connections
        http.clock.advance(0.2)
        await http.is_quiet()
