"""
The gate of the raw door, over real sockets: who is let in, who hears no, and
who comes through a load balancer.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, is_hypothesis_test, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.logger import globalLogPublisher

from tests.net.test_proxy_protocol import binary, block, line
from tests.support.helpers import (
    OpenFrontend,
    TurnByTurn,
    in_thread,
    open_descriptors,
    open_frontend,
    read_all,
    reset,
    turns,
    until,
)
from tests.support.ways import Way, close, half_close, in_each_way
from twisted_upload.core.answers import read_answer
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.admission import ConnectionSlots, TrustedProxies
from twisted_upload.frontends.gate import HEADER_TIME
from twisted_upload.frontends.raw.factory import FrontendSettings
from twisted_upload.frontends.rejection import LONGEST_STAY, MOST_DISCARDED
from twisted_upload.net.networks import NetworkSet, Rules, parse_network
from twisted_upload.net.timeouts import AT_ONCE

KEPT = "上传成功".encode()

LOOPBACK = TrustedProxies(NetworkSet([parse_network("127.0.0.0/8")]))
BALANCED = FrontendSettings(trusted_proxies=LOOPBACK)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The gate keeps its promises whether transports read at once or not."""
    if not is_hypothesis_test(metafunc.function):
        in_each_way(metafunc)


@pytest.fixture(autouse=True)
def _eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenFrontend, "eager", getattr(request, "param", True))


def _code(answer: bytes) -> str:
    refused = read_answer(answer)
    assert isinstance(refused, UploadRefused), answer
    assert answer.count(b"\n") == 1
    return refused.code


async def _hear(peer: socket.socket) -> bytes:
    return await in_thread(read_all, peer)


def _rules(allow: str = "", deny: str = "") -> Rules:
    return Rules(map(parse_network, allow.split()), map(parse_network, deny.split()))


async def _come(frontend: OpenFrontend, number: int) -> list[socket.socket]:
    """So many senders that are let in and say nothing."""
    before = len(frontend.senders)
    peers = [frontend.connect() for _ in range(number)]
    await until(lambda: len(frontend.senders) == before + number)
    return peers


def _counts(frontend: OpenFrontend) -> dict[str, int]:
    return dict(frontend.factory.refusals.total)


def _counted(frontend: OpenFrontend, counts: dict[str, int]) -> bool:
    return _counts(frontend) == counts


async def test_transports(request: pytest.FixtureRequest) -> None:
    """What is said of the transports of these tests is so."""
    async with open_frontend() as frontend:
        eager = request.node.callspec.params["_eager"]
        assert (frontend.port.transport is not tcp.Server) is eager


# -- how many -----------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
async def test_places(way: Way, most: int) -> None:
    """The last place is given; one more sender hears busy; a place that is free is given again."""
    async with open_frontend(slots=ConnectionSlots(most)) as frontend:
        peers = await _come(frontend, most)
        for _ in range(3):
            assert _code(await way.send(frontend, b"content")) == "busy"
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert _counts(frontend) == {"busy": 3}
        peers[0].close()
        await until(lambda: len(frontend.senders) == most - 1)
        assert await way.send(frontend, b"content") == KEPT
        assert frontend.kept == [b"content"]


@pytest.mark.parametrize("most", [1, 50])
async def test_per_address(way: Way, most: int) -> None:
    """The same for one address; another one does not suffer for it."""
    async with open_frontend(FrontendSettings(max_per_address=most)) as frontend:
        peers = await _come(frontend, most)
        assert _code(await way.send(frontend, b"content")) == "busy"
        other = partial(frontend.connect, "127.0.0.2")
        assert await way.send(frontend, b"other", connect=other) == KEPT
        peers[0].close()
        await until(lambda: len(frontend.senders) == most - 1)
        assert await way.send(frontend, b"content") == KEPT


async def test_default_per_address() -> None:
    """One address has 50 places, unless that is set otherwise."""
    async with open_frontend() as frontend:
        await _come(frontend, 50)
        assert _code(await frontend.send(b"content")) == "busy"


