"""
Connections through a load balancer: the PROXY header names the sender.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.gate import counts, receive, rules_of
from tests.support.proxy_headers import binary, block, line
from tests.support.senders import STORED, refusal_code, reset
from tests.support.waiting import turns, until
from tests.support.ways import Way, close, half_close
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.gate import HEADER_TIME
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.networks import NetworkSet, TrustedProxies, parse_network

pytestmark = pytest.mark.each_transport


LOOPBACK = TrustedProxies(NetworkSet([parse_network("127.0.0.0/8")]))
BALANCED = RawSettings(trusted_proxies=LOOPBACK)


# -- through a load balancer --------------------------------------------------


async def _peer_of(frontend: OpenFrontend, way: Way, *pieces: bytes) -> str:
    assert await way.send(frontend, *pieces) == STORED
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
    """The sender is the address in the header; what follows the header is the file."""
    async with open_frontend(BALANCED) as frontend:
        each = [header + b"content"], [header, b"content"], [header[:7], header[7:] + b"content"]
        for pieces in each:
            found = await _peer_of(frontend, way, *pieces)
            assert found == peer or (peer.endswith("*") and found.startswith(peer[:-1]))
        assert frontend.stored == [b"content"] * 3


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    header=st.sampled_from([line(), binary(), binary("2001:db8::7", "::1", more=bytes(50))]),
    content=st.binary(min_size=1, max_size=200),
    cuts=st.lists(st.integers(1, 250), max_size=4),
    way=st.sampled_from([*Way, None]),
)
async def test_any_chunking(
    header: bytes, content: bytes, cuts: list[int], way: Way | None
) -> None:
    """However header and file are split on their way, the file and the peer are the same."""
    everything = header + content
    ends = [0, *sorted({cut for cut in cuts if cut < len(everything)}), len(everything)]
    async with open_frontend(BALANCED) as frontend:
        pieces = [everything[one:two] for one, two in itertools.pairwise(ends)]
        if way is not None:
            peer = await way.arrive(frontend, *pieces)
        else:
            peer = frontend.connect()
            for piece in pieces:
                peer.sendall(piece)
                await turns(2)
            peer.shutdown(socket.SHUT_WR)
        assert await receive(peer) == STORED
        assert frontend.stored == [content]
        assert frontend.log.ends[0]["peer"].endswith(":50123")


@pytest.mark.parametrize("header", [line(), binary(), block(0x20, 0), b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("half_close", [True, False])
async def test_header_without_a_file(way: Way, header: bytes, half_close: bool) -> None:
    """A header alone is an empty upload: nothing is stored or logged."""
    async with open_frontend(BALANCED) as frontend:
        if half_close:
            assert refusal_code(await way.send(frontend, header)) == "empty"
        else:
            await way.arrive(frontend, header, end=close)
            await until(lambda: frontend.log.others)
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert counts(frontend) == {}


@pytest.mark.parametrize("end", [close, reset, half_close])
async def test_health_check(way: Way, end: Callable[[socket.socket], None]) -> None:
    """A balancer that connects and disconnects leaves no file, no log line and no count."""
    slots = ConnectionSlots(1)
    async with open_frontend(BALANCED, slots=slots) as frontend:
        for _ in range(3):
            peer = await way.arrive(frontend, end=end)
            if end is half_close:
                assert await receive(peer) == b""
            peer.close()
            await turns()
            await frontend.is_quiet()
            assert slots.taken == 0
        assert frontend.stored == []
        assert frontend.log.ends == []
        assert frontend.log.loud() == []
        assert counts(frontend) == {}


@pytest.mark.parametrize(
    "trusted_proxies", [TrustedProxies(NetworkSet([])), TrustedProxies(NetworkSet([]), unix=True)]
)
async def test_untrusted_proxy(way: Way, trusted_proxies: TrustedProxies) -> None:
    """A peer that is not a trusted proxy is rejected, with or without a header."""
    async with open_frontend(RawSettings(trusted_proxies=trusted_proxies)) as frontend:
        for data in (line() + b"content", b"content"):
            assert refusal_code(await way.send(frontend, data)) == "not-allowed"
        assert frontend.stored == []
        assert counts(frontend) == {"not-allowed": 2}


async def test_balancer_at_a_unix_socket(way: Way, tmp_path: Path) -> None:
    """A balancer may connect to a Unix socket."""
    believed = TrustedProxies(NetworkSet([]), unix=True)
    async with open_frontend(RawSettings(trusted_proxies=believed)) as frontend:
        async with frontend.also_at("unix", tmp_path) as connect:
            assert await way.send(frontend, binary(), b"content", connect=connect) == STORED
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
    """
    A balancer that sends no complete header is refused, and nothing of it is stored or
    logged.
    """
    async with open_frontend(BALANCED) as frontend:
        assert refusal_code(await way.send(frontend, data)) == "not-allowed"
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.ends == []
        assert counts(frontend) == {"not-allowed": 1}


async def test_header_too_late() -> None:
    """The header has to arrive within some seconds; its bytes buy no time."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        peer.sendall(line()[:3])
        await until(lambda: frontend.factory.protocols)
        await turns()
        frontend.clock.advance(HEADER_TIME - 1)
        peer.sendall(line()[3:9])
        await turns()
        assert not counts(frontend)
        frontend.clock.advance(1)
        assert refusal_code(await receive(peer)) == "timeout"
        assert counts(frontend) == {"timeout": 1}


