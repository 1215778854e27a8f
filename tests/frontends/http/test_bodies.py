"""
Tests of bodies: how they arrive, how they break off, and what follows them.
"""

from __future__ import annotations

import pytest

from tests.support.http import HTTPClient, StoredUpload, open_http, put
from tests.support.senders import reset
from tests.support.waiting import turns, until
from twisted_upload.errors import NoSpace, NotAllowed
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.settings import HTTPSettings

pytestmark = pytest.mark.usefixtures("each_transport")

CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_next_request_with_the_body() -> None:
    """Bytes after the body are the next request, wherever the reads begin and end."""
    async with open_http() as http:
        client = await http.connect_later()
        first = put(b"1" * 1000)
        client.send(first[:-500])
        await http.has_received(500)
        client.send(first[-500:] + put(b"2"))
        assert (await client.reply()).status == 201
        assert (await client.reply()).status == 201
        assert http.stored == [b"1" * 1000, b"2"]


async def test_what_follows_waits() -> None:
    """While a request waits for its store, the next one waits, and so do its bytes."""
    async with open_http() as http:
        http.store.holding = True
        client = await http.connect_later()
        client.send(put(b"1"))
        await until(lambda: http.store._held)
        client.send(put(b"2" * 3_000_000)[:1_000_000])
        await turns()
        (connection,) = http.connections
        assert len(connection._buffer) <= 256 * 1024
        assert len(http.store.unfinished) == 1
        http.store.release()
        assert (await client.reply()).status == 201
        await http.has_received(900_000)


async def test_body_of_another_request() -> None:
    """A body that has not been taken is not read as a request, if it has arrived."""
    smuggled = put(b"smuggled")
    async with open_http(handler=lambda exchange: exchange.respond(Response(409))) as http:
        client = await http.connect_later()
        reply = await client.ask(put(smuggled))
        assert (reply.status, reply.closes) == (409, False)
        reply = await client.ask(put(smuggled))
        assert (reply.status, reply.closes) == (409, False)


async def test_body_that_is_not_wanted() -> None:
    """If the rest of a body that is not taken is still to come, the connection closes."""
    smuggled = put(b"smuggled")
    async with open_http(handler=lambda exchange: exchange.respond(Response(409))) as http:
        client = await http.connect_later()
        client.send(put(smuggled)[: -len(smuggled)])
        reply = await client.reply()
        assert (reply.status, reply.closes) == (409, True)
        client.send(smuggled)
        assert await client.ends()
        client.close()
        await http.is_quiet()


# -- 100-continue ------------------------------------------------------------------

EXPECTING = put(b"hello", "/", "Expect: 100-continue")


async def test_continue() -> None:
    """A client that waits is told to go on when the body is accepted."""
    async with open_http() as http:
        client = await http.connect_later()
        assert (await client.ask(EXPECTING[:-5])).status == 100
        assert (await client.ask(b"hello")).status == 201


async def test_no_continue() -> None:
    """A client that does not wait is not told to go on."""
    async with open_http() as http:
        client = await http.connect_later()
        assert (await client.ask(EXPECTING)).status == 201


async def test_no_continue_if_the_body_has_begun() -> None:
    """A client whose body has begun to arrive does not wait: RFC 9110, section 10.1.1."""
    async with open_http() as http:
        client = await http.connect_later()
        client.send(EXPECTING[:-1])
        await http.has_received(4)
        assert (await client.ask(EXPECTING[-1:])).status == 201


async def test_continue_when_accepted() -> None:
    """A handler may take its time before it accepts a body."""
    waiting: list[IExchange] = []
    async with open_http(handler=waiting.append) as http:
        client = await http.connect_later()
        client.send(EXPECTING[:-5])
        await until(lambda: waiting)
        (exchange,) = waiting
        exchange.accept_body(StoredUpload(exchange))
        assert (await client.reply()).status == 100
        assert (await client.ask(b"hello")).status == 201


async def test_refused_before_continue() -> None:
    """A refusal comes instead of 100, and the connection closes: the body may come or not."""

    def refuse(exchange: IExchange) -> None:
        raise NotAllowed

    async with open_http(handler=refuse) as http:
        client = await http.connect_later()
        reply = await client.ask(EXPECTING[:-5])
        assert (reply.status, reply.closes) == (403, True)
        assert await client.ends()
        client.close()
        await http.is_quiet()


async def test_refused_by_the_store_before_continue() -> None:
    """A store that begins no upload refuses with the first byte; then there was a 100."""
    async with open_http() as http:
        http.store.refusing = NoSpace()
        client = await http.connect_later()
        assert (await client.ask(EXPECTING[:-5])).status == 100
        reply = await client.ask(b"hello")
        assert (reply.status, reply.closes) == (507, False)


