"""
TLS in which one side can say that it has finished: the raw door behind it.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.helpers import (
    OpenFrontend,
    in_thread,
    open_frontend,
    reactor,
    reset,
    turns,
    until,
)
from tests.support.tls_peers import VERSIONS, Peer, client_context, finished, identity
from twisted_upload import upload
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.factory import FrontendSettings
from twisted_upload.frontends.rejection import LONGEST_STAY
from twisted_upload.net.networks import Rules, parse_network
from twisted_upload.net.tls.endpoints import TLSClientEndpoint, TLSServerFactory
from twisted_upload.net.tls.transport import HANDSHAKE_TIMEOUT

KEPT = "上传成功".encode()

EVERYBODY = FrontendSettings(max_per_address=0)

both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


async def shaken(frontend: OpenFrontend, version: ssl.TLSVersion = VERSIONS[-1]) -> Peer:
    """A sender that has come in."""
    peer = Peer(client_context(version), frontend.connect())
    return await in_thread(peer.handshake)


def the_producer(frontend: OpenFrontend) -> IPushProducer:
    """Of the one upload that is on its way."""
    producer = frontend.store.unfinished[0].producer
    assert producer is not None
    return producer


# Uploads


@both_versions
@pytest.mark.parametrize("size", [1, 16_384, 100_000, 20_000_000])
async def test_upload(version: ssl.TLSVersion, size: int) -> None:
    """What came before the close_notify is kept; answer and close_notify follow."""
    data = random.Random(size).randbytes(size)
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, data, last=True)
        assert await in_thread(peer.hear) == KEPT
        assert frontend.kept == [data]
        assert await in_thread(peer.socket.recv, 1) == b""  # in this order
        await frontend.is_quiet()
        assert frontend.log.kinds == ["kept"]


@both_versions
async def test_answer_comes_late(version: ssl.TLSVersion) -> None:
    """The direction of the answer stays open for as long as the store takes."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = True
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"slow", last=True)
        await frontend.has_come(4)
        await turns(20)
        assert not select.select([peer.socket], [], [], 0)[0]
        frontend.store.release()
        assert await in_thread(peer.hear) == KEPT


@both_versions
async def test_whoever_does_not_wait(version: ssl.TLSVersion) -> None:
    """A sender that says close_notify, and goes, has its file kept."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"fire and forget", last=True)
        peer.socket.close()
        await frontend.is_quiet()
        assert frontend.kept == [b"fire and forget"]


@both_versions
@pytest.mark.parametrize("answered", [True, False])
async def test_half_close_below(version: ssl.TLSVersion, answered: bool) -> None:
    """A FIN after the close_notify changes nothing."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = not answered
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"twice over", last=True)
        peer.socket.shutdown(socket.SHUT_WR)
        await turns(20)
        frontend.store.release()
        assert await in_thread(peer.hear) == KEPT


async def test_nothing_sent() -> None:
    """A close_notify before any byte is an empty upload."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend)
        await in_thread(peer.send, last=True)
        assert (await in_thread(peer.hear)).startswith("上传失败: empty ".encode())


async def test_just_looking() -> None:
    """A handshake and nothing else is worth a debug line."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend)
        peer.socket.close()
        await until(lambda: frontend.log.others)
        assert (frontend.log.ends, frontend.log.loud()) == ([], [])


# Cuts


CUTS: dict[str, Callable[[socket.socket], object]] = {
    "closed": lambda peer: peer.close(),
    "half-closed": lambda peer: peer.shutdown(socket.SHUT_WR),
    "reset": reset,
}


