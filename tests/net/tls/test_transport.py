"""
The TLS transport by itself: back-pressure, half-closes, ends.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
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
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.frontends import open_frontend
from tests.support.senders import STORED
from tests.support.tls_peers import (
    VERSIONS,
    Peer,
    both_versions,
    client_context,
    identity,
    shaken,
    the_producer,
)
from tests.support.waiting import in_thread, reactor, turns, until
from twisted_upload.net.tls.endpoints import TLSServerFactory

# Back-pressure


@both_versions
async def test_paused(version: ssl.TLSVersion) -> None:
    """A paused upload reads no more than is in flight, until it is resumed."""
    data = random.Random(1).randbytes(30_000_000)
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        sending = in_thread(peer.send, data[:1000])
        await sending
        await frontend.has_received(1000)
        the_producer(frontend).pauseProducing()
        sending = in_thread(peer.send, data[1000:], last=True)
        await turns(100)
        assert len(frontend.incoming) == 1000
        assert not sending.called
        the_producer(frontend).resumeProducing()
        await sending
        assert await in_thread(peer.receive) == STORED
        assert frontend.stored == [data]


@both_versions
async def test_pausing_again_and_again(version: ssl.TLSVersion) -> None:
    """Pausing loses no byte and no end."""
    data = random.Random(2).randbytes(3_000_000)
    async with open_frontend(clock=reactor, identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        sending = in_thread(peer.send, data, last=True)
        hearing = sending.addCallback(lambda _: in_thread(peer.receive))
        await frontend.has_received(1)
        while not hearing.called and frontend.store.unfinished:
            producer = the_producer(frontend)
            producer.pauseProducing()
            size = len(frontend.incoming)
            await turns(3)
            assert len(frontend.incoming) == size
            producer.resumeProducing()
            await turns(2)
        assert await hearing == STORED
        assert frontend.stored == [data]


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """Records what it is told."""

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
    """A port for one connection, with a protocol that the test gives."""

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
    """Open one for the length of a test."""
    port = OnePort(protocol)
    try:
        yield port
    finally:
        await port.close()


@both_versions
async def test_end_while_paused(version: ssl.TLSVersion) -> None:
    """
    An end that arrives with the last bytes waits while the protocol is paused, and is
    reported once.
    """
    protocol = Recorder(pause=True)
    async with one_port(protocol) as port:
        peer = await port.shaken(version)
        await in_thread(peer.send, b"all", last=True)
        await until(lambda: len(protocol.told) == 2)
        await turns(20)
        protocol.transport.resumeProducing()
        assert protocol.told == ["made", b"all"]  # not within the call
        protocol.transport.pauseProducing()
        port.clock.advance(0)
        assert protocol.told == ["made", b"all"]  # nor while it is paused again
        protocol.transport.resumeProducing()
        protocol.transport.resumeProducing()
        port.clock.advance(0)
        assert protocol.told == ["made", b"all", "end"]
        await in_thread(peer.receive)
        await until(lambda: len(protocol.told) == 4)
        assert protocol.told[-1] is ConnectionDone
        assert not port.clock.getDelayedCalls()
        peer.socket.close()


async def test_abort_while_the_end_waits() -> None:
    """A connection that is aborted before its end is reported leaves nothing behind."""
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


# The transport by itself


async def test_interfaces() -> None:
    """The transport provides the interfaces that it declares."""
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
        assert await in_thread(peer.receive) == b"ab"
        peer.socket.close()


@both_versions
async def test_our_end_first(version: ssl.TLSVersion) -> None:
    """After sending its end, it writes no more, and continues reading."""
    protocol = Recorder()
    async with one_port(protocol) as port:
        peer = await port.shaken(version)
        await until(lambda: protocol.told)
        protocol.transport.write(b"that was it")
        protocol.transport.loseWriteConnection()
        protocol.transport.loseWriteConnection()
        protocol.transport.write(b"too late")
        assert await in_thread(peer.receive) == b"that was it"
        await in_thread(peer.send, bytes(100_000), last=True)
        await until(lambda: ConnectionDone in protocol.told)
        pieces = [piece for piece in protocol.told if isinstance(piece, bytes)]
        assert b"".join(pieces) == bytes(100_000)
        peer.socket.close()


@pytest.mark.parametrize("way", ["loseWriteConnection", "loseConnection"])
async def test_end_after_a_producer(way: str, tmp_path: Any) -> None:
    """An end that is requested while a producer still writes follows its last byte."""
    data = random.Random(3).randbytes(5_000_000)
    (tmp_path / "file").write_bytes(data)
    protocol = Recorder()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await until(lambda: protocol.told)
        with (tmp_path / "file").open("rb") as file:
            sent: Deferred[bytes] = FileSender().beginFileTransfer(file, protocol.transport)
            getattr(protocol.transport, way)()
            assert await in_thread(peer.receive) == data
            await sent
        peer.socket.close()
        await until(lambda: len(protocol.told) == 2)
        assert protocol.told[-1] is (ConnectionLost if "Write" in way else ConnectionDone)


class Plain(Protocol):
    """A protocol without half-closes."""

    transport: Any

    def __init__(self) -> None:
        self.lost: list[object] = []

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason.type)


@pytest.mark.parametrize("way", ["loseConnection", "abortConnection"])
async def test_enough(way: str) -> None:
    """
    A protocol that closes the connection is told nothing more, not even what has already
    arrived.
    """

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
            assert await in_thread(peer.receive) == b""
        peer.socket.close()


@pytest.mark.parametrize("sent_its_end", [True, False])
async def test_protocol_without_half_close(sent_its_end: bool) -> None:
    """
    For a protocol without half-closes, the peer's end is the end of the connection: a
    clean one, if the protocol has sent its own.
    """
    protocol = Plain()
    async with one_port(protocol) as port:
        peer = await port.shaken()
        await until(lambda: protocol.transport)
        if sent_its_end:
            protocol.transport.loseWriteConnection()
        await in_thread(peer.send, last=True)
        await until(lambda: protocol.lost)
        assert protocol.lost == [ConnectionDone]
        if sent_its_end:
            assert await in_thread(peer.receive) == b""
            assert await in_thread(peer.socket.recv, 1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                await in_thread(peer.receive)
        peer.socket.close()


async def test_slow_reader() -> None:
    """Data for a peer that does not read stays with the producer."""
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
