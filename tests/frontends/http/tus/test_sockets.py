"""
tus over real sockets: what a fake exchange cannot show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.exchanges import NOW
from tests.support.senders import reset
from tests.support.tus import checksum
from tests.support.tus_requests import (
    HEAD_OF_CHUNKS,
    begun,
    create,
    has_come,
    offset,
    open_tus,
    patch,
    request,
)
from tests.support.waiting import pass_time, until
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.interfaces import PartialTerms, PartialUpload
from twisted_upload.stores.memory import MemoryStore


class SlowStore(MemoryStore):
    """Creates nothing while it is slow, until it goes on."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.slow = False
        self.waiting: list[Deferred[None]] = []

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        return self._later(lambda: super(SlowStore, self).create(terms))

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        return self._later(lambda: super(SlowStore, self).concatenate(terms, identities))

    def _later(self, create: Callable[[], Deferred[PartialUpload]]) -> Deferred[PartialUpload]:
        if not self.slow:
            return create()
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting.addCallback(lambda _: create())


async def test_an_upload_on_one_connection() -> None:
    """Creation, HEAD, PATCH and DELETE follow each other on one connection."""
    async with open_tus() as http:
        client = http.connect()
        created = await client.ask(
            request("POST", "/files/", "Upload-Length: 10", body=b""), method="POST"
        )
        path = created.fields["location"].removeprefix("http://box.example")
        assert (await client.ask(patch(path, 0, b"12345"))).fields["upload-offset"] == "5"
        told = await client.ask(request("HEAD", path), method="HEAD")
        assert told.fields["upload-offset"] == "5"
        assert (await client.ask(patch(path, 5, b"67890"))).status == 204
        assert http.stored == [b"1234567890"]
        assert (await client.ask(request("DELETE", path))).status == 204
        gone = await client.ask(request("HEAD", path), method="HEAD")
        assert (gone.status, gone.fields["tus-resumable"]) == (404, "1.0.0")
        assert len(http.connections) == 1


async def test_pipelined_patches() -> None:
    """PATCHes that are sent together are carried out one after the other."""
    async with open_tus() as http:
        path = await create(http, 100)
        client = http.connect()
        client.send(*(patch(path, at, b"%010d" % at) for at in range(0, 100, 10)))
        for at in range(10, 110, 10):
            assert (await client.reply()).fields["upload-offset"] == str(at)
        assert http.stored == [b"".join(b"%010d" % at for at in range(0, 100, 10))]


async def test_refused_before_100_continue() -> None:
    """W2: a refusal comes without 100 Continue, and what is accepted with it."""
    async with open_tus() as http:
        path = await create(http, 10)
        expect = "Expect: 100-continue"
        for wrong, status in (
            (patch(path, 3, b"12345", expect), 409),
            (patch(path, 0, b"12345678901", expect), 413),
            (patch("/files/" + "0" * 32, 0, b"12345", expect), 404),
            (request("PATCH", path, "Upload-Offset: 0", expect, body=b"12345"), 415),
            (request("POST", "/files/", "Upload-Length: 5", expect, body=b"12345"), 415),
        ):
            head = wrong[: wrong.index(b"\r\n\r\n") + 4]
            assert (await http.ask(head)).status == status
        client = http.connect()
        assert (await client.ask(patch(path, 0, bytes(10), expect)[:-10])).status == 100
        assert (await client.ask(b"1234567890")).status == 204
        assert http.stored == [b"1234567890"]


async def test_patch_that_is_reset() -> None:
    """C12: what has come before a connection is reset is kept."""
    async with open_tus() as http:
        path = await create(http, 1000)
        client = begun(http, path, b"x" * 400, 1000)
        await has_come(http, 400)
        reset(client.socket)
        await until(lambda: not http.factory.uploads_in_flight)
        assert await offset(http, path) == 400
        assert (await http.ask(patch(path, 400, b"y" * 600))).status == 204
        assert http.stored == [b"x" * 400 + b"y" * 600]
        assert http.log.kinds == ["stored"]


async def test_patch_that_is_half_closed() -> None:
    """C12: a client that closes its side in the middle has what came kept."""
    async with open_tus() as http:
        path = await create(http, 1000)
        client = begun(http, path, b"x" * 400, 1000).half_close()
        assert (await client.reply()).fields["tus-resumable"] == "1.0.0"
        assert await offset(http, path) == 400


