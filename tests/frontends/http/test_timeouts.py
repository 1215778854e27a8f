"""
Tests of the time that each state of a connection may take.
"""

from __future__ import annotations

import pytest

from tests.support.http import HTTPClient, StoredUpload, open_http, put
from tests.support.waiting import pass_time, turns, until
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.settings import WRITE_TIMEOUT, HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE

pytestmark = pytest.mark.usefixtures("each_transport")


async def closes_without_a_word(client: HTTPClient) -> bool:
    """Return whether the connection ends, and nothing was sent before."""
    return await client.ends()


async def test_idle_without_a_byte() -> None:
    """A client that sends nothing is disconnected at the idle timeout; there is nobody to tell."""
    async with open_http(HTTPSettings(idle_timeout=60)) as http:
        client = await http.connect_later()
        await until(lambda: http.connections)
        pass_time(http.clock, 59)
        await turns()
        assert http.connections
        pass_time(http.clock, 1)
        assert await closes_without_a_word(client)
        await http.is_quiet()
        assert http.log.ends == []


async def test_idle_between_requests() -> None:
    """The idle timeout starts again with each response."""
    async with open_http(HTTPSettings(idle_timeout=60)) as http:
        client = await http.connect_later()
        for _ in range(3):
            assert (await client.ask(put(b"hello"))).status == 201
            pass_time(http.clock, 59)
        await turns()
        assert http.connections
        pass_time(http.clock, 1)
        assert await closes_without_a_word(client)
        await http.is_quiet()


async def test_empty_lines() -> None:
    """Empty lines between requests do not keep a connection open."""
    async with open_http(HTTPSettings(idle_timeout=60)) as http:
        client = await http.connect_later()
        assert (await client.ask(put(b"hello"))).status == 201
        for _ in range(2):
            pass_time(http.clock, 29)
            client.send(b"\r\n")
            await turns()
        assert http.connections
        pass_time(http.clock, 2)
        assert await closes_without_a_word(client)
        await http.is_quiet()


async def test_head() -> None:
    """A head has its time from the first byte; more bytes earn no more of it."""
    async with open_http(HTTPSettings(head_timeout=30, idle_timeout=60)) as http:
        client = await http.connect_later()
        await until(lambda: http.connections)
        pass_time(http.clock, 50)
        (connection,) = http.connections
        sent = b"PUT / HTTP/1.1\r\nX: "
        for number in range(29):
            client.send(sent)
            await until(lambda: connection._buffer.endswith(sent))  # noqa: B023
            sent = b"%d" % number
            pass_time(http.clock, 1)
        await turns()
        assert http.connections
        pass_time(http.clock, 1)
        reply = await client.reply()
        assert (reply.status, reply.closes) == (408, True)
        client.close()
        await http.is_quiet()


async def test_second_head() -> None:
    """The time for a head starts with its first byte, even if that came with a body."""
    async with open_http(HTTPSettings(head_timeout=30, idle_timeout=600)) as http:
        client = await http.connect_later()
        assert (await client.ask(put(b"hello") + b"PUT /")).status == 201
        await turns()
        pass_time(http.clock, 29)
        await turns()
        assert http.connections
        pass_time(http.clock, 1)
        assert (await client.reply()).status == 408
        client.close()
        await http.is_quiet()


async def test_body() -> None:
    """A body without a byte for the idle timeout is refused, and the client is told."""
    async with open_http(HTTPSettings(idle_timeout=60, min_rate=0)) as http:
        client = await http.connect_later()
        client.send(put(b"x" * 10)[:-10])
        await until(lambda: http.factory.uploads_in_flight)
        for number in range(5):
            pass_time(http.clock, 59)
            client.send(b"x")
            await http.has_received(number + 1)
        pass_time(http.clock, 59)
        await turns()
        assert http.store.unfinished
        pass_time(http.clock, 1)
        reply = await client.reply()
        assert (reply.status, reply.closes) == (408, True)
        assert "timeout" in reply.text
        assert http.store.unfinished == []
        client.close()
        await http.is_quiet()


async def test_no_idle_timeout() -> None:
    """Without an idle timeout, a body may take any time."""
    async with open_http(HTTPSettings(idle_timeout=0, min_rate=0)) as http:
        client = await http.connect_later()
        client.send(put(b"hello")[:-1])
        await http.has_received(4)
        pass_time(http.clock, 10_000)
        assert (await client.ask(b"o")).status == 201


