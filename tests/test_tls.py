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

from tests.helpers import (
    OpenDoor,
    in_thread,
    open_door,
    reactor,
    reset,
    turns,
    until,
)
from tests.tls_peers import VERSIONS, Peer, client_context, finished, identity
from twisted_upload import upload
from twisted_upload.admission import Places
from twisted_upload.networks import Rules, parse_network
from twisted_upload.raw import DoorSettings
from twisted_upload.tls import HANDSHAKE_TIMEOUT
from twisted_upload.tls_endpoints import TLSClientEndpoint, TLSServerFactory
from twisted_upload.turned_away import LONGEST_STAY

KEPT = "上传成功".encode()

EVERYBODY = DoorSettings(max_per_address=0)

both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


async def shaken(door: OpenDoor, version: ssl.TLSVersion = VERSIONS[-1]) -> Peer:
    """A sender that has come in."""
    peer = Peer(client_context(version), door.connect())
    return await in_thread(peer.handshake)


def the_producer(door: OpenDoor) -> IPushProducer:
    """Of the one upload that is on its way."""
    producer = door.store.unfinished[0].producer
    assert producer is not None
    return producer


# Uploads


@both_versions
@pytest.mark.parametrize("size", [1, 16_384, 100_000, 20_000_000])
async def test_upload(version: ssl.TLSVersion, size: int) -> None:
    """What came before the close_notify is kept; answer and close_notify follow."""
    data = random.Random(size).randbytes(size)
    async with open_door(identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, data, last=True)
        assert await in_thread(peer.hear) == KEPT
        assert door.kept == [data]
        assert await in_thread(peer.socket.recv, 1) == b""  # in this order
        await door.is_quiet()
        assert door.log.kinds == ["kept"]


@both_versions
async def test_answer_comes_late(version: ssl.TLSVersion) -> None:
    """The direction of the answer stays open for as long as the store takes."""
    async with open_door(identity=identity()) as door:
        door.store.holding = True
        peer = await shaken(door, version)
        await in_thread(peer.send, b"slow", last=True)
        await door.has_come(4)
        await turns(20)
        assert not select.select([peer.socket], [], [], 0)[0]
        door.store.release()
        assert await in_thread(peer.hear) == KEPT


@both_versions
async def test_whoever_does_not_wait(version: ssl.TLSVersion) -> None:
    """A sender that says close_notify, and goes, has its file kept."""
    async with open_door(identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, b"fire and forget", last=True)
        peer.socket.close()
        await door.is_quiet()
        assert door.kept == [b"fire and forget"]


@both_versions
@pytest.mark.parametrize("answered", [True, False])
async def test_half_close_below(version: ssl.TLSVersion, answered: bool) -> None:
    """A FIN after the close_notify changes nothing."""
    async with open_door(identity=identity()) as door:
        door.store.holding = not answered
        peer = await shaken(door, version)
        await in_thread(peer.send, b"twice over", last=True)
        peer.socket.shutdown(socket.SHUT_WR)
        await turns(20)
        door.store.release()
        assert await in_thread(peer.hear) == KEPT


async def test_nothing_sent() -> None:
    """A close_notify before any byte is an empty upload."""
    async with open_door(identity=identity()) as door:
        peer = await shaken(door)
        await in_thread(peer.send, last=True)
        assert (await in_thread(peer.hear)).startswith("上传失败: empty ".encode())


async def test_just_looking() -> None:
    """A handshake and nothing else is worth a debug line."""
    async with open_door(identity=identity()) as door:
        peer = await shaken(door)
        peer.socket.close()
        await until(lambda: door.log.others)
        assert (door.log.ends, door.log.loud()) == ([], [])


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
    async with open_door(identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, bytes(size))
        await door.has_come(size)
        CUTS[cut](peer.socket)
        if cut == "half-closed":
            with pytest.raises(ConnectionResetError):
                await in_thread(peer.hear)
        await door.is_quiet()
        assert (door.log.kinds, door.kept) == (["lost"], [])


@both_versions
async def test_cut_within_the_end(version: ssl.TLSVersion) -> None:
    """Not one byte of the close_notify may be missing."""
    async with open_door(identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.socket.sendall, peer.encrypted(b"almost", last=True)[:-1])
        await door.has_come(6)
        peer.socket.shutdown(socket.SHUT_WR)
        await door.is_quiet()
        assert (door.log.kinds, door.kept) == (["lost"], [])


