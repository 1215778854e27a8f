"""
The gate of a front end, over real sockets: which connections are admitted, and how many.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from twisted.internet import tcp

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.gate import connect_senders, counts, receive, rules_of
from tests.support.senders import STORED, refusal_code, reset
from tests.support.waiting import until
from tests.support.ways import Way, half_close
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.networks import Rules

pytestmark = pytest.mark.each_transport


async def test_transports(request: pytest.FixtureRequest) -> None:
    """These tests use the transports that their parameter says."""
    async with open_frontend() as frontend:
        eager = request.node.callspec.params["_eager"]
        assert (frontend.port.transport is not tcp.Server) is eager


# -- how many -----------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
async def test_slots(way: Way, most: int) -> None:
    """
    The last free slot is given out; the next sender is told busy; a released slot is
    given out again.
    """
    async with open_frontend(slots=ConnectionSlots(most)) as frontend:
        peers = await connect_senders(frontend, most)
        for _ in range(3):
            assert refusal_code(await way.send(frontend, b"content")) == "busy"
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert counts(frontend) == {"busy": 3}
        peers[0].close()
        await until(lambda: len(frontend.senders) == most - 1)
        assert await way.send(frontend, b"content") == STORED
        assert frontend.stored == [b"content"]


@pytest.mark.parametrize("most", [1, 50])
async def test_per_address(way: Way, most: int) -> None:
    """The slots of one address are limited and released; other addresses are not affected."""
    async with open_frontend(RawSettings(max_per_address=most)) as frontend:
        peers = await connect_senders(frontend, most)
        assert refusal_code(await way.send(frontend, b"content")) == "busy"
        other = partial(frontend.connect, "127.0.0.2")
        assert await way.send(frontend, b"other", connect=other) == STORED
        peers[0].close()
        await until(lambda: len(frontend.senders) == most - 1)
        assert await way.send(frontend, b"content") == STORED


async def test_default_per_address() -> None:
    """By default, one address has 50 slots."""
    async with open_frontend() as frontend:
        await connect_senders(frontend, 50)
        assert refusal_code(await frontend.send(b"content")) == "busy"


async def test_one_address_over_ipv4_and_ipv6(way: Way) -> None:
    """An IPv4 sender at an IPv6 socket counts for the same address; a /64 counts as one address."""
    async with (
        open_frontend(RawSettings(max_per_address=1)) as frontend,
        frontend.also_at("mapped") as four,
        frontend.also_at("IPv6") as six,
    ):
        await connect_senders(frontend, 1)
        assert refusal_code(await way.send(frontend, b"content", connect=four)) == "busy"
        with six():
            await until(lambda: len(frontend.senders) == 2)
            assert refusal_code(await way.send(frontend, b"content", connect=six)) == "busy"
        await until(lambda: len(frontend.senders) == 1)
        assert await way.send(frontend, b"content", connect=six) == STORED


async def test_no_address(way: Way, tmp_path: Path) -> None:
    """A connection to a Unix socket takes a slot, but counts for no address."""
    async with open_frontend(RawSettings(max_per_address=1), slots=ConnectionSlots(2)) as frontend:
        await connect_senders(frontend, 1)
        async with frontend.also_at("unix", tmp_path) as connect:
            with connect():
                await until(lambda: len(frontend.senders) == 2)
                assert refusal_code(await frontend.send(b"content")) == "busy"
                assert refusal_code(await way.send(frontend, b"content", connect=connect)) == "busy"
            await until(lambda: len(frontend.senders) == 1)
            assert await way.send(frontend, b"content", connect=connect) == STORED


@pytest.mark.parametrize("end", ["stored", "refused", "aborted", "unused", "reset"])
async def test_each_slot_is_released(way: Way, end: str) -> None:
    """However a connection ends, its slot is released, once."""
    slots = ConnectionSlots(1)
    sent = {"stored": b"content", "refused": b"x" * 11, "aborted": b"con"}.get(end, b"")
    code_of = {"refused": "too-large", "unused": "empty"}
    async with open_frontend(RawSettings(max_size=10, max_per_address=1), slots=slots) as frontend:
        for _ in range(3):
            lines = len(frontend.log.ends + frontend.log.others)
            breaks = end in ("aborted", "reset")
            peer = await way.arrive(frontend, sent, end=reset if breaks else half_close)
            if not breaks:
                answer = await receive(peer)
                assert answer == STORED if end == "stored" else refusal_code(answer) == code_of[end]
            peer.close()
            await until(partial(_is_logged, frontend, lines))
            await frontend.is_quiet()
            assert slots.taken == 0
            assert len(frontend.factory.gate.admission) == 0


def _is_logged(frontend: OpenFrontend, lines: int) -> bool:
    return len(frontend.log.ends + frontend.log.others) > lines


async def test_slot_of_an_upload_that_is_being_committed(way: Way) -> None:
    """If the sender does not wait, its slot is released only when its file is stored."""
    slots = ConnectionSlots(1)
    async with open_frontend(slots=slots) as frontend:
        frontend.store.holding = True
        await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        assert slots.taken == 1
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        assert slots.taken == 1
        assert refusal_code(await way.send(frontend, b"more")) == "busy"
        frontend.store.release()
        assert slots.taken == 0
        assert frontend.stored == [b"content"]


async def test_address_of_an_upload_that_is_being_committed(way: Way) -> None:
    """A slot of an address, too, is released only when the file is stored."""
    async with open_frontend(RawSettings(max_per_address=1)) as frontend:
        frontend.store.holding = True
        peer = await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        other = await way.arrive(frontend, b"other", connect=partial(frontend.connect, "127.0.0.2"))
        await until(lambda: len(frontend.store._held) == 2)
        assert refusal_code(await way.send(frontend, b"more")) == "busy"
        frontend.store.release()
        assert (await receive(peer), await receive(other)) == (STORED, STORED)
        await frontend.is_quiet()
        assert len(frontend.factory.gate.admission) == 0
        assert await way.send(frontend, b"more") == STORED


# -- which --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (rules_of(allow="127.0.0.0/8"), None),
        (rules_of(allow="127.0.0.1", deny="127.0.0.0/8"), None),
        (rules_of(allow="127.0.0.0/8", deny="127.0.0.1"), "not-allowed"),
        (rules_of(allow="127.0.0.2 ::1"), "not-allowed"),
        (rules_of(deny="127.0.0.0/8"), "not-allowed"),
        (rules_of(deny="::/0"), None),
    ],
)
async def test_rules(way: Way, rules: Rules, code: str | None) -> None:
    """The rules decide which addresses are allowed."""
    async with open_frontend(RawSettings(rules=rules)) as frontend:
        answer = await way.send(frontend, b"content")
        if code is None:
            assert answer == STORED
        else:
            assert refusal_code(answer) == code
            assert frontend.stored == []
            assert frontend.log.ends == []
            assert counts(frontend) == {code: 1}


@pytest.mark.parametrize(("family", "denied"), [("IPv6", "::1"), ("mapped", "127.0.0.1")])
async def test_rules_for_ipv6(way: Way, family: str, denied: str) -> None:
    """The rules apply to IPv6 too, and to IPv4 at an IPv6 socket."""
    chosen = RawSettings(rules=rules_of(deny=denied))
    async with open_frontend(chosen) as frontend, frontend.also_at(family) as connect:
        assert refusal_code(await way.send(frontend, b"content", connect=connect)) == "not-allowed"


async def test_rules_are_not_for_unix_sockets(way: Way, tmp_path: Path) -> None:
    """The rules do not apply to a Unix socket, which has file permissions."""
    async with open_frontend(RawSettings(rules=rules_of(allow="192.0.2.0/24"))) as frontend:
        async with frontend.also_at("unix", tmp_path) as connect:
            assert await way.send(frontend, b"content", connect=connect) == STORED
        assert frontend.log.ends[0]["peer"].startswith(f"unix uid {os.getuid()}")
