"""
Tests of ordinary requests: one after the other on one connection.
"""

from __future__ import annotations

import pytest

from tests.support.http import open_http, put
from tests.support.waiting import turns, until

pytestmark = pytest.mark.usefixtures("each_transport")


async def test_put() -> None:
    """A PUT of known length is stored, and answered when it has been."""
    async with open_http() as http:
        reply = await http.ask(put(b"hello"))
        assert (reply.status, http.stored) == (201, [b"hello"])
        assert reply.text == "1795328130123.bin\n"
        assert reply.fields["date"] == "Sun, 22 Nov 2026 06:15:30 GMT"
        assert not reply.closes
        assert http.log.kinds == ["stored"]


@pytest.mark.parametrize("request_", [put(b"hello"), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03"])
async def test_types_are_not_guessed(request_: bytes) -> None:
    """Every response tells browsers to believe its type, whatever it says."""
    async with open_http() as http:
        reply = await http.ask(request_)
        assert reply.fields["x-content-type-options"] == "nosniff"


async def test_keep_alive() -> None:
    """A connection carries one request after the other."""
    async with open_http() as http:
        client = await http.connect_later()
        for number in range(3):
            body = b"%d" % number * 1000
            assert (await client.ask(put(body))).status == 201
            assert http.stored[-1] == body
        assert len(http.connections) == 1


async def test_body_in_pieces() -> None:
    """The body may come after the head, in any number of pieces."""
    async with open_http() as http:
        client = await http.connect_later()
        request = put(b"x" * 1000)
        client.send(request[:-1000])
        await until(lambda: http.factory.uploads_in_flight)
        client.send(b"x" * 500)
        await http.has_received(500)
        reply = await client.ask(b"x" * 500)
        assert (reply.status, http.stored) == (201, [b"x" * 1000])


async def test_head_in_pieces() -> None:
    """The head may come byte by byte."""
    async with open_http() as http:
        client = await http.connect_later()
        request = put(b"hello")
        for number in range(len(request)):
            client.send(request[number : number + 1])
            await until(lambda: http.connections)
        assert (await client.reply()).status == 201
        assert http.stored == [b"hello"]


async def test_other_methods() -> None:
    """A request without a body is answered at once."""
    async with open_http() as http:
        reply = await http.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (reply.status, reply.body) == (200, b"hello\n")


async def test_chunked() -> None:
    """A chunked body is stored; the connection closes after it."""
    async with open_http() as http:
        client = await http.connect_later()
        head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await client.ask(head, b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n")
        assert (reply.status, http.stored) == (201, [b"hello world"])
        assert reply.closes
        assert await client.ends()


async def test_pipelining() -> None:
    """Requests that are sent together are answered one after the other."""
    async with open_http() as http:
        client = await http.connect_later()
        bodies = [b"%d" % number for number in range(100)]
        client.send(b"".join(map(put, bodies)))
        for number in range(len(bodies)):
            while len(http.stored) <= number:
                http.clock.advance(0)  # the next ones have their turn
                await turns(1)
            assert (await client.reply()).status == 201
        assert http.stored == bodies