@both_versions
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_cut(version: ssl.TLSVersion, cut: str, size: int) -> None:
    """A connection that ends without close_notify keeps nothing: its sender was killed."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, bytes(size))
        await frontend.has_come(size)
        CUTS[cut](peer.socket)
        if cut == "half-closed":
            with pytest.raises(ConnectionResetError):
                await in_thread(peer.hear)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.kept) == (["lost"], [])


@both_versions
async def test_cut_within_the_end(version: ssl.TLSVersion) -> None:
    """Not one byte of the close_notify may be missing."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.socket.sendall, peer.encrypted(b"almost", last=True)[:-1])
        await frontend.has_come(6)
        peer.socket.shutdown(socket.SHUT_WR)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.kept) == (["lost"], [])


@both_versions
@pytest.mark.parametrize("place", [0, 1, 3, 5, 100, -1])
async def test_a_changed_byte(version: ssl.TLSVersion, place: int) -> None:
    """Bytes that somebody has changed on the way end the upload: lost."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"before")
        await frontend.has_come(6)
        sent = bytearray(peer.encrypted(bytes(1000)))
        sent[place] ^= 0x55
        await in_thread(peer.socket.sendall, bytes(sent))
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.kept, frontend.log.loud()) == (["lost"], [], [])


async def test_end_and_reset_at_once() -> None:
    """A close_notify that has come is an end, whatever follows it."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend)
        await in_thread(peer.send, b"whole")
        await frontend.has_come(5)
        await in_thread(peer.send, last=True)
        await until(lambda: frontend.log.ends)
        reset(peer.socket)
        await frontend.is_quiet()
        assert frontend.kept == [b"whole"]