@both_versions
@pytest.mark.parametrize("place", [0, 1, 3, 5, 100, -1])
async def test_a_changed_byte(version: ssl.TLSVersion, place: int) -> None:
    """Bytes that somebody has changed on the way end the upload: lost."""
    async with open_door(identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, b"before")
        await door.has_come(6)
        sent = bytearray(peer.encrypted(bytes(1000)))
        sent[place] ^= 0x55
        await in_thread(peer.socket.sendall, bytes(sent))
        await door.is_quiet()
        assert (door.log.kinds, door.kept, door.log.loud()) == (["lost"], [], [])


async def test_end_and_reset_at_once() -> None:
    """A close_notify that has come is an end, whatever follows it."""
    async with open_door(identity=identity()) as door:
        peer = await shaken(door)
        await in_thread(peer.send, b"whole")
        await door.has_come(5)
        await in_thread(peer.send, last=True)
        await until(lambda: door.log.ends)
        reset(peer.socket)
        await door.is_quiet()
        assert door.kept == [b"whole"]


async def test_what_follows_the_end() -> None:
    """What somebody sends after a close_notify is no part of anything, and is not read."""
    async with open_door(identity=identity()) as door:
        door.store.holding = True
        peer = await shaken(door)
        await in_thread(peer.send, b"all", last=True)
        await door.has_come(3)

        def send_more() -> None:
            with contextlib.suppress(ConnectionError):
                peer.socket.sendall(bytes(50_000_000))

        sending = in_thread(send_more)
        (protocol,) = door.senders
        await until(lambda: protocol.transport.transport not in reactor.getReaders())
        await turns(20)
        assert not sending.called
        door.store.release()
        await sending
        await door.is_quiet()
        assert (door.log.kinds, door.kept) == (["kept"], [b"all"])


# Refusals


@both_versions
async def test_refused_while_sending(version: ssl.TLSVersion) -> None:
    """A sender hears of a refusal in the middle of its sending, and may go on for a while."""
    async with open_door(DoorSettings(max_size=1000), identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, bytes(2_000_000))
        assert (await in_thread(peer.hear)).startswith("上传失败: too-large ".encode())
        await in_thread(peer.send, bytes(2_000_000), last=True)
        await door.is_quiet()
        assert (door.log.kinds, door.kept, door.log.loud()) == (["refused"], [], [])


@both_versions
async def test_refused_while_paused(version: ssl.TLSVersion) -> None:
    """The same, where the store had it paused."""
    async with open_door(DoorSettings(idle_timeout=60), identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, bytes(1000))
        await door.has_come(1000)
        the_producer(door).pauseProducing()
        await in_thread(peer.send, bytes(50_000))
        door.factory.refuse_the_rest()
        await in_thread(peer.send, bytes(50_000), last=True)
        assert (await in_thread(peer.hear)).startswith("上传失败: shutting-down ".encode())
        await door.is_quiet()


@both_versions
async def test_refused_at_once(version: ssl.TLSVersion) -> None:
    """A daemon that stops says so, even where data came together with the handshake."""
    async with open_door(identity=identity()) as door:
        peer = Peer(client_context(version), door.connect())
        await until(door.clock.getDelayedCalls)
        await door.factory.drain()
        await in_thread(peer.handshake, bytes(20_000), last=True)
        assert (await in_thread(peer.hear)).startswith("上传失败: shutting-down ".encode())
        await door.is_quiet()


@both_versions
async def test_turned_away_while_sending(version: ssl.TLSVersion) -> None:
    """Nor is that lost on a sender that goes on sending."""
    async with open_door(identity=identity()) as door:
        peer = Peer(client_context(version), door.connect())
        await until(door.clock.getDelayedCalls)
        await door.factory.drain()
        await in_thread(peer.handshake, bytes(200_000))
        assert (await in_thread(peer.hear)).startswith("上传失败: shutting-down ".encode())
        await in_thread(peer.send, bytes(200_000))
        door.clock.advance(LONGEST_STAY)
        await door.is_quiet()
        assert await in_thread(finished, peer.socket)


