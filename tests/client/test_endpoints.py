"""
The endpoints that a client connects to.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.tls_peers import files
from tests.support.waiting import reactor
from twisted_upload.client.endpoints import client_endpoint, host_endpoint, target_endpoint
from twisted_upload.client.targets import parse_target
from twisted_upload.net.tls.certificates import verifying_context
from twisted_upload.net.tls.endpoints import TLSClientEndpoint


@pytest.mark.parametrize(
    "description", ["tls:server:6667", "tls:[::1]:6667", "tls:\\:\\:1:6667", "tls:127.0.0.1:1"]
)
def test_tls(description: str) -> None:
    """TLS works with names and with addresses."""
    assert isinstance(client_endpoint(reactor, description), TLSClientEndpoint)


def test_cacert(tmp_path: Path) -> None:
    """The trusted CAs are given as a file."""
    _, _, ca = files(tmp_path)
    endpoint = client_endpoint(reactor, f"tls:server:6667:cacert={ca}")
    assert isinstance(endpoint, TLSClientEndpoint)
    with pytest.raises(ValueError, match="No such file"):
        client_endpoint(reactor, f"tls:server:6667:cacert={ca}x")


@pytest.mark.parametrize("description", ["tcp:server:6666", "unix:/run/upload.sock"])
def test_others(description: str) -> None:
    """All other endpoints are Twisted's."""
    assert not isinstance(client_endpoint(reactor, description), TLSClientEndpoint)


@pytest.mark.parametrize(
    "description",
    [
        "tls:",
        "tls:server",
        "tls::6667",
        "tls:server:",
        "tls:server:port",
        "tls:server:0",
        "tls:server:65536",
        "tls:server:6667:more",
        "tls:server:6667:nonsense=1",
        "tls:server:6667\\",
        "tls:.:6667",
        "nonsense:1",
        "",
    ],
)
def test_invalid(description: str) -> None:
    """An invalid endpoint gives an error of one line that quotes it."""
    with pytest.raises(ValueError, match="is not a client endpoint") as raised:
        client_endpoint(reactor, description)
    assert repr(description) in str(raised.value)
    assert str(raised.value).isprintable()


def test_hosts() -> None:
    """Addresses are not looked up; a TLS context makes the endpoint TLS."""
    assert isinstance(host_endpoint(reactor, "127.0.0.1", 1), TCP4ClientEndpoint)
    assert isinstance(host_endpoint(reactor, "fe80::1%lo", 1), TCP6ClientEndpoint)
    assert isinstance(host_endpoint(reactor, "server", 1), HostnameEndpoint)
    assert isinstance(host_endpoint(reactor, "server", 1, verifying_context()), TLSClientEndpoint)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_reset_from_the_beginning(host: str) -> None:
    """A connection is reset if its process dies before anything has happened to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = parse_target(f"{host}:{server.getsockname()[1]}")
        lingers: list[bytes] = []

        lost: Deferred[None] = Deferred()

        class Made(Protocol):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                handle = transport.getHandle()
                lingers.append(handle.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                lost.callback(None)

        endpoint = target_endpoint(reactor, target)
        made: Any = await endpoint.connect(Factory.forProtocol(Made))
        assert lingers == [struct.pack("ii", 1, 0)]
        made.transport.abortConnection()
        await lost
