"""
Large bodies: the socket is lent to the store for exactly as many bytes as belong to the
body, whatever follows it and whatever the client does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import HTTPClient, OpenHTTP, StoredUpload, open_http, put
from tests.support.senders import reset
from tests.support.stores import Rig, ThreadedRig
from tests.support.waiting import in_thread, pass_time, turns, until
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.transaction import Transaction

pytestmark = pytest.mark.usefixtures("each_transport")

LARGE = os.urandom(1 << 20) * 8 + b"the last few bytes"


@contextlib.asynccontextmanager
async def threaded(
    folder: Path, settings: HTTPSettings | None = None, **more: Any
) -> AsyncIterator[tuple[OpenHTTP, ThreadedRig]]:
    """Open a front end with a directory store and real disk threads."""
    rig = ThreadedRig(folder / "inbox", files=FaultyFiles())
    async with open_http(settings, store=rig.store, **more) as http:
        yield http, rig
    await rig.settle()
    assert rig.unfinished() == 0
    assert rig.store.memory.held == 0
    assert http.factory.slots.splices == 0
    rig.close()


def lent(rig: ThreadedRig) -> int:
    """Return how often a disk thread has read a socket."""
    calls: int = rig.store.files.calls["receive"]  # type: ignore[attr-defined]
    return calls


async def test_large(tmp_path: Path) -> None:
    """Large bodies go through the kernel, one after the other on one connection."""
    async with threaded(tmp_path) as (http, rig):
        client = await http.connect_later()
        for number in range(3):
            reply = await client.ask(put(LARGE))
            assert (reply.status, reply.closes) == (201, False)
            assert [*rig.stored().values()] == [LARGE] * (number + 1)
        assert bool(lent(rig)) is not http.over_tls


async def test_nothing_of_the_next_request(tmp_path: Path) -> None:
    """Requests that follow a large body in one stream are not taken for a part of it."""
    async with threaded(tmp_path) as (http, rig):
        client = await http.connect_later()
        stream = b"".join((put(LARGE), put(b"small"), put(LARGE[1:]), put(b"end")))
        replies = client.ask_later(stream)
        assert (await replies).status == 201
        for _ in range(3):
            assert (await client.reply()).status == 201
        stored = [content for _, content in sorted(rig.stored().items())]
        assert sorted(stored, key=len) == sorted([LARGE, b"small", LARGE[1:], b"end"], key=len)


@pytest.mark.parametrize("size", [512 * 1024, 768 * 1024, (1 << 20) + 1, 3 << 20])
async def test_every_size(tmp_path: Path, size: int) -> None:
    """The last bytes are read as soon as they have come, whatever is left of a body."""
    async with threaded(tmp_path) as (http, rig):
        client = await http.connect_later()
        for _ in range(10):
            assert (await client.ask(put(LARGE[:size]))).status == 201
        assert {*rig.stored().values()} == {LARGE[:size]}


async def test_chunked(tmp_path: Path) -> None:
    """A chunked body is not lent: it has to be decoded."""
    async with threaded(tmp_path) as (http, rig):
        head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await http.ask(head, b"%x\r\n" % len(LARGE), LARGE, b"\r\n0\r\n\r\n")
        assert reply.status == 201
        assert lent(rig) == 0
        assert [*rig.stored().values()] == [LARGE]


async def test_reader_that_needs_the_bytes(tmp_path: Path) -> None:
    """A body is lent only if its reader names the consumer."""

    class Digesting(StoredUpload):
        incoming = None

    async with threaded(tmp_path, handler=lambda it: it.accept_body(Digesting(it))) as (http, rig):
        assert (await http.ask(put(LARGE))).status == 201
        assert lent(rig) == 0
        assert [*rig.stored().values()] == [LARGE]


async def test_no_slot(tmp_path: Path) -> None:
    """If no more sockets may be lent, a large body is read in the ordinary way."""
    async with threaded(tmp_path, slots=ConnectionSlots(most_splices=0)) as (http, rig):
        assert (await http.ask(put(LARGE))).status == 201
        assert lent(rig) == 0
        assert [*rig.stored().values()] == [LARGE]


async def half_closes(client: HTTPClient) -> None:
    client.half_close()


async def resets(client: HTTPClient) -> None:
    reset(client.socket)


@pytest.mark.parametrize("end", [half_closes, resets])
async def test_cut_off(tmp_path: Path, end: Any) -> None:
    """A large body that breaks off is aborted, however its connection ends."""
    async with threaded(tmp_path) as (http, rig):
        if http.over_tls and end is half_closes:
            return
        client = await http.connect_later()
        await in_thread(client.send, put(LARGE)[:-10])
        await end(client)
        await until(lambda: http.log.kinds == ["aborted"])
        client.close()
        await http.is_quiet()
        assert rig.stored() == {}


async def test_slow_client(tmp_path: Path) -> None:
    """A client that pauses within a large body does not keep a thread, and is timed out."""
    async with threaded(tmp_path, HTTPSettings(idle_timeout=60, min_rate=0)) as (http, rig):
        client = await http.connect_later()
        await in_thread(client.send, put(LARGE)[:-1000])
        arrived = len(LARGE) - 1000
        await until(lambda: not http.factory.slots.splices and _received(http) == arrived)
        pass_time(http.clock, 59)
        await turns()
        client.send(b"x")
        await until(lambda: _received(http) > arrived)
        pass_time(http.clock, 59)
        await turns()
        assert http.connections
        pass_time(http.clock, 2)
        reply = await client.reply()
        assert (reply.status, reply.closes) == (408, True)
        client.close()
        await http.is_quiet()
        assert rig.stored() == {}


def _received(http: OpenHTTP) -> int:
    (connection,) = http.connections
    transaction = connection._transaction
    return transaction.size if isinstance(transaction, Transaction) else 0


async def test_refused_while_lent(tmp_path: Path) -> None:
    """A request that is refused while its socket is lent is answered, and nothing is stored."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_http(store=rig.store, slots=slots) as http:
        if http.over_tls:
            rig.close()
            return
        client = http.connect()
        sending = client.ask_later(put(LARGE))

        await until(lambda: slots.splices or rig.disk.work(1))  # type: ignore[func-returns-value]
        http.factory.refuse_the_rest()
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert (await sending).status == 503
        client.close()
        await http.is_quiet()
        rig.disk.work()
        assert (slots.splices, slots.taken) == (0, 0)
        assert rig.stored == {}
        assert rig.unfinished == []
    rig.close()


async def test_reset_while_lent(tmp_path: Path) -> None:
    """A client that disconnects while its socket is lent leaves nothing behind."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_http(store=rig.store, slots=slots) as http:
        if http.over_tls:
            rig.close()
            return
        client = http.connect()
        client.socket.setblocking(False)
        client.socket.send(put(LARGE))

        await until(lambda: slots.splices or rig.disk.work(1))  # type: ignore[func-returns-value]
        reset(client.socket)
        http.factory.abort_the_rest()
        await http.is_quiet()
        rig.disk.work()
        assert (slots.splices, slots.taken) == (0, 0)
        assert rig.unfinished == []
        assert http.log.kinds == ["aborted"]
    rig.close()
