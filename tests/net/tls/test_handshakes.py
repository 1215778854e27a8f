"""
TLS handshakes: which ones the gate admits, and those that fail.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from tests.support.frontends import open_frontend
from tests.support.senders import STORED, reset
from tests.support.tls_peers import Peer, client_context, finished, identity, shaken
from tests.support.waiting import in_thread, reactor, turns, until
from twisted_upload import upload
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.networks import Rules, parse_network
from twisted_upload.net.tls.endpoints import TLSClientEndpoint, TLSServerFactory
from twisted_upload.net.tls.transport import HANDSHAKE_TIMEOUT

UNLIMITED = RawSettings(max_per_address=0)


# The gate


async def test_denied() -> None:
    """A denied sender is disconnected before the handshake."""
    denied = Rules((), [parse_network("127.0.0.0/8")])
    async with open_frontend(RawSettings(rules=denied), identity=identity()) as frontend:
        assert await in_thread(finished, frontend.connect())
        assert frontend.factory.refusals.total == {"not-allowed": 1}
        assert +frontend.factory.gate.rejected == {"not-allowed": 1}
        assert len(frontend.factory.gate.admission) == 0
        frontend.factory.refusals.log_summary()


async def test_handshakes_take_slots() -> None:
    """A handshake takes a slot, which is released however it ends."""
    slots = ConnectionSlots(most=1)
    async with open_frontend(identity=identity(), slots=slots) as frontend:
        first = frontend.connect()
        await until(lambda: slots.taken)
        assert await in_thread(finished, frontend.connect())
        first.close()
        await until(lambda: not slots.taken)

        silent = frontend.connect()
        await until(lambda: slots.taken)
        frontend.clock.advance(HANDSHAKE_TIMEOUT)
        await until(lambda: not slots.taken)
        silent.close()

        peer = await shaken(frontend)
        await until(lambda: frontend.factory.protocols)
        assert slots.taken == 1
        assert await in_thread(finished, frontend.connect())
        await in_thread(peer.send, b"the one", last=True)
        assert await in_thread(peer.receive) == STORED
        await until(lambda: not slots.taken)

        last = frontend.connect()
        await until(lambda: slots.taken)
        await frontend.port.stopListening()
        assert not slots.taken
        assert await in_thread(finished, last)
        assert frontend.factory.refusals.total == {"busy": 2, "TLS handshake timeout": 1}


async def test_handshakes_of_one_address() -> None:
    """Handshakes count for their address too."""
    async with open_frontend(RawSettings(max_per_address=2), identity=identity()) as frontend:
        peers = [frontend.connect(), frontend.connect()]
        await until(lambda: frontend.factory.gate.admission.slots.taken == 2)
        assert await in_thread(finished, frontend.connect())
        for peer in peers:
            peer.close()
        await until(lambda: not len(frontend.factory.gate.admission))
        frontend.factory.refusals.log_summary()


async def test_handshakes_under_other_limits() -> None:
    """A handshake keeps its slot when limits change, and releases it under the new ones."""
    slots = ConnectionSlots(most=3)
    async with open_frontend(identity=identity(), slots=slots) as frontend:
        one, other = frontend.connect(), frontend.connect()
        await until(lambda: slots.taken == 2)
        frontend.factory.reconfigure(RawSettings(max_per_address=1))
        slots.change(ConnectionSlots(most=1))
        assert await in_thread(finished, frontend.connect())
        other.close()
        await until(lambda: slots.taken == 1)
        peer = Peer(client_context(), one)
        await in_thread(peer.handshake, b"content", last=True)
        assert await in_thread(peer.receive) == STORED
        await until(lambda: not slots.taken)
        assert len(frontend.factory.gate.admission) == 0
        frontend.factory.refusals.log_summary()


async def test_a_handshake_under_other_rules() -> None:
    """A sender that a reload denies during its handshake is rejected after it."""
    slots = ConnectionSlots()
    async with open_frontend(identity=identity(), slots=slots) as frontend:
        peer = Peer(client_context(), frontend.connect())
        await until(lambda: slots.taken == 1)
        denied = Rules(deny=[parse_network("127.0.0.0/8")])
        frontend.factory.reconfigure(RawSettings(rules=denied))
        await in_thread(peer.handshake, b"content", last=True)
        assert b"not-allowed" in await in_thread(peer.receive)
        await until(lambda: not slots.taken)
        assert frontend.stored == []
        frontend.factory.refusals.log_summary()


async def test_without_tls_is_counted() -> None:
    """A sender that speaks another protocol is counted; a port probe is not."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.connect().close()
        peer = frontend.connect()
        await in_thread(peer.sendall, GARBAGE["http"])
        await until(lambda: len(frontend.log.others) == 2)
        assert frontend.factory.refusals.total == {"without TLS": 1}
        frontend.factory.refusals.log_summary()


# Handshakes that fail