# -- how bodies break off -----------------------------------------------------------


async def half_closes(client: HTTPClient) -> None:
    client.half_close()


async def resets(client: HTTPClient) -> None:
    reset(client.socket)


@pytest.mark.parametrize("end", [half_closes, resets])
@pytest.mark.parametrize("request_", [put(b"x" * 100)[:-1], CHUNKED + b"64\r\n" + b"x" * 99])
async def test_broken_body(request_: bytes, end: object) -> None:
    """A body that breaks off is aborted: nothing is stored."""
    async with open_http() as http:
        if http.over_tls and end is half_closes:
            return  # below TLS, that is a truncation
        client = await http.connect_later()
        client.send(request_)
        await http.has_received(99)
        await end(client)  # type: ignore[operator]
        await until(lambda: http.log.kinds == ["aborted"])
        if end is half_closes:
            reply = await client.reply()
            assert (reply.status, reply.closes) == (400, True)
            assert "end of the body" in reply.text
            client.close()
        await http.is_quiet()
        assert http.store.unfinished == []
        assert http.stored == []


async def test_broken_off_before_it_is_accepted() -> None:
    """A handler that is late for a body that has broken off is told so."""
    waiting: list[IExchange] = []
    told: list[str] = []

    class Late(StoredUpload):
        def broke_off(self) -> None:
            told.append("broke off")

    async with open_http(handler=waiting.append) as http:
        client = await http.connect_later()
        client.send(put(b"hello")[:-1])
        await until(lambda: waiting)
        reset(client.socket)
        await turns()
        await http.is_quiet()
        (exchange,) = waiting
        exchange.accept_body(Late(exchange))
        assert told == ["broke off"]
        assert http.factory.uploads_in_flight == 0
        assert http.stored == []


async def test_too_large() -> None:
    """A chunked body that is too large is refused, and the client can read that."""
    async with open_http(HTTPSettings(max_size=1000)) as http:
        client = await http.connect_later()
        body = b"%x\r\n" % 4_000_000 + bytes(4_000_000)
        reply = await client.ask(CHUNKED, body)
        assert (reply.status, reply.closes) == (413, True)
        client.close()
        await http.is_quiet()
        assert http.stored == []


async def test_store_fails() -> None:
    """A store that fails in the middle of a body refuses it at once."""
    async with open_http() as http:
        client = await http.connect_later()
        client.send(put(b"hello")[:-1])
        await http.has_received(4)
        (incoming,) = http.store.unfinished
        incoming.fail(NoSpace())
        reply = await client.reply()
        assert (reply.status, reply.closes) == (507, True)
        client.close()
        await http.is_quiet()


async def test_back_pressure() -> None:
    """A store that pauses its producer stops the client; nothing is lost."""
    async with open_http() as http:
        client = await http.connect_later()
        content = b"x" * 3_000_000
        request = put(content)
        client.send(request[:1000])
        await until(lambda: http.store.unfinished)
        (incoming,) = http.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        sending = client.ask_later(request[1000:])
        await turns(20)
        assert len(incoming.content) < 300_000
        incoming.producer.resumeProducing()
        assert (await sending).status == 201
        assert http.stored == [content]


async def test_paused_at_the_end() -> None:
    """A store that has paused its producer when the body ends blocks no further request."""
    paused: list[object] = []

    class Pausing(StoredUpload):
        def received(self, data: bytes) -> None:
            super().received(data)
            self._exchange.pauseProducing()
            paused.append(self)
            self._exchange.resumeProducing()
            if self.size == 5:
                self._exchange.pauseProducing()

    async with open_http(handler=lambda it: it.accept_body(Pausing(it))) as http:
        client = await http.connect_later()
        for _ in range(3):
            client.send(put(b"hello")[:-4])
            await until(lambda: http.store.unfinished)
            assert (await client.ask(b"ello")).status == 201
        assert http.stored == [b"hello"] * 3
        assert paused


# -- trailers -------------------------------------------------------------------------


async def test_trailers() -> None:
    """The reader of a chunked body is given its trailers."""
    found: list[object] = []

    class Reading(StoredUpload):
        def ended(self, trailers: object) -> None:
            found.append(trailers)
            super().ended({})

    async with open_http(handler=lambda it: it.accept_body(Reading(it))) as http:
        end = b"0\r\nUpload-Checksum: sha1 abc\r\nX: 1\r\nx: 2\r\n\r\n"
        reply = await http.ask(CHUNKED, b"5;name=value\r\nhello\r\n", end)
        assert (reply.status, http.stored) == (201, [b"hello"])
        assert found == [{"upload-checksum": "sha1 abc", "x": "1, 2"}]