async def test_what_follows_the_end() -> None:
    """What somebody sends after a close_notify is no part of anything, and is not read."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = True
        peer = await shaken(frontend)
        await in_thread(peer.send, b"all", last=True)
        await frontend.has_come(3)

        def send_more() -> None:
            with contextlib.suppress(ConnectionError):
                peer.socket.sendall(bytes(50_000_000))

        sending = in_thread(send_more)
        (protocol,) = frontend.senders
        await until(lambda: protocol.transport.transport not in reactor.getReaders())
        await turns(20)
        assert not sending.called
        frontend.store.release()
        await sending
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.kept) == (["kept"], [b"all"])


# Refusals


@both_versions
async def test_refused_while_sending(version: ssl.TLSVersion) -> None:
    """A sender hears of a refusal in the middle of its sending, and may go on for a while."""
    async with open_frontend(FrontendSettings(max_size=1000), identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, bytes(2_000_000))
        assert (await in_thread(peer.hear)).startswith("上传失败: too-large ".encode())
        await in_thread(peer.send, bytes(2_000_000), last=True)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.kept, frontend.log.loud()) == (["refused"], [], [])


@both_versions
async def test_refused_while_paused(version: ssl.TLSVersion) -> None:
    """The same, where the store had it paused."""
    async with open_frontend(FrontendSettings(idle_timeout=60), identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, bytes(1000))
        await frontend.has_come(1000)
        the_producer(frontend).pauseProducing()
        await in_thread(peer.send, bytes(50_000))
        frontend.factory.refuse_the_rest()
        await in_thread(peer.send, bytes(50_000), last=True)
        assert (await in_thread(peer.hear)).startswith("上传失败: shutting-down ".encode())
        await frontend.is_quiet()


@both_versions
async def test_refused_at_once(version: ssl.TLSVersion) -> None:
    """A daemon that stops says so, even where data came together with the handshake."""
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(client_context(version), frontend.connect())
        await until(frontend.clock.getDelayedCalls)
        await frontend.factory.drain()
        await in_thread(peer.handshake, bytes(20_000), last=True)
        assert (await in_thread(peer.hear)).startswith("上传失败: shutting-down ".encode())
        await frontend.is_quiet()


@both_versions
async def test_turned_away_while_sending(version: ssl.TLSVersion) -> None:
    """Nor is that lost on a sender that goes on sending."""
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(client_context(version), frontend.connect())
        await until(frontend.clock.getDelayedCalls)
        await frontend.factory.drain()
        await in_thread(peer.handshake, bytes(200_000))
        assert (await in_thread(peer.hear)).startswith("上传失败: shutting-down ".encode())
        await in_thread(peer.send, bytes(200_000))
        frontend.clock.advance(LONGEST_STAY)
        await frontend.is_quiet()
        assert await in_thread(finished, peer.socket)


@both_versions
async def test_silence(version: ssl.TLSVersion) -> None:
    """A sender that never ends is refused for its silence, as over plain TCP."""
    async with open_frontend(FrontendSettings(idle_timeout=5), identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"and then?")
        await frontend.has_come(9)
        frontend.clock.advance(5)
        assert (await in_thread(peer.hear)).startswith("上传失败: timeout ".encode())
        await in_thread(peer.send, last=True)
        await frontend.is_quiet()


async def test_silence_as_end() -> None:
    """Or kept for it."""
    async with open_frontend(
        FrontendSettings(finish_after_idle=5), identity=identity()
    ) as frontend:
        peer = await shaken(frontend)
        await in_thread(peer.send, b"that is all")
        await frontend.has_come(11)
        frontend.clock.advance(5)
        assert await in_thread(peer.hear) == KEPT
        await in_thread(peer.send, last=True)
        await frontend.is_quiet()
        assert frontend.kept == [b"that is all"]


# Back-pressure


@both_versions
async def test_paused(version: ssl.TLSVersion) -> None:
    """An upload that is paused takes no more than is on its way, until it is resumed."""
    data = random.Random(1).randbytes(30_000_000)
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        sending = in_thread(peer.send, data[:1000])
        await sending
        await frontend.has_come(1000)
        the_producer(frontend).pauseProducing()
        sending = in_thread(peer.send, data[1000:], last=True)
        await turns(100)
        assert len(frontend.incoming) == 1000
        assert not sending.called
        the_producer(frontend).resumeProducing()
        await sending
        assert await in_thread(peer.hear) == KEPT
        assert frontend.kept == [data]


@both_versions
async def test_pausing_again_and_again(version: ssl.TLSVersion) -> None:
    """No byte, and no end, is lost in pauses."""
    data = random.Random(2).randbytes(3_000_000)
    async with open_frontend(clock=reactor, identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        sending = in_thread(peer.send, data, last=True)
        hearing = sending.addCallback(lambda _: in_thread(peer.hear))
        await frontend.has_come(1)
        while not hearing.called and frontend.store.unfinished:
            producer = the_producer(frontend)
            producer.pauseProducing()
            size = len(frontend.incoming)
            await turns(3)
            assert len(frontend.incoming) == size
            producer.resumeProducing()
            await turns(2)
        assert await hearing == KEPT
        assert frontend.kept == [data]


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """Writes down what it is told."""

    transport: Any

    def __init__(self, *, pause: bool = False, end: bool = True) -> None:
        self.pause = pause
        self.end = end
        self.told: list[object] = []

    def connectionMade(self) -> None:
        self.told.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)
        if self.pause:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        self.told.append("end")
        if self.end:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        raise AssertionError

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.told.append(reason.type)


class OnePort:
    """A port for one connection, with a protocol of the test's."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.clock = Clock()
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        self.port: Any = reactor.listenTCP(
            0, TLSServerFactory(factory, self.clock, identity()), 50, "127.0.0.1"
        )

    async def close(self) -> None:
        await self.port.stopListening()
        transport: Any = self.protocol.transport
        if transport is not None:
            transport.abortConnection()
            await turns()

    async def shaken(self, version: ssl.TLSVersion = VERSIONS[-1]) -> Peer:
        connected = socket.create_connection(("127.0.0.1", self.port.getHost().port), 10)
        return await in_thread(Peer(client_context(version), connected).handshake)


@contextlib.asynccontextmanager
async def one_port(protocol: Protocol) -> AsyncIterator[OnePort]:
    """The same, for the length of a test."""
    port = OnePort(protocol)
    try:
        yield port
    finally:
        await port.close()