async def test_header_in_time() -> None:
    """When the header is complete its timeout ends, and the idle timeout begins."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        peer.sendall(line())
        await until(lambda: frontend.senders)
        frontend.clock.advance(59)
        peer.sendall(b"content")
        peer.shutdown(socket.SHUT_WR)
        assert await receive(peer) == STORED


async def test_limits_are_for_the_real_address(way: Way) -> None:
    """Rules and counts apply to the sender, not to its balancer."""
    chosen = RawSettings(
        trusted_proxies=LOOPBACK, max_per_address=1, rules=rules_of(deny="127.0.0.0/8 192.0.2.66")
    )
    slots = ConnectionSlots(3)
    async with open_frontend(chosen, slots=slots) as frontend:
        first = frontend.connect()
        first.sendall(binary())
        await until(lambda: frontend.senders)
        assert refusal_code(await way.send(frontend, binary() + b"content")) == "busy"
        assert (
            refusal_code(await way.send(frontend, binary("192.0.2.66") + b"content"))
            == "not-allowed"
        )
        assert await way.send(frontend, binary("192.0.2.8") + b"content") == STORED
        await until(lambda: slots.taken == 1)
        first.close()
        await frontend.is_quiet()
        assert slots.taken == 0
        assert len(frontend.factory.gate.admission) == 0


async def test_unknown_sender(way: Way) -> None:
    """
    A sender whose address the balancer does not know is allowed, unless there is an allow
    list.
    """
    async with open_frontend(
        RawSettings(trusted_proxies=LOOPBACK, rules=rules_of("192.0.2.0/24"))
    ) as frontend:
        assert refusal_code(await way.send(frontend, b"PROXY UNKNOWN\r\ncontent")) == "not-allowed"
        assert await way.send(frontend, line() + b"content") == STORED
        itself = block(0x20, 0)  # the balancer
        assert await way.send(frontend, itself + b"content") == STORED


async def test_slots_before_the_header(way: Way) -> None:
    """A connection takes a slot before its header is complete."""
    async with open_frontend(BALANCED, slots=ConnectionSlots(1)) as frontend:
        frontend.connect()
        await until(lambda: frontend.factory.protocols)
        assert refusal_code(await way.send(frontend, line() + b"content")) == "busy"


async def test_a_header_takes_no_other_slot(way: Way) -> None:
    """A connection and its header take one slot, which is released."""
    slots = ConnectionSlots(1)
    async with open_frontend(BALANCED, slots=slots) as frontend:
        for _ in range(3):
            assert await way.send(frontend, line(), b"content") == STORED
            await frontend.is_quiet()
            assert slots.taken == 0


async def test_stopping_during_the_header() -> None:
    """The end of a header does not count as the end of its connection for a drain."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        begun, gone = frontend.factory.all_begun(), frontend.factory.all_gone()
        peer.sendall(line() + b"content")
        await until(lambda: frontend.senders)
        assert not gone.called
        peer.shutdown(socket.SHUT_WR)
        assert await receive(peer) == STORED
        assert begun.called
        await until(lambda: gone.called)


async def test_stopping_before_the_header() -> None:
    """A connection without a complete header is refused when the daemon stops."""
    async with open_frontend(BALANCED) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        frontend.factory.drain()
        assert refusal_code(await receive(peer)) == "shutting-down"


async def test_header_and_largest_size(way: Way) -> None:
    """The header is not part of the file, and does not count towards its size."""
    async with open_frontend(RawSettings(trusted_proxies=LOOPBACK, max_size=7)) as frontend:
        assert await way.send(frontend, line(), b"content") == STORED
        assert refusal_code(await way.send(frontend, line(), b"contents")) == "too-large"
        assert [event["size"] for event in frontend.log.ends] == [7, 8]


async def test_no_header_is_expected(way: Way) -> None:
    """Without trusted proxies, what looks like a header is part of the file."""
    async with open_frontend() as frontend:
        assert await way.send(frontend, line() + b"content") == STORED
        assert frontend.stored == [line() + b"content"]


async def test_a_header_under_other_limits() -> None:
    """
    A connection keeps its slot when limits change; the new limits apply to the sender's
    address.
    """
    slots = ConnectionSlots(3)
    async with open_frontend(BALANCED, slots=slots) as frontend:
        peers = [frontend.connect() for _ in range(3)]
        await until(lambda: slots.taken == 3)
        slots.change(ConnectionSlots(1))
        frontend.factory.reconfigure(
            RawSettings(trusted_proxies=LOOPBACK, rules=rules_of(deny="192.0.2.66"))
        )
        for peer, sender in zip(peers, ["192.0.2.7", "192.0.2.66", "192.0.2.8"], strict=True):
            peer.sendall(binary(sender) + b"content")
            peer.shutdown(socket.SHUT_WR)
        assert await receive(peers[0]) == await receive(peers[2]) == STORED
        assert refusal_code(await receive(peers[1])) == "not-allowed"
        await frontend.is_quiet()
        assert slots.taken == 0
        assert len(frontend.factory.gate.admission) == 0
