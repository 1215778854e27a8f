"""
The client connects.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection

from tests.support.frontends import open_frontend
from tests.support.processes import open_descriptors
from tests.support.uploading import CONTENT, Clocked, Endpoint, error_of, errors_of
from tests.support.waiting import reactor
from twisted_upload import upload
from twisted_upload.client.endpoints import client_endpoint
from twisted_upload.errors import CouldNotConnect, TooLarge, UploadTimedOut
from twisted_upload.frontends.raw.settings import RawSettings


async def test_closed_port() -> None:
    """With a closed port, nothing was sent, and a retry is safe."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        failed = await error_of(upload(b"x", "tcp:{}:{}".format(*reserved.getsockname())))
    assert type(failed) is CouldNotConnect
    assert failed.safe_to_repeat
    assert "refused" in str(failed)


async def test_no_such_unix_socket(tmp_path: Path) -> None:
    """The same for a Unix socket that does not exist."""
    failed = await error_of(upload(b"x", f"unix:{tmp_path}/nowhere"))
    assert type(failed) is CouldNotConnect


@pytest.mark.parametrize(
    "endpoint", ["", "no sense", "tcp:", "tcp:host:port:more:x", "x:y", "x:y:z", "http://a b/"]
)
async def test_bad_endpoint(endpoint: str, tmp_path: Path) -> None:
    """An invalid string is a `ValueError` of one line, and the source is not open."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    failed = await error_of(upload(path, endpoint))
    assert type(failed) is ValueError
    assert str(failed).isprintable()
    assert open_descriptors(tmp_path) == []


@pytest.mark.parametrize(
    ("endpoint", "seconds"),
    [("tcp:127.0.0.1:1", 86400), ("tcp:127.0.0.1:1:timeout=7", 7), ("tcp:port=1:host=::1", 86400)],
)
def test_connect_timeout_is_the_callers(endpoint: str, seconds: int) -> None:
    """Twisted's own timeout of 30 s does not end a longer one; one in the string applies."""
    reactor = MemoryReactorClock()
    client_endpoint(reactor, endpoint).connect(Factory.forProtocol(Protocol))
    ((_, _, _, timeout, _),) = reactor.tcpClients
    assert timeout == seconds


async def test_unix_socket(tmp_path: Path) -> None:
    """A Unix socket works like a TCP port, including refusals."""
    async with open_frontend(RawSettings(max_size=1 << 22)) as frontend:
        port = reactor.listenUNIX(str(tmp_path / "socket"), frontend.factory)
        await upload(CONTENT, f"unix:{tmp_path}/socket")
        assert frontend.stored == [CONTENT]
        failed = await error_of(upload(bytes(1 << 23), f"unix:{tmp_path}/socket"))
        assert isinstance(failed, TooLarge)
        await port.stopListening()


async def test_endpoint_object() -> None:
    """An endpoint may also be an object."""
    async with open_frontend() as frontend:
        await upload(CONTENT, TCP4ClientEndpoint(reactor, *frontend.address))
        assert frontend.stored == [CONTENT]


async def test_half_close_is_needed() -> None:
    """An endpoint without half-close is an error before anything is sent."""
    transport = StringTransportWithDisconnection()
    transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]

    def connect(factory: IProtocolFactory) -> Deferred[IProtocol]:
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 6666))
        assert protocol is not None
        transport.protocol = protocol
        done: Deferred[IProtocol] = Deferred()
        protocol.makeConnection(transport)
        done.callback(protocol)
        return done

    failed = await error_of(upload(b"x", Endpoint(connect)))
    assert type(failed) is CouldNotConnect
    assert "half-close" in str(failed)
    assert transport.value() == b""


async def test_broken_endpoint() -> None:
    """Any failure of an endpoint is reported to the caller as a failed connection."""

    def connect(factory: IProtocolFactory) -> Deferred[IProtocol]:
        done: Deferred[IProtocol] = Deferred()
        done.errback(ConnectError(string="the moon"))
        return done

    failed = await error_of(upload(b"x", Endpoint(connect)))
    assert type(failed) is CouldNotConnect


async def test_connect_timeout() -> None:
    """A connection attempt that takes too long is cancelled."""
    ours = Clocked()
    cancelled: list[object] = []
    pending: Deferred[IProtocol] = Deferred(cancelled.append)
    uploading = upload(b"x", Endpoint(lambda _: pending), reactor=ours, connect_timeout=30)
    failed = errors_of(uploading)
    ours.clock.advance(29.9)
    assert failed == []
    ours.clock.advance(0.2)
    assert [type(one) for one in failed] == [UploadTimedOut]
    assert cancelled == [pending]
    assert "30" in str(failed[0])
    assert ours.clock.getDelayedCalls() == []