@both_versions
async def test_end_while_paused(version: ssl.TLSVersion) -> None:
    """An end that comes with the last bytes is kept for a protocol that pauses, and told once."""
    protocol = Recorder(pause=True)
    async with one_port(protocol) as port:
        peer = await port.shaken(version)
        await in_thread(peer.send, b"all", last=True)
        await until(lambda: len(protocol.told) == 2)
        await turns(20)
        protocol.transport.resumeProducing()
        assert protocol.told == ["made", b"all"]  # not from within
        protocol.transport.pauseProducing()
        port.clock.advance(0)
        assert protocol.told == ["made", b"all"]  # nor while it is paused again
        protocol.transport.resumeProducing()
        protocol.transport.resumeProducing()
        port.clock.advance(0)
        assert protocol.told == ["made", b"all", "end"]
        await in_thread(peer.hear)
        await until(lambda: len(protocol.told) == 4)
        assert protocol.told[-1] is ConnectionDone
        assert not port.clock.getDelayedCalls()
        peer.socket.close()


async def test_abort_while_the_end_waits() -> None:
    """A connection that goes before the end could be told leaves nothing behind."""
    protocol = Recorder(pause=True)
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await in_thread(peer.send, b"all", last=True)
        await until(lambda: len(protocol.told) == 2)
        protocol.transport.resumeProducing()
        protocol.transport.abortConnection()
        await until(lambda: len(protocol.told) == 3)
        assert protocol.told[-1] is ConnectionAborted
        assert not port.clock.getDelayedCalls()
        peer.socket.close()


# The transport for its own sake


async def test_interfaces() -> None:
    """It has what it says."""
    protocol = Recorder()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await until(lambda: protocol.told)
        transport = protocol.transport
        for interface in (ITCPTransport, IConsumer, IPushProducer, ISystemHandle):
            verifyObject(interface, transport)
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (True, True)
        assert transport.getHost().port == port.port.getHost().port
        assert transport.getPeer().port == peer.socket.getsockname()[1]
        assert transport.getHandle().getpeername() == peer.socket.getsockname()
        transport.writeSequence([b"a", b"", b"b"])
        transport.stopProducing()
        transport.write(b"too late")
        assert await in_thread(peer.hear) == b"ab"
        peer.socket.close()


@both_versions
async def test_our_end_first(version: ssl.TLSVersion) -> None:
    """Having said its end, it writes no more, and reads on."""
    protocol = Recorder()
    async with one_port(protocol) as port:
        peer = await port.shaken(version)
        await until(lambda: protocol.told)
        protocol.transport.write(b"that was it")
        protocol.transport.loseWriteConnection()
        protocol.transport.loseWriteConnection()
        protocol.transport.write(b"too late")
        assert await in_thread(peer.hear) == b"that was it"
        await in_thread(peer.send, bytes(100_000), last=True)
        await until(lambda: ConnectionDone in protocol.told)
        pieces = [piece for piece in protocol.told if isinstance(piece, bytes)]
        assert b"".join(pieces) == bytes(100_000)
        peer.socket.close()


@pytest.mark.parametrize("way", ["loseWriteConnection", "loseConnection"])
async def test_end_after_a_producer(way: str, tmp_path: Any) -> None:
    """An end that is wanted while a producer still writes comes after its last byte."""
    data = random.Random(3).randbytes(5_000_000)
    (tmp_path / "file").write_bytes(data)
    protocol = Recorder()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await until(lambda: protocol.told)
        with (tmp_path / "file").open("rb") as file:
            sent: Deferred[bytes] = FileSender().beginFileTransfer(file, protocol.transport)
            getattr(protocol.transport, way)()
            assert await in_thread(peer.hear) == data
            await sent
        peer.socket.close()
        await until(lambda: len(protocol.told) == 2)
        assert protocol.told[-1] is (ConnectionLost if "Write" in way else ConnectionDone)