async def test_patch_that_is_too_slow() -> None:
    """C12: a client that falls silent is told what was kept."""
    async with open_tus(HTTPSettings(idle_timeout=10)) as http:
        path = await create(http, 1000)
        client = begun(http, path, b"x" * 400, 1000)
        await has_come(http, 400)
        pass_time(http.clock, 11)
        told = await client.reply()
        assert (told.status, told.fields["upload-offset"]) == (408, "400")
        assert told.fields["tus-resumable"] == "1.0.0"
        assert told.closes


@pytest.mark.parametrize("chunked", [False, True])
async def test_daemon_that_stops(chunked: bool) -> None:
    """C12: a PATCH in flight when the daemon stops is told what was kept."""
    async with open_tus() as http:
        path = await create(http, 1000)
        if chunked:
            head = request("PATCH", path, *HEAD_OF_CHUNKS)
            client = http.connect().send(head, b"190\r\n" + b"x" * 400 + b"\r\n")
        else:
            client = begun(http, path, b"x" * 400, 1000)
        await has_come(http, 400)
        drained: Any = http.factory.drain()
        assert not drained.called
        http.factory.refuse_the_rest()
        told = await client.reply()
        assert (told.status, told.fields["upload-offset"]) == (503, "400")
        await drained
        assert [it.upload.offset for it in http.store.partials.all.values()] == [400]


@pytest.mark.parametrize("field", ["Upload-Length: 0", "Upload-Concat: final;{part}"])
async def test_daemon_that_stops_while_it_stores(field: str) -> None:
    """What may be stored by its creation is not refused: its client is told nothing."""
    store = SlowStore()
    async with open_tus(store=store) as http:
        part = await create(http, 1, "Upload-Concat: partial")
        await http.ask(patch(part, 0, b"x"))
        store.slow = True
        post = request("POST", "/files/", field.format(part=part), body=b"")
        client = http.connect().send(post)
        await until(lambda: store.waiting)
        drained = http.factory.drain()
        http.factory.refuse_the_rest()
        with pytest.raises(ConnectionResetError):
            await client.reply()
        store.waiting[0].callback(None)
        await drained
        assert len(store.files) == 1


async def test_body_past_the_length() -> None:
    """C11: the response arrives although the client has sent more; the length is stored."""
    async with open_tus() as http:
        path = await create(http, 1000)
        told = await http.ask(patch(path, 0, b"x" * 1_000_000))
        assert (told.status, told.fields["upload-offset"]) == (413, "1000")
        assert http.stored == [b"x" * 1000]
        path = await create(http, 1000)
        head = request("PATCH", path, *HEAD_OF_CHUNKS)
        told = await http.ask(head, b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n")
        assert (told.status, told.fields["upload-offset"]) == (413, "1000")
        assert http.stored == [b"x" * 1000] * 2


async def test_takeover_from_a_dead_connection() -> None:
    """A client that comes back takes over at once from a connection that says nothing more."""
    async with open_tus() as http:
        path = await create(http, 1000)
        dead = begun(http, path, b"x" * 400, 1000)
        await has_come(http, 400)
        began = time.monotonic()
        assert await offset(http, path) == 400
        assert time.monotonic() - began < 2.0  # a bound for slow machines
        with pytest.raises(ConnectionResetError):
            await dead.ends()
        assert (await http.ask(patch(path, 400, b"y" * 600))).status == 204


async def test_checksum_trailer() -> None:
    """T1: a chunked body with its checksum in the trailer."""
    async with open_tus() as http:
        path = await create(http, 5)
        head = request("PATCH", path, *HEAD_OF_CHUNKS, "Trailer: Upload-Checksum")
        for data, status in (b"1234x", 460), (b"12345", 204):
            trailer = f"Upload-Checksum: {checksum(data)}\r\n\r\n".encode()
            told = await http.ask(head, b"5\r\n12345\r\n0\r\n", trailer)
            assert told.status == status
        assert http.stored == [b"12345"]


async def test_invalid_framing() -> None:
    """C1, C12: a body whose framing breaks is refused with the version; what came is kept."""
    async with open_tus() as http:
        path = await create(http, 1000)
        head = request("PATCH", path, *HEAD_OF_CHUNKS)
        client = http.connect().send(head, b"5\r\n12345\r\n")
        await has_come(http, 5)
        told = await client.ask(b"xyz\r\n")
        assert (told.status, told.fields["tus-resumable"]) == (400, "1.0.0")
        assert await offset(http, path) == 5