@both_versions
async def test_silence(version: ssl.TLSVersion) -> None:
    """A sender that never ends is refused for its silence, as over plain TCP."""
    async with open_door(DoorSettings(idle_timeout=5), identity=identity()) as door:
        peer = await shaken(door, version)
        await in_thread(peer.send, b"and then?")
        await door.has_come(9)
        door.clock.advance(5)
        assert (await in_thread(peer.hear)).startswith("上传失败: timeout ".encode())
        await in_thread(peer.send, last=True)
        await door.is_quiet()


async def test_silence_as_end() -> None:
    """Or kept for it."""
    async with open_door(DoorSettings(finish_after_idle=5), identity=identity()) as door:
        peer = await shaken(door)
        await in_thread(peer.send, b"that is all")
        await door.has_come(11)
        door.clock.advance(5)
        assert await in_thread(peer.hear) == KEPT
        await in_thread(peer.send, last=True)
        await door.is_quiet()
        assert door.kept == [b"that is all"]


# Back-pressure


@both_versions
async def test_paused(version: ssl.TLSVersion) -> None:
    """An upload that is paused takes no more than is on its way, until it is resumed."""
    data = random.Random(1).randbytes(30_000_000)
    async with open_door(identity=identity()) as door:
        peer = await shaken(door, version)
        sending = in_thread(peer.send, data[:1000])
        await sending
        await door.has_come(1000)
        the_producer(door).pauseProducing()
        sending = in_thread(peer.send, data[1000:], last=True)
        await turns(100)
        assert len(door.incoming) == 1000
        assert not sending.called
        the_producer(door).resumeProducing()
        await sending
        assert await in_thread(peer.hear) == KEPT
        assert door.kept == [data]


@both_versions
async def test_pausing_again_and_again(version: ssl.TLSVersion) -> None:
    """No byte, and no end, is lost in pauses."""
    data = random.Random(2).randbytes(3_000_000)
    async with open_door(clock=reactor, identity=identity()) as door:
        peer = await shaken(door, version)
        sending = in_thread(peer.send, data, last=True)
        hearing = sending.addCallback(lambda _: in_thread(peer.hear))
        await door.has_come(1)
        while not hearing.called and door.store.unfinished:
            producer = the_producer(door)
            producer.pauseProducing()
            size = len(door.incoming)
            await turns(3)
            assert len(door.incoming) == size
            producer.resumeProducing()
            await turns(2)
        assert await hearing == KEPT
        assert door.kept == [data]


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
    async with open_door(DoorSettings(rules=denied), identity=identity()) as door:
        assert await in_thread(finished, door.connect())
        assert door.factory.refusals.total == {"not-allowed": 1}
        assert door.factory.gate.turned_away == {"not-allowed": 1}
        assert len(door.factory.gate.admission) == 0
        door.factory.refusals.tell()


async def test_handshakes_take_places() -> None:
    """A handshake takes a place, which is free again whatever comes of it."""
    places = Places(most=1)
    async with open_door(identity=identity(), places=places) as door:
        first = door.connect()
        await until(lambda: places.taken)
        assert await in_thread(finished, door.connect())
        first.close()
        await until(lambda: not places.taken)

        silent = door.connect()
        await until(lambda: places.taken)
        door.clock.advance(HANDSHAKE_TIMEOUT)
        await until(lambda: not places.taken)
        silent.close()

        peer = await shaken(door)
        await until(lambda: door.factory.protocols)
        assert places.taken == 1
        assert await in_thread(finished, door.connect())
        await in_thread(peer.send, b"the one", last=True)
        assert await in_thread(peer.hear) == KEPT
        await until(lambda: not places.taken)

        last = door.connect()
        await until(lambda: places.taken)
        await door.port.stopListening()
        assert not places.taken
        assert await in_thread(finished, last)
        assert door.factory.refusals.total == {"busy": 2, "TLS handshake timeout": 1}


async def test_handshakes_of_one_address() -> None:
    """They count for their address as well."""
    async with open_door(DoorSettings(max_per_address=2), identity=identity()) as door:
        peers = [door.connect(), door.connect()]
        await until(lambda: door.factory.gate.admission.places.taken == 2)
        assert await in_thread(finished, door.connect())
        for peer in peers:
            peer.close()
        await until(lambda: not len(door.factory.gate.admission))
        door.factory.refusals.tell()


