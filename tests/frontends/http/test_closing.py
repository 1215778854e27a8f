"""
Tests of how connections end: as the client says, when the daemon stops, and when something
breaks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

import pytest

from tests.support.http import StoredUpload, open_http, put
from tests.support.senders import reset
from tests.support.waiting import turns, until
from twisted_upload.errors import ShuttingDown, StoreFailed
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Problem, Response
from twisted_upload.frontends.http.settings import HTTPSettings


class ClosingReader(StoredUpload):
    """Takes a body, and stores nothing."""

    complete = False

    def received(self, data: bytes) -> None:
        pass

    def ended(self, trailers: Mapping[str, str]) -> None:
        self.complete = True

    def came_whole(self, data: bytes) -> None:
        self.complete = True

    def left(self) -> None:
        pass

    def close(self) -> None:
        self._exchange.close()


pytestmark = pytest.mark.usefixtures("each_transport")


# -- as the client says -----------------------------------------------------------


async def test_close() -> None:
    """A client that asks for it has the connection closed after the response."""
    async with open_http() as http:
        client = await http.connect_later()
        reply = await client.ask(put(b"hello", "/", "Connection: close"))
        assert (reply.status, reply.closes) == (201, True)
        assert await client.ends()
        await http.is_quiet()


@pytest.mark.parametrize("leaves", [False, True])
async def test_close_instead_of_a_response(leaves: bool) -> None:
    """
    A handler can close the connection instead of responding, before its client has left or
    after that: nothing of the connection is left.
    """
    readers: list[ClosingReader] = []

    def handler(exchange: IExchange) -> None:
        readers.append(ClosingReader(exchange))
        exchange.accept_body(readers[0])

    async with open_http(handler=handler) as http:
        client = await http.connect_later()
        client.send(put(b"hello"))
        await until(lambda: readers and readers[0].complete)
        assert http.factory.uploads_in_flight == 1
        if leaves:
            reset(client.socket)
            await until(lambda: not http.factory.protocols)
        readers[0].close()
        await until(lambda: not http.factory.protocols)
        assert not http.factory.uploads_in_flight
        assert not http.factory.slots.taken


async def test_old_version() -> None:
    """HTTP/1.0 connections are closed, unless the client asks for the contrary."""
    async with open_http() as http:
        client = await http.connect_later()
        request = put(b"hello", "/", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
        for _ in range(2):
            reply = await client.ask(request)
            assert (reply.status, reply.fields["connection"]) == (201, "keep-alive")
        reply = await client.ask(put(b"hello").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (reply.status, reply.closes) == (201, True)
        assert await client.ends()
        await http.is_quiet()


async def test_head_has_no_body() -> None:
    """The response to HEAD has the length that GET would have, and no body."""
    async with open_http() as http:
        client = await http.connect_later()
        request = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
        for _ in range(2):
            reply = await client.ask(request, method="HEAD")
            assert reply.fields["content-length"] == "6"


async def test_no_content() -> None:
    """A response without content has no length either: RFC 9110, section 8.6."""
    async with open_http(handler=lambda it: it.respond(Response(204))) as http:
        client = await http.connect_later()
        for _ in range(2):
            reply = await client.ask(put())
            assert reply.status == 204
            assert "content-length" not in reply.fields


async def test_half_close_after_the_request() -> None:
    """A client that half-closes after its request still gets the response."""
    async with open_http() as http:
        if http.over_tls:
            return  # it has no half-close in Python's ssl module
        http.store.holding = True
        client = await http.connect_later()
        client.send(put(b"hello")).half_close()
        await until(lambda: http.store._held)
        await turns()
        http.store.release()
        reply = await client.reply()
        assert (reply.status, reply.closes) == (201, True)
        assert await client.ends()
        await http.is_quiet()
        assert http.stored == [b"hello"]


async def test_half_close_at_once() -> None:
    """The same holds if request and end arrive together."""
    async with open_http() as http:
        if http.over_tls:
            return
        client = http.connect()
        client.send(put(b"1"), put(b"2")).half_close()
        assert (await client.reply()).status == 201
        assert (await client.reply()).status == 201
        assert await client.ends()
        await http.is_quiet()
        assert http.stored == [b"1", b"2"]


async def test_half_close_within_a_head() -> None:
    """A head that breaks off is refused, if anybody listens."""
    async with open_http() as http:
        if http.over_tls:
            return
        client = await http.connect_later()
        client.send(b"PUT / HTTP/1.1\r\nHost").half_close()
        reply = await client.reply()
        assert (reply.status, reply.closes) == (400, True)
        assert await client.ends()
        await http.is_quiet()


@pytest.mark.parametrize("requests", [0, 1])
async def test_close_when_idle(requests: int) -> None:
    """A client that closes between two requests leaves nothing behind, and no log line."""
    async with open_http() as http:
        client = await http.connect_later()
        for _ in range(requests):
            await client.ask(put(b"hello"))
        await until(lambda: http.connections)
        client.close()
        await http.is_quiet()
        assert http.log.kinds == ["stored"] * requests
        assert http.log.loud() == []


async def test_reset_before_the_response() -> None:
    """A client that disconnects before the response forfeits the response, not the file."""
    async with open_http() as http:
        http.store.holding = True
        client = await http.connect_later()
        client.send(put(b"hello"))
        await until(lambda: http.store._held)
        reset(client.socket)
        await http.is_quiet()
        assert http.factory.uploads_in_flight == 1
        assert http.factory.slots.taken == 1
        http.store.release()
        assert http.stored == [b"hello"]
        assert http.factory.uploads_in_flight == 0
        assert http.factory.slots.taken == 0
        assert [event["answered"] for event in http.log.ends] == [False]


# -- when the daemon stops -----------------------------------------------------------


async def test_drain() -> None:
    """A request in flight is finished, and its connection closed; idle ones close at once."""
    async with open_http() as http:
        busy, idle, fresh = [await http.connect_later() for _ in range(3)]
        await idle.ask(put(b"before"))
        busy.send(put(b"hello")[:-1])
        await http.has_received(4)
        await until(lambda: len(http.connections) == 3)
        drained = http.factory.drain()
        assert await idle.ends()
        assert await fresh.ends()
        assert not drained.called
        reply = await busy.ask(b"o")
        assert (reply.status, reply.closes) == (201, True)
        await drained
        assert await busy.ends()
        await http.is_quiet()
        assert http.stored == [b"before", b"hello"]


async def test_new_connections_begin() -> None:
    """Before it drains, a daemon waits for new connections, and not for idle ones."""
    async with open_http() as http:
        old, new, leaving = [await http.connect_later() for _ in range(3)]
        await old.ask(put(b"before"))
        await until(lambda: len(http.connections) == 3)
        begun = http.factory.all_begun()
        assert not begun.called
        new.send(put(b"hello")[:-1])
        await http.has_received(4)
        leaving.close()
        await begun


async def test_drain_within_a_head() -> None:
    """A request whose head is not complete is refused."""
    async with open_http() as http:
        client = await http.connect_later()
        client.send(b"PUT / HT")
        await until(lambda: any(it._buffer for it in http.connections))
        await http.factory.drain()
        reply = await client.reply()
        assert (reply.status, reply.closes) == (503, True)
        client.close()
        await http.is_quiet()


async def test_new_connection_while_draining() -> None:
    """A new connection hears in HTTP that the daemon stops."""
    async with open_http() as http:
        if http.over_tls:
            return  # dropped before the handshake
        await http.factory.drain()
        reply = await http.ask(put(b"hello"))
        assert (reply.status, reply.closes) == (503, True)
        assert "shutting-down" in reply.text


async def test_refuse_the_rest() -> None:
    """When the time to drain is over, what is in flight is refused."""
    async with open_http() as http:
        body, storing = [await http.connect_later() for _ in range(2)]
        http.store.holding = True
        storing.send(put(b"hello"))
        await until(lambda: http.store._held)
        body.send(put(b"hello")[:-1])
        await until(lambda: len(http.store.unfinished) == 2)
        drained = http.factory.drain()
        http.factory.refuse_the_rest()
        await drained
        for client in body, storing:
            reply = await client.reply()
            assert (reply.status, reply.closes) == (503, True)
            client.close()
        await http.is_quiet()
        assert http.stored == []


# -- when something breaks -------------------------------------------------------------


class Broken(Exception):
    """What must not happen."""


def breaks(exchange: IExchange) -> None:
    raise Broken


class BrokenReader(StoredUpload):
    """A reader that fails with the bytes that it is given."""

    def received(self, data: bytes) -> None:
        super().received(data)
        raise Broken

    def came_whole(self, data: bytes) -> None:
        raise Broken


def reads_and_breaks(exchange: IExchange) -> None:
    exchange.accept_body(BrokenReader(exchange))


def accepts_and_breaks(exchange: IExchange) -> None:
    exchange.accept_body(StoredUpload(exchange))
    raise Broken


def accepts_and_refuses(exchange: IExchange) -> None:
    exchange.accept_body(StoredUpload(exchange))
    raise Problem(409, "conflict", "too late")


@pytest.mark.parametrize(
    "handler", [breaks, reads_and_breaks, accepts_and_breaks], ids=lambda it: it.__name__
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "part"])
async def test_internal_error(handler: object, whole: bool, expected_errors: list[str]) -> None:
    """A handler that fails unexpectedly: 500 without details, logged, closed, nothing stored."""
    expected_errors.append("Broken")
    async with open_http(handler=handler) as http:  # type: ignore[arg-type]
        http.store.holding = True
        client = await http.connect_later()
        request = put(b"hello")
        reply = await client.ask(request if whole else request[:-1])
        assert (reply.status, reply.closes) == (500, True)
        assert "Broken" not in reply.text
        client.close()
        await http.is_quiet()
        assert http.stored == []
        assert http.store.unfinished == []
        assert http.factory.uploads_in_flight == 0
        assert http.factory.slots.taken == 0


@pytest.mark.parametrize("call", ["pauseProducing", "resumeProducing"])
async def test_system_error(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A system call that fails ends the request and the connection; nothing is left."""
    async with open_http() as http:
        client = await http.connect_later()
        client.send(put(b"hello")[:-1])
        await http.has_received(4)
        (connection,), (incoming,) = http.connections, http.store.unfinished

        def broken() -> None:
            monkeypatch.undo()
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        if call == "resumeProducing":
            incoming.producer.pauseProducing()  # type: ignore[union-attr]
        monkeypatch.setattr(connection.transport, call, broken)
        getattr(incoming.producer, call)()
        reply = await client.reply()
        assert (reply.status, reply.closes) == (500, True)
        client.close()
        await http.is_quiet()
        assert http.log.kinds == ["aborted"]
        assert http.store.unfinished == []
        assert http.factory.slots.taken == 0