class Plain(Protocol):
    """A protocol that knows nothing of half-closes."""

    transport: Any

    def __init__(self) -> None:
        self.lost: list[object] = []

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason.type)


@pytest.mark.parametrize("way", ["loseConnection", "abortConnection"])
async def test_enough(way: str) -> None:
    """A protocol that has had enough hears nothing more, not even what has come already."""

    class Enough(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            getattr(self.transport, way)()
            self.transport.write(b"too late")

    protocol = Enough()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await in_thread(peer.send, b"all", last=True)
        await until(lambda: len(protocol.told) == 3)
        expected = ConnectionDone if way == "loseConnection" else ConnectionAborted
        assert protocol.told == ["made", b"all", expected]
        if way == "loseConnection":
            assert await in_thread(peer.hear) == b""
        peer.socket.close()


@pytest.mark.parametrize("said", [True, False])
async def test_protocol_without_half_close(said: bool) -> None:
    """
    For a protocol that knows no half-close, the peer's end is that of the
    connection: in order, if it has said its own.
    """
    protocol = Plain()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await until(lambda: protocol.transport)
        if said:
            protocol.transport.loseWriteConnection()
        await in_thread(peer.send, last=True)
        await until(lambda: protocol.lost)
        assert protocol.lost == [ConnectionDone]
        if said:
            assert await in_thread(peer.hear) == b""
            assert await in_thread(peer.socket.recv, 1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                await in_thread(peer.hear)
        peer.socket.close()


async def test_slow_reader() -> None:
    """What is written to a peer that does not read stays with the producer."""
    protocol = Recorder()

    @implementer(IPushProducer)
    class Producer:
        sent = 0
        paused = False

        def pauseProducing(self) -> None:
            self.paused = True

        def resumeProducing(self) -> None:
            self.paused = False
            while not self.paused and self.sent < 50_000_000:
                protocol.transport.write(bytes(100_000))
                self.sent += 100_000

        def stopProducing(self) -> None:
            self.paused = True

    producer = Producer()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await until(lambda: protocol.told)
        protocol.transport.registerProducer(producer, True)
        producer.resumeProducing()
        await turns(20)
        assert producer.paused
        assert producer.sent < 20_000_000
        peer.socket.close()
        await until(lambda: len(protocol.told) == 2)


# The gate


async def test_denied() -> None:
    """Who may not come in is disconnected before the handshake."""
    denied = Rules((), [parse_network("127.0.0.0/8")])
    async with open_frontend(FrontendSettings(rules=denied), identity=identity()) as frontend:
        assert await in_thread(finished, frontend.connect())
        assert frontend.factory.refusals.total == {"not-allowed": 1}
        assert frontend.factory.gate.rejected == {"not-allowed": 1}
        assert len(frontend.factory.gate.admission) == 0
        frontend.factory.refusals.tell()


async def test_handshakes_take_places() -> None:
    """A handshake takes a place, which is free again whatever comes of it."""
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
        assert await in_thread(peer.hear) == KEPT
        await until(lambda: not slots.taken)

        last = frontend.connect()
        await until(lambda: slots.taken)
        await frontend.port.stopListening()
        assert not slots.taken
        assert await in_thread(finished, last)
        assert frontend.factory.refusals.total == {"busy": 2, "TLS handshake timeout": 1}


async def test_handshakes_of_one_address() -> None:
    """They count for their address as well."""
    async with open_frontend(FrontendSettings(max_per_address=2), identity=identity()) as frontend:
        peers = [frontend.connect(), frontend.connect()]
        await until(lambda: frontend.factory.gate.admission.slots.taken == 2)
        assert await in_thread(finished, frontend.connect())
        for peer in peers:
            peer.close()
        await until(lambda: not len(frontend.factory.gate.admission))
        frontend.factory.refusals.tell()


async def test_without_tls_is_counted() -> None:
    """Who speaks something else is counted, and who only looks is not."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.connect().close()
        peer = frontend.connect()
        await in_thread(peer.sendall, GARBAGE["http"])
        await until(lambda: len(frontend.log.others) == 2)
        assert frontend.factory.refusals.total == {"without TLS": 1}
        frontend.factory.refusals.tell()


# Handshakes that come to nothing


GARBAGE: dict[str, bytes] = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "photo": b"\xff\xd8\xff\xe0" + bytes(1000),
    "much": bytes(3_000_000),
    "record": b"\x16\x03\x01\x02\x00" + bytes(512),
    "alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "huge": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "answer": KEPT,
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_no_tls(garbage: str) -> None:
    """Whoever speaks something else is shut out: no upload, and one debug line."""
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
            set(),
        )


async def test_noise() -> None:
    """No noise whatsoever gets in, leaves something behind, or is told aloud."""
    chance = random.Random(4)
    prefixes = [b"", b"\x16\x03\x01", b"\x16\x03\x03\x00\x50", b"\x80\x2e\x01", b"\x17\x03\x03"]
    async with open_frontend(EVERYBODY, identity=identity()) as frontend:

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
            set(),
        )
        frontend.factory.refusals.tell()
        assert not frontend.clock.getDelayedCalls()
        peer = await shaken(frontend)
        await in_thread(peer.send, b"still here", last=True)
        assert await in_thread(peer.hear) == KEPT


@pytest.mark.parametrize("sent", [0, 1, 60])
async def test_half_a_handshake(sent: int) -> None:
    """A handshake has its time, and not more, whatever trickles in."""
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
        assert "no TLS handshake in 30" in formatEvent(frontend.log.others[0])
        frontend.factory.refusals.tell()
        assert not frontend.clock.getDelayedCalls()


async def test_handshake_while_we_stood_still() -> None:
    """A handshake that was not heard because the process stood still has its time again."""
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(client_context(), frontend.connect())
        await until(lambda: frontend.factory.gate.admission.slots.taken)
        frontend.clock.advance(2 * HANDSHAKE_TIMEOUT)
        await in_thread(peer.handshake, b"x", last=True)
        assert await in_thread(peer.hear) == KEPT
        assert not frontend.factory.gate.handshake_failures


async def test_port_closed_during_handshakes() -> None:
    """When the port is closed, nobody else is let in."""
    async with open_frontend(identity=identity()) as frontend:
        peer = frontend.connect()
        await turns(20)
        await frontend.port.stopListening()
        assert await in_thread(finished, peer)
        await turns()
        assert not frontend.clock.getDelayedCalls()


async def test_old_tls() -> None:
    """TLS 1.1 is refused, and told so."""
    async with open_frontend(identity=identity()) as frontend:
        context = client_context()
        with pytest.deprecated_call():
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await in_thread(Peer(context, frontend.connect()).handshake)
        await until(lambda: frontend.log.others)


async def test_nobody_is_let_in() -> None:
    """A factory that builds no protocol has the connection closed in order."""
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    port: Any = reactor.listenTCP(
        0, TLSServerFactory(factory, Clock(), identity()), 50, "127.0.0.1"
    )
    connected = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    peer = await in_thread(Peer(client_context(), connected).handshake)
    assert await in_thread(peer.hear) == b""
    connected.close()
    await port.stopListening()


# Many


async def test_many_at_once() -> None:
    """500 senders at once are served, each with its own bytes."""
    async with open_frontend(EVERYBODY, clock=reactor, identity=identity()) as frontend:
        host, port = frontend.address
        context = client_context()

        def send(number: int) -> Deferred[Any]:
            plain = TCP4ClientEndpoint(reactor, host, port)
            endpoint = TLSClientEndpoint(plain, context, "localhost", reactor)
            return upload(b"%d " % number * 1000, endpoint, reactor=reactor)

        await gatherResults([send(number) for number in range(500)])
        assert sorted(frontend.kept) == sorted(b"%d " % number * 1000 for number in range(500))
        await frontend.is_quiet()