async def test_slow_body() -> None:
    """A body that is slower than the minimum rate is refused."""
    async with open_http(HTTPSettings(idle_timeout=10, min_rate=1000)) as http:
        client = await http.connect_later()
        client.send(put(bytes(100_000))[:-100_000])
        for number in range(1, 20):
            client.send(b"x")
            await until(lambda: len(http.incoming) >= number or http.log.ends)  # noqa: B023
            pass_time(http.clock, 9)
            if http.log.ends:
                break
        reply = await client.reply()
        assert reply.status == 408
        assert "slower than 1000 bytes per second" in reply.text
        client.close()
        await http.is_quiet()


async def test_paused_time_does_not_count() -> None:
    """Time in which the store has paused the client never counts against it."""
    async with open_http(HTTPSettings(idle_timeout=60, min_rate=1000)) as http:
        client = await http.connect_later()
        client.send(put(b"hello")[:-1])
        await http.has_received(4)
        (incoming,) = http.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        pass_time(http.clock, STORE_PATIENCE - 10)
        incoming.producer.resumeProducing()
        assert (await client.ask(b"o")).status == 201


async def test_stalled_process() -> None:
    """Time in which this process was stalled never counts either."""
    async with open_http(HTTPSettings(idle_timeout=60, min_rate=1000, head_timeout=30)) as http:
        body, head, idle = [await http.connect_later() for _ in range(3)]
        body.send(put(b"hello")[:-1])
        head.send(b"PUT /")
        await http.has_received(4)
        await until(lambda: any(it._buffer for it in http.connections))
        await until(lambda: len(http.connections) == 3)
        http.clock.advance(3600)
        await turns()
        assert len(http.connections) == 3
        assert (await body.ask(b"o")).status == 201
        assert (await head.ask(put(b"x").removeprefix(b"PUT /"))).status == 201
        assert (await idle.ask(put(b"x"))).status == 201


async def test_store_that_does_nothing() -> None:
    """A store that makes no progress for ten minutes has failed; the client is told."""
    async with open_http() as http:
        http.store.holding = True
        client = await http.connect_later()
        client.send(put(b"hello"))
        await until(lambda: http.store._held)
        pass_time(http.clock, STORE_PATIENCE - 10)
        await turns()
        assert http.factory.uploads_in_flight
        pass_time(http.clock, 20)
        assert (await client.reply()).status == 503
        assert http.stored == []


async def test_store_that_pauses_for_ever() -> None:
    """The same holds for a store that takes no more of a body."""
    async with open_http() as http:
        client = await http.connect_later()
        client.send(put(b"hello")[:-1])
        await http.has_received(4)
        (incoming,) = http.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        pass_time(http.clock, STORE_PATIENCE + 10)
        reply = await client.reply()
        assert (reply.status, reply.closes) == (503, True)
        client.close()
        await http.is_quiet()


async def test_handler_that_does_nothing() -> None:
    """A handler that neither responds nor accepts the body has as long as a store."""
    waiting: list[IExchange] = []
    async with open_http(handler=waiting.append) as http:
        client = await http.connect_later()
        client.send(put(b"hello"))
        await until(lambda: waiting)
        pass_time(http.clock, STORE_PATIENCE + 10)
        assert (await client.reply()).status == 503
        waiting[0].respond(Response(201))
        waiting[0].accept_body(StoredUpload(waiting[0]))
        assert http.stored == []


LARGE = bytes(30_000_000)


async def test_response_that_is_not_taken() -> None:
    """A client that does not read a response is disconnected."""
    async with open_http(handler=lambda it: it.respond(Response(200, (), LARGE))) as http:
        client = await http.connect_later()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: any(it._writing for it in http.connections))
        pass_time(http.clock, WRITE_TIMEOUT - 1)
        await turns()
        assert http.connections
        pass_time(http.clock, 1)
        await http.is_quiet()


async def test_response_that_is_taken_late() -> None:
    """A client that reads a large response gets all of it, and the connection goes on."""
    async with open_http(handler=lambda it: it.respond(Response(200, (), LARGE))) as http:
        client = await http.connect_later()
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: any(it._writing for it in http.connections))
            assert (await client.reply()).body == LARGE
        assert len(http.connections) == 1


async def test_last_response_that_is_not_taken() -> None:
    """A client that closes after the response, and does not read it, is disconnected."""
    async with open_http(handler=lambda it: it.respond(Response(200, (), LARGE))) as http:
        client = await http.connect_later()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(lambda: any(it._closing for it in http.connections))
        pass_time(http.clock, 6)
        await http.is_quiet()