async def test_refusal_after_acceptance() -> None:
    """A handler that raises after it has accepted the body ends the request."""
    async with open_http(handler=accepts_and_refuses) as http:
        client = await http.connect_later()
        reply = await client.ask(put(b"hello")[:-1])
        assert reply.status == 409
        client.close()
        await http.is_quiet()
        assert http.store.unfinished == []


async def test_response_that_cannot_be_sent(expected_errors: list[str]) -> None:
    """A response with a line break in a field is not sent."""
    expected_errors.append("line break")
    bad = Response(200, (("X", "a\r\nSet-Cookie: b"),))
    async with open_http(handler=lambda it: it.respond(bad)) as http:
        client = await http.connect_later()
        reply = await client.ask(put())
        assert (reply.status, reply.closes) == (500, True)
        assert "set-cookie" not in reply.fields
        client.close()
        await http.is_quiet()


async def test_late_response() -> None:
    """A response that comes after the request has been refused is not sent."""
    waiting: list[IExchange] = []
    async with open_http(handler=waiting.append) as http:
        client = await http.connect_later()
        client.send(put())
        await until(lambda: waiting)
        (connection,) = http.connections
        connection.refuse(StoreFailed())
        waiting[0].respond(Response(201))
        assert (await client.reply()).status == 503
        client.send(put())
        await until(lambda: len(waiting) == 2)
        connection.refuse(ShuttingDown())


async def test_added_fields() -> None:
    """Fields that a handler adds are in every response, of the connection too."""

    def handle(exchange: IExchange) -> None:
        exchange.add_fields(("Tus-Resumable", "1.0.0"))
        raise StoreFailed

    async with open_http(handler=handle) as http:
        reply = await http.ask(put(b"hello")[:-1])
        assert (reply.status, reply.fields["tus-resumable"]) == (503, "1.0.0")


async def test_client_goes_on_after_the_last_request() -> None:
    """What is sent after a request that closes the connection is not read as a request."""
    async with open_http(HTTPSettings()) as http:
        client = await http.connect_later()
        reply = await client.ask(put(b"1", "/", "Connection: close") + put(b"2"))
        assert (reply.status, reply.closes) == (201, True)
        assert await client.ends()
        client.close()
        await http.is_quiet()
        assert http.stored == [b"1"]