async def test_one_address_over_ipv4_and_ipv6(way: Way) -> None:
    """An IPv4 sender of an IPv6 socket is the same address; the senders of a /64 are one."""
    async with (
        open_frontend(FrontendSettings(max_per_address=1)) as frontend,
        frontend.also_at("mapped") as four,
        frontend.also_at("IPv6") as six,
    ):
        await _come(frontend, 1)
        assert _code(await way.send(frontend, b"content", connect=four)) == "busy"
        with six():
            await until(lambda: len(frontend.senders) == 2)
            assert _code(await way.send(frontend, b"content", connect=six)) == "busy"
        await until(lambda: len(frontend.senders) == 1)
        assert await way.send(frontend, b"content", connect=six) == KEPT


async def test_no_address(way: Way, tmp_path: Path) -> None:
    """Who comes to a unix socket takes a place, but is nobody's address."""
    async with open_frontend(
        FrontendSettings(max_per_address=1), slots=ConnectionSlots(2)
    ) as frontend:
        await _come(frontend, 1)
        async with frontend.also_at("unix", tmp_path) as connect:
            with connect():
                await until(lambda: len(frontend.senders) == 2)
                assert _code(await frontend.send(b"content")) == "busy"
                assert _code(await way.send(frontend, b"content", connect=connect)) == "busy"
            await until(lambda: len(frontend.senders) == 1)
            assert await way.send(frontend, b"content", connect=connect) == KEPT


@pytest.mark.parametrize("end", ["kept", "refused", "lost", "unused", "reset"])
async def test_each_place_is_given_back(way: Way, end: str) -> None:
    """However a connection ends, its place is free again, once."""
    slots = ConnectionSlots(1)
    said = {"kept": b"content", "refused": b"x" * 11, "lost": b"con"}.get(end, b"")
    heard = {"refused": "too-large", "unused": "empty"}
    async with open_frontend(
        FrontendSettings(max_size=10, max_per_address=1), slots=slots
    ) as frontend:
        for _ in range(3):
            lines = len(frontend.log.ends + frontend.log.others)
            breaks = end in ("lost", "reset")
            peer = await way.come(frontend, said, end=reset if breaks else half_close)
            if not breaks:
                answer = await _hear(peer)
                assert answer == KEPT if end == "kept" else _code(answer) == heard[end]
            peer.close()
            await until(partial(_is_told, frontend, lines))
            await frontend.is_quiet()
            assert slots.taken == 0
            assert len(frontend.factory.gate.admission) == 0


def _is_told(frontend: OpenFrontend, lines: int) -> bool:
    return len(frontend.log.ends + frontend.log.others) > lines


async def test_place_of_an_upload_that_is_being_kept(way: Way) -> None:
    """A sender that does not wait leaves its place only when its file is kept."""
    slots = ConnectionSlots(1)
    async with open_frontend(slots=slots) as frontend:
        frontend.store.holding = True
        await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        assert slots.taken == 1
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        assert slots.taken == 1
        assert _code(await way.send(frontend, b"more")) == "busy"
        frontend.store.release()
        assert slots.taken == 0
        assert frontend.kept == [b"content"]


async def test_address_of_an_upload_that_is_being_kept(way: Way) -> None:
    """The same where the places are those of its address."""
    async with open_frontend(FrontendSettings(max_per_address=1)) as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"content")
        await until(lambda: frontend.store._held)
        other = await way.come(frontend, b"other", connect=partial(frontend.connect, "127.0.0.2"))
        await until(lambda: len(frontend.store._held) == 2)
        assert _code(await way.send(frontend, b"more")) == "busy"
        frontend.store.release()
        assert (await _hear(peer), await _hear(other)) == (KEPT, KEPT)
        await frontend.is_quiet()
        assert len(frontend.factory.gate.admission) == 0
        assert await way.send(frontend, b"more") == KEPT


# -- who ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (_rules(allow="127.0.0.0/8"), None),
        (_rules(allow="127.0.0.1", deny="127.0.0.0/8"), None),
        (_rules(allow="127.0.0.0/8", deny="127.0.0.1"), "not-allowed"),
        (_rules(allow="127.0.0.2 ::1"), "not-allowed"),
        (_rules(deny="127.0.0.0/8"), "not-allowed"),
        (_rules(deny="::/0"), None),
    ],
)
async def test_rules(way: Way, rules: Rules, code: str | None) -> None:
    """The rules say who may come in."""
    async with open_frontend(FrontendSettings(rules=rules)) as frontend:
        answer = await way.send(frontend, b"content")
        if code is None:
            assert answer == KEPT
        else:
            assert _code(answer) == code
            assert frontend.kept == []
            assert frontend.log.ends == []
            assert _counts(frontend) == {code: 1}