async def test_without_tls_is_counted() -> None:
    """Who speaks something else is counted, and who only looks is not."""
    async with open_door(identity=identity()) as door:
        door.connect().close()
        peer = door.connect()
        await in_thread(peer.sendall, GARBAGE["http"])
        await until(lambda: len(door.log.others) == 2)
        assert door.factory.refusals.total == {"without TLS": 1}
        door.factory.refusals.tell()


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
    async with open_door(identity=identity()) as door:
        peer = door.connect()

        def send() -> bool:
            try:
                peer.sendall(GARBAGE[garbage])
            except ConnectionError:
                return True
            return finished(peer)

        assert await in_thread(send)
        await until(lambda: door.log.others)
        (event,) = door.log.others
        assert formatEvent(event).startswith("no TLS with 127.0.0.1:")
        assert (door.log.ends, door.log.loud(), door.factory.protocols) == ([], [], set())


async def test_noise() -> None:
    """No noise whatsoever gets in, leaves something behind, or is told aloud."""
    chance = random.Random(4)
    prefixes = [b"", b"\x16\x03\x01", b"\x16\x03\x03\x00\x50", b"\x80\x2e\x01", b"\x17\x03\x03"]
    async with open_door(EVERYBODY, identity=identity()) as door:

        def make_noise() -> None:
            for _ in range(300):
                with socket.create_connection(door.address) as peer:
                    peer.sendall(chance.choice(prefixes) + chance.randbytes(chance.randrange(900)))
                    if chance.random() < 0.5:
                        reset(peer)

        await in_thread(make_noise)
        await until(lambda: len(door.log.others) == 300)
        assert (door.log.ends, door.log.loud(), door.factory.protocols) == ([], [], set())
        door.factory.refusals.tell()
        assert not door.clock.getDelayedCalls()
        peer = await shaken(door)
        await in_thread(peer.send, b"still here", last=True)
        assert await in_thread(peer.hear) == KEPT


@pytest.mark.parametrize("sent", [0, 1, 60])
async def test_half_a_handshake(sent: int) -> None:
    """A handshake has its time, and not more, whatever trickles in."""
    async with open_door(identity=identity()) as door:
        peer = door.connect()
        hello = Peer(client_context(), peer)
        with pytest.raises(ssl.SSLWantReadError):
            hello._tls.do_handshake()
        begin = hello._outgoing.read()[:sent]
        await in_thread(peer.sendall, begin)
        await turns(20)
        door.clock.advance(HANDSHAKE_TIMEOUT - 1)
        await turns(20)
        assert not select.select([peer], [], [], 0)[0]
        door.clock.advance(1)
        assert await in_thread(finished, peer)
        await until(lambda: door.log.others)
        assert "no TLS handshake in 30" in formatEvent(door.log.others[0])
        door.factory.refusals.tell()
        assert not door.clock.getDelayedCalls()


async def test_handshake_while_we_stood_still() -> None:
    """A handshake that was not heard because the process stood still has its time again."""
    async with open_door(identity=identity()) as door:
        peer = Peer(client_context(), door.connect())
        await until(lambda: door.factory.gate.admission.places.taken)
        door.clock.advance(2 * HANDSHAKE_TIMEOUT)
        await in_thread(peer.handshake, b"x", last=True)
        assert await in_thread(peer.hear) == KEPT
        assert not door.factory.gate.handshake_failures


async def test_port_closed_during_handshakes() -> None:
    """When the port is closed, nobody else is let in."""
    async with open_door(identity=identity()) as door:
        peer = door.connect()
        await turns(20)
        await door.port.stopListening()
        assert await in_thread(finished, peer)
        await turns()
        assert not door.clock.getDelayedCalls()


async def test_old_tls() -> None:
    """TLS 1.1 is refused, and told so."""
    async with open_door(identity=identity()) as door:
        context = client_context()
        with pytest.deprecated_call():
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await in_thread(Peer(context, door.connect()).handshake)
        await until(lambda: door.log.others)


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
    async with open_door(EVERYBODY, clock=reactor, identity=identity()) as door:
        host, port = door.address
        context = client_context()

        def send(number: int) -> Deferred[Any]:
            plain = TCP4ClientEndpoint(reactor, host, port)
            endpoint = TLSClientEndpoint(plain, context, "localhost", reactor)
            return upload(b"%d " % number * 1000, endpoint, reactor=reactor)

        await gatherResults([send(number) for number in range(500)])
        assert sorted(door.kept) == sorted(b"%d " % number * 1000 for number in range(500))
        await door.is_quiet()