GARBAGE: dict[str, bytes] = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "photo": b"\xff\xd8\xff\xe0" + bytes(1000),
    "much": bytes(3_000_000),
    "record": b"\x16\x03\x01\x02\x00" + bytes(512),
    "alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "huge": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "answer": STORED,
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_no_tls(garbage: str) -> None:
    """A sender that speaks another protocol is disconnected: no upload, and one debug line."""
    async with open_frontend(identity=identity()) as frontend:
        peer = frontend.connect()

        def send() -> bool:
            try:
                peer.sendall(GARBAGE[garbage])
            except ConnectionError:
                return True
            return finished(peer)

        assert await in_thread(send)
        await until(lambda: frontend.log.others)
        (event,) = frontend.log.others
        assert formatEvent(event).startswith("no TLS with 127.0.0.1:")
        assert (frontend.log.ends, frontend.log.loud(), frontend.factory.protocols) == (
            [],
            [],
            {},
        )


async def test_noise() -> None:
    """No noise is accepted, leaves anything behind, or is logged above debug level."""
    chance = random.Random(4)
    prefixes = [b"", b"\x16\x03\x01", b"\x16\x03\x03\x00\x50", b"\x80\x2e\x01", b"\x17\x03\x03"]
    async with open_frontend(UNLIMITED, identity=identity()) as frontend:

        def make_noise() -> None:
            for _ in range(300):
                with socket.create_connection(frontend.address) as peer:
                    peer.sendall(chance.choice(prefixes) + chance.randbytes(chance.randrange(900)))
                    if chance.random() < 0.5:
                        reset(peer)

        await in_thread(make_noise)
        await until(lambda: len(frontend.log.others) == 300)
        assert (frontend.log.ends, frontend.log.loud(), frontend.factory.protocols) == (
            [],
            [],
            {},
        )
        frontend.factory.refusals.log_summary()
        assert not frontend.clock.getDelayedCalls()
        peer = await shaken(frontend)
        await in_thread(peer.send, b"still here", last=True)
        assert await in_thread(peer.receive) == STORED


@pytest.mark.parametrize("sent", [0, 1, 60])
async def test_half_a_handshake(sent: int) -> None:
    """A handshake has a timeout, whatever trickles in."""
    async with open_frontend(identity=identity()) as frontend:
        peer = frontend.connect()
        hello = Peer(client_context(), peer)
        with pytest.raises(ssl.SSLWantReadError):
            hello._tls.do_handshake()
        begin = hello._outgoing.read()[:sent]
        await in_thread(peer.sendall, begin)
        await turns(20)
        frontend.clock.advance(HANDSHAKE_TIMEOUT - 1)
        await turns(20)
        assert not select.select([peer], [], [], 0)[0]
        frontend.clock.advance(1)
        assert await in_thread(finished, peer)
        await until(lambda: frontend.log.others)
        assert "no TLS handshake within 30" in formatEvent(frontend.log.others[0])
        frontend.factory.refusals.log_summary()
        assert not frontend.clock.getDelayedCalls()


async def test_handshake_while_we_were_stalled() -> None:
    """A handshake that was not read because the process was stalled gets its timeout again."""
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(client_context(), frontend.connect())
        await until(lambda: frontend.factory.gate.admission.slots.taken)
        frontend.clock.advance(2 * HANDSHAKE_TIMEOUT)
        await in_thread(peer.handshake, b"x", last=True)
        assert await in_thread(peer.receive) == STORED
        assert not +frontend.factory.gate.handshake_failures


async def test_port_closed_during_handshakes() -> None:
    """When the port is closed, pending handshakes are ended."""
    async with open_frontend(identity=identity()) as frontend:
        peer = frontend.connect()
        await turns(20)
        await frontend.port.stopListening()
        assert await in_thread(finished, peer)
        await turns()
        assert not frontend.clock.getDelayedCalls()


async def test_old_tls() -> None:
    """TLS 1.1 is refused with an alert."""
    async with open_frontend(identity=identity()) as frontend:
        context = client_context()
        with pytest.deprecated_call():
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await in_thread(Peer(context, frontend.connect()).handshake)
        await until(lambda: frontend.log.others)


async def test_no_protocol() -> None:
    """If the factory builds no protocol, the connection is closed properly."""
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    port: Any = reactor.listenTCP(
        0, TLSServerFactory(factory, Clock(), identity()), 50, "127.0.0.1"
    )
    connected = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    peer = await in_thread(Peer(client_context(), connected).handshake)
    assert await in_thread(peer.receive) == b""
    connected.close()
    await port.stopListening()


# Many


async def test_many_at_once() -> None:
    """500 concurrent senders are served, each with its own bytes."""
    async with open_frontend(UNLIMITED, clock=reactor, identity=identity()) as frontend:
        host, port = frontend.address
        context = client_context()

        def send(number: int) -> Deferred[Any]:
            plain = TCP4ClientEndpoint(reactor, host, port)
            endpoint = TLSClientEndpoint(plain, context, "localhost", reactor)
            return upload(b"%d " % number * 1000, endpoint, reactor=reactor)

        await gatherResults([send(number) for number in range(500)])
        assert sorted(frontend.stored) == sorted(b"%d " % number * 1000 for number in range(500))
        await frontend.is_quiet()