@pytest.mark.parametrize(("family", "denied"), [("IPv6", "::1"), ("mapped", "127.0.0.1")])
async def test_rules_for_ipv6(way: Way, family: str, denied: str) -> None:
    """They are for IPv6 as well, and for IPv4 at an IPv6 socket."""
    chosen = FrontendSettings(rules=_rules(deny=denied))
    async with open_frontend(chosen) as frontend, frontend.also_at(family) as connect:
        assert _code(await way.send(frontend, b"content", connect=connect)) == "not-allowed"


async def test_rules_are_not_for_unix_sockets(way: Way, tmp_path: Path) -> None:
    """A unix socket has permissions of its own."""
    async with open_frontend(FrontendSettings(rules=_rules(allow="192.0.2.0/24"))) as frontend:
        async with frontend.also_at("unix", tmp_path) as connect:
            assert await way.send(frontend, b"content", connect=connect) == KEPT
        assert frontend.log.ends[0]["peer"].startswith(f"unix uid {os.getuid()}")


# -- turned away --------------------------------------------------------------

MOST = ConnectionSlots().most_rejected

NOBODY = FrontendSettings(rules=_rules(deny="0.0.0.0/0"))


async def test_hears_at_once() -> None:
    """Who may not come in hears it without having said anything."""
    async with open_frontend(NOBODY) as frontend:
        peer = frontend.connect()
        assert _code(await _hear(peer)) == "not-allowed"
        peer.close()
        await frontend.is_quiet()


async def test_hears_after_sending() -> None:
    """An old sender, which sends all of its file before it reads, hears it too."""
    async with open_frontend(NOBODY) as frontend:
        for _ in range(5):
            assert _code(await frontend.send(*[bytes(65536)] * 8)) == "not-allowed"
        await frontend.is_quiet()


@pytest.mark.parametrize("family", ["IPv4", "unix"])
async def test_hears_after_a_little(way: Way, tmp_path: Path, family: str) -> None:
    """
    The same for a little, which may have come before the connection is accepted: it is
    read before the connection is closed.  A unix socket would tell.
    """
    async with open_frontend() as frontend, frontend.also_at(family, tmp_path) as connect:
        frontend.factory.drain()
        for number, size in enumerate([1, 4096, 100_000], 1):
            peer = await way.come(frontend, bytes(size), connect=connect)
            await until(partial(_counted, frontend, {"shutting-down": number}))
            await frontend.is_quiet()
            assert _code(read_all(peer)) == "shutting-down"


async def test_stays_for_a_moment() -> None:
    """Who does not go is made to, after a moment; what it sends buys it no time."""
    async with open_frontend(NOBODY) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.clock.advance(LONGEST_STAY - 0.1)
        peer.sendall(b"still here")
        await turns()
        assert frontend.factory.protocols
        frontend.clock.advance(0.2)
        await frontend.is_quiet()


async def test_sends_on_and_on() -> None:
    """Who goes on sending is read for so long and no longer."""
    async with open_frontend(NOBODY) as frontend:
        peer = frontend.connect()

        def flood() -> int:
            sent = 0
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while sent < 64 * MOST_DISCARDED:
                    sent += peer.send(bytes(65536))
            return sent

        assert await in_thread(flood) < 64 * MOST_DISCARDED
        await frontend.is_quiet()


async def test_many_stay() -> None:
    """So many may stay; for one more, the one that has been there longest goes at once."""
    async with open_frontend(NOBODY) as frontend:
        peers = [frontend.connect() for _ in range(MOST)]
        await until(lambda: len(frontend.factory.protocols) == MOST)
        await turns()
        last = [frontend.connect() for _ in range(10)]
        await until(lambda: _counts(frontend) == {"not-allowed": MOST + 10})
        assert len(frontend.factory.protocols) == MOST
        for peer in peers + last:
            assert _code(await _hear(peer)) == "not-allowed"
        frontend.clock.advance(LONGEST_STAY)
        await frontend.is_quiet()


async def test_gone_before_it_hears() -> None:
    """Who has gone before it could hear is no trouble."""
    async with open_frontend(NOBODY) as frontend:
        for _ in range(20):
            reset(frontend.connect())
        await until(lambda: _counts(frontend) == {"not-allowed": 20})
        await frontend.is_quiet()


@pytest.mark.parametrize("end", [close, reset])
async def test_does_not_listen(way: Way, end: Callable[[socket.socket], None]) -> None:
    """Nor is one that has sent something, and does not wait for what it would hear."""
    async with open_frontend(NOBODY) as frontend:
        for _ in range(3):
            await way.come(frontend, b"content", end=end)
        await until(lambda: _counts(frontend) == {"not-allowed": 3})
        await frontend.is_quiet()


async def test_nothing_is_taken(way: Way) -> None:
    """A sender that is turned away takes nothing from the store and no line from the log."""
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    async with open_frontend(NOBODY) as frontend:
        globalLogPublisher.addObserver(observer)
        try:
            for _ in range(10):
                await way.send(frontend, b"content")
        finally:
            globalLogPublisher.removeObserver(observer)
        assert events == []
        assert frontend.store.unfinished == []


async def test_while_stopping(way: Way) -> None:
    """Who comes while the daemon stops hears so, without a line of its own."""
    async with open_frontend() as frontend:
        done = frontend.factory.drain()
        assert done.called
        assert _code(await way.send(frontend, b"content")) == "shutting-down"
        assert frontend.log.ends == []
        assert _counts(frontend) == {"shutting-down": 1}


@pytest.mark.parametrize("whole", [False, True])
async def test_descriptors_are_not_taken(tmp_path: Path, whole: bool) -> None:
    """Descriptors that come over a unix socket are closed, and no line is written of them."""
    (tmp_path / "passed").write_bytes(b"")
    passed = os.open(tmp_path / "passed", os.O_RDONLY)
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    async with open_frontend() as frontend:
        frontend.store.holding = True
        async with frontend.also_at("unix", tmp_path) as connect:
            globalLogPublisher.addObserver(observer)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed] * 9))]
            peer = connect()
            peer.sendmsg([b"content"], rights)
            os.close(passed)
            if whole:
                peer.shutdown(socket.SHUT_WR)
            await frontend.has_come(7)
            globalLogPublisher.removeObserver(observer)
            assert open_descriptors(tmp_path) == []
            assert events == []
            if not whole:
                peer.shutdown(socket.SHUT_WR)
            frontend.store.release()
            assert await _hear(peer) == KEPT
        assert frontend.kept == [b"content"]


# -- through a load balancer --------------------------------------------------


async def _peer_of(frontend: OpenFrontend, way: Way, *pieces: bytes) -> str:
    assert await way.send(frontend, *pieces) == KEPT
    peer: str = frontend.log.ends[-1]["peer"]
    return peer


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (line(), "192.0.2.7:50123"),
        (binary(), "192.0.2.7:50123"),
        (line("2001:db8::7", "::1"), "[2001:db8::7]:50123"),
        (binary("2001:db8::7", "::1"), "[2001:db8::7]:50123"),
        (binary("::ffff:192.0.2.7", "::1"), "192.0.2.7:50123"),
        (binary(more=b"\x04\x00\x03abc"), "192.0.2.7:50123"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1:*"),
        (block(0x20, 0), "127.0.0.1:*"),
        (block(0x21, 0), "127.0.0.1:*"),
        (block(0x21, 0x31, b"/tmp/\x1b[31m".ljust(216, b"\0")), "127.0.0.1:*"),
    ],
)
async def test_the_real_peer(way: Way, header: bytes, peer: str) -> None:
    """The sender is who the balancer says; what follows the header is the file."""
    async with open_frontend(BALANCED) as frontend:
        each = [header + b"content"], [header, b"content"], [header[:7], header[7:] + b"content"]
        for pieces in each:
            found = await _peer_of(frontend, way, *pieces)
            assert found == peer or (peer.endswith("*") and found.startswith(peer[:-1]))
        assert frontend.kept == [b"content"] * 3


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    header=st.sampled_from([line(), binary(), binary("2001:db8::7", "::1", more=bytes(50))]),
    content=st.binary(min_size=1, max_size=200),
    cuts=st.lists(st.integers(1, 250), max_size=4),
    way=st.sampled_from([*Way, None]),
)
async def test_any_chopping(
    header: bytes, content: bytes, cuts: list[int], way: Way | None
) -> None:
    """However header and file are cut on their way, the file and the peer are the same."""
    everything = header + content
    ends = [0, *sorted({cut for cut in cuts if cut < len(everything)}), len(everything)]
    async with open_frontend(BALANCED) as frontend:
        pieces = [everything[one:two] for one, two in itertools.pairwise(ends)]
        if way is not None:
            peer = await way.come(frontend, *pieces)
        else:
            peer = frontend.connect()
            for piece in pieces:
                peer.sendall(piece)
                await turns(2)
            peer.shutdown(socket.SHUT_WR)
        assert await _hear(peer) == KEPT
        assert frontend.kept == [content]
        assert frontend.log.ends[0]["peer"].endswith(":50123")


@pytest.mark.parametrize("header", [line(), binary(), block(0x20, 0), b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("half_close", [True, False])
async def test_header_without_a_file(way: Way, header: bytes, half_close: bool) -> None:
    """A header alone is an empty upload: nothing is kept, and no line is written."""
    async with open_frontend(BALANCED) as frontend:
        if half_close:
            assert _code(await way.send(frontend, header)) == "empty"
        else:
            await way.come(frontend, header, end=close)
            await until(lambda: frontend.log.others)
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert _counts(frontend) == {}


@pytest.mark.parametrize("end", [close, reset, half_close])
async def test_health_check(way: Way, end: Callable[[socket.socket], None]) -> None:
    """A balancer that connects and goes leaves nothing: no file, no line, no count."""
    slots = ConnectionSlots(1)
    async with open_frontend(BALANCED, slots=slots) as frontend:
        for _ in range(3):
            peer = await way.come(frontend, end=end)
            if end is half_close:
                assert await _hear(peer) == b""
            peer.close()
            await turns()
            await frontend.is_quiet()
            assert slots.taken == 0
        assert frontend.kept == []
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert _counts(frontend) == {}


@pytest.mark.parametrize(
    "trusted_proxies", [TrustedProxies(NetworkSet([])), TrustedProxies(NetworkSet([]), unix=True)]
)
async def test_whom_not_to_believe(way: Way, trusted_proxies: TrustedProxies) -> None:
    """Who is no balancer may not connect, header or not."""
    async with open_frontend(FrontendSettings(trusted_proxies=trusted_proxies)) as frontend:
        for data in (line() + b"content", b"content"):
            assert _code(await way.send(frontend, data)) == "not-allowed"
        assert frontend.kept == []
        assert _counts(frontend) == {"not-allowed": 2}


async def test_balancer_at_a_unix_socket(way: Way, tmp_path: Path) -> None:
    """A balancer may be at the other end of a unix socket."""
    believed = TrustedProxies(NetworkSet([]), unix=True)
    async with open_frontend(FrontendSettings(trusted_proxies=believed)) as frontend:
        async with frontend.also_at("unix", tmp_path) as connect:
            assert await way.send(frontend, binary(), b"content", connect=connect) == KEPT
        assert frontend.log.ends[0]["peer"] == "192.0.2.7:50123"


@pytest.mark.parametrize(
    "data",
    [
        b"content",
        b"PROXY TCP4 nonsense\r\ncontent",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50123",
        binary()[:20],
        b"\r\n",
    ],
)
async def test_no_header(way: Way, data: bytes) -> None:
    """A balancer without a whole header is refused, and nothing of it is kept or written."""
    async with open_frontend(BALANCED) as frontend:
        assert _code(await way.send(frontend, data)) == "not-allowed"
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.ends == []
        assert _counts(frontend) == {"not-allowed": 1}


async def test_header_comes_too_late() -> None:
    """The header has some seconds to come; its bytes buy no time."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        peer.sendall(line()[:3])
        await until(lambda: frontend.factory.protocols)
        await turns()
        frontend.clock.advance(HEADER_TIME - 1)
        peer.sendall(line()[3:9])
        await turns()
        assert not _counts(frontend)
        frontend.clock.advance(1)
        assert _code(await _hear(peer)) == "timeout"
        assert _counts(frontend) == {"timeout": 1}


async def test_header_in_time() -> None:
    """When the header has come, its time is over, and the idle time-out begins."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        peer.sendall(line())
        await until(lambda: frontend.senders)
        frontend.clock.advance(59)
        peer.sendall(b"content")
        peer.shutdown(socket.SHUT_WR)
        assert await _hear(peer) == KEPT


async def test_limits_are_for_the_real_address(way: Way) -> None:
    """Rules and counts are for the sender, not for its balancer."""
    chosen = FrontendSettings(
        trusted_proxies=LOOPBACK, max_per_address=1, rules=_rules(deny="127.0.0.0/8 192.0.2.66")
    )
    slots = ConnectionSlots(3)
    async with open_frontend(chosen, slots=slots) as frontend:
        first = frontend.connect()
        first.sendall(binary())
        await until(lambda: frontend.senders)
        assert _code(await way.send(frontend, binary() + b"content")) == "busy"
        assert _code(await way.send(frontend, binary("192.0.2.66") + b"content")) == "not-allowed"
        assert await way.send(frontend, binary("192.0.2.8") + b"content") == KEPT
        await until(lambda: slots.taken == 1)
        first.close()
        await frontend.is_quiet()
        assert slots.taken == 0
        assert len(frontend.factory.gate.admission) == 0


async def test_unknown_sender(way: Way) -> None:
    """A sender that the balancer knows no address of is let in, unless some are allowed only."""
    async with open_frontend(
        FrontendSettings(trusted_proxies=LOOPBACK, rules=_rules("192.0.2.0/24"))
    ) as frontend:
        assert _code(await way.send(frontend, b"PROXY UNKNOWN\r\ncontent")) == "not-allowed"
        assert await way.send(frontend, line() + b"content") == KEPT
        itself = block(0x20, 0)  # the balancer
        assert await way.send(frontend, itself + b"content") == KEPT


async def test_places_before_the_header(way: Way) -> None:
    """A connection whose header has not come takes a place too."""
    async with open_frontend(BALANCED, slots=ConnectionSlots(1)) as frontend:
        frontend.connect()
        await until(lambda: frontend.factory.protocols)
        assert _code(await way.send(frontend, line() + b"content")) == "busy"


async def test_a_header_takes_no_place_of_its_own(way: Way) -> None:
    """The last place is enough for a connection with its header, and is given back."""
    slots = ConnectionSlots(1)
    async with open_frontend(BALANCED, slots=slots) as frontend:
        for _ in range(3):
            assert await way.send(frontend, line(), b"content") == KEPT
            await frontend.is_quiet()
            assert slots.taken == 0


async def test_stopping_while_the_header_comes() -> None:
    """Who waits for all connections to go does not take the header's end for that."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        begun, gone = frontend.factory.all_begun(), frontend.factory.all_gone()
        peer.sendall(line() + b"content")
        await until(lambda: frontend.senders)
        assert not gone.called
        peer.shutdown(socket.SHUT_WR)
        assert await _hear(peer) == KEPT
        assert begun.called
        await until(lambda: gone.called)


async def test_stopping_before_the_header() -> None:
    """A connection whose header has not come is refused when the daemon stops."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.factory.drain()
        assert _code(await _hear(peer)) == "shutting-down"


async def test_header_and_largest_size(way: Way) -> None:
    """The header is no part of the file, and does not count."""
    async with open_frontend(FrontendSettings(trusted_proxies=LOOPBACK, max_size=7)) as frontend:
        assert await way.send(frontend, line(), b"content") == KEPT
        assert _code(await way.send(frontend, line(), b"contents")) == "too-large"
        assert [event["size"] for event in frontend.log.ends] == [7, 8]


async def test_no_header_is_expected(way: Way) -> None:
    """Without balancers, what looks like a header is a part of the file."""
    async with open_frontend() as frontend:
        assert await way.send(frontend, line() + b"content") == KEPT
        assert frontend.kept == [line() + b"content"]


# -- how slow -----------------------------------------------------------------


async def _pass(frontend: OpenFrontend, seconds: int) -> None:
    for _ in range(seconds):
        frontend.clock.advance(1)
        await turns(1)


async def test_too_slow() -> None:
    """Bytes that drip are not enough, however evenly; the answer names the rate."""
    async with open_frontend(FrontendSettings(min_rate=500, idle_timeout=10)) as frontend:
        peer = frontend.connect()
        for number in range(30):
            peer.sendall(b"x")
            await frontend.has_come(number + 1)
            frontend.clock.advance(1)
        assert not frontend.log.ends
        peer.sendall(b"x")
        await frontend.has_come(31)
        frontend.clock.advance(5)
        answer = await _hear(peer)
        assert _code(answer) == "timeout"
        assert "500 bytes a second" in answer.decode()
        assert frontend.log.kinds == ["refused"]


async def test_many_are_too_slow() -> None:
    """When many are too slow at the same moment, a turn of the reactor is for some of them."""
    clock = TurnByTurn()
    chosen = FrontendSettings(min_rate=500, idle_timeout=0, max_per_address=0)
    async with open_frontend(chosen, clock=clock) as frontend:
        for _ in range(AT_ONCE + 7):
            frontend.connect().sendall(b"x")
        await until(lambda: len(frontend.store.unfinished) == AT_ONCE + 7)
        for _ in range(7):
            clock.turn(5)
        assert frontend.log.kinds == ["refused"] * AT_ONCE
        clock.turn()
        assert frontend.log.kinds == ["refused"] * (AT_ONCE + 7)


async def test_bytes_buy_time() -> None:
    """Every 500 bytes buy a second, for as long as they come."""
    async with open_frontend(FrontendSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        for number in range(20):
            peer.sendall(b"x" * 2500)
            await frontend.has_come(2500 * (number + 1))
            await _pass(frontend, 5)
        await _pass(frontend, 30)
        assert not frontend.log.ends
        await _pass(frontend, 5)
        assert _code(await _hear(peer)) == "timeout"


async def test_bytes_of_long_ago_buy_no_time() -> None:
    """Much that has come at the beginning does not pay for trickling ever after."""
    async with open_frontend(FrontendSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 500_000)
        await frontend.has_come(500_000)
        for number in range(35):
            assert not frontend.log.ends
            peer.sendall(b"x")
            await frontend.has_come(500_001 + number)
            await _pass(frontend, 1)
        await _pass(frontend, 5)
        assert _code(await _hear(peer)) == "timeout"


@pytest.mark.parametrize("min_rate", [0, 500])
async def test_no_min_rate(min_rate: float) -> None:
    """A rate of 0 is none."""
    async with open_frontend(FrontendSettings(min_rate=min_rate, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_come(1)
        await _pass(frontend, 300)
        assert frontend.log.kinds == (["refused"] if min_rate else [])


async def test_waiting_for_us_is_not_slow() -> None:
    """Time during which we have paused the sender does not count."""
    async with open_frontend(FrontendSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x" * 5000)
        await frontend.has_come(5000)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        await _pass(frontend, 20)
        incoming.producer.pauseProducing()
        incoming.producer.pauseProducing()
        await _pass(frontend, 500)
        incoming.producer.resumeProducing()
        await _pass(frontend, 10)
        assert not frontend.log.ends
        await _pass(frontend, 10)
        assert frontend.log.kinds == ["refused"]


async def test_waiting_for_the_store_is_not_slow(way: Way) -> None:
    """A sender that has half-closed waits for the store as long as that takes."""
    async with open_frontend(FrontendSettings(min_rate=500)) as frontend:
        frontend.store.holding = True
        peer = await way.come(frontend, b"x")
        await until(lambda: frontend.store._held)
        await _pass(frontend, 300)
        frontend.store.release()
        assert await _hear(peer) == KEPT


async def test_silence_that_ends_is_not_slow() -> None:
    """Silence that ends an upload is not called slowness before."""
    chosen = FrontendSettings(min_rate=500, idle_timeout=0, finish_after_idle=45)
    async with open_frontend(chosen) as frontend:
        peer = frontend.connect()
        peer.sendall(b"x")
        await frontend.has_come(1)
        await _pass(frontend, 46)
        assert await _hear(peer) == KEPT
