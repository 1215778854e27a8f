"""
Which endpoints the raw front end can listen on.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint

from tests.support.tls_peers import files
from tests.support.waiting import reactor
from twisted_upload.net.endpoints import endpoint_from_string, tcp_endpoint
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.tls.endpoints import TLSServerEndpoint


@pytest.mark.parametrize(
    "description",
    [
        "tcp:0",
        "tcp:port=0:interface=127.0.0.1",
        "tcp6:0",
        "tcp6:0:interface=\\:\\:1",
        "unix:/run/upload.sock",
        "unix:/run/upload.sock:mode=660:lockfile=1",
    ],
)
def test_endpoints(description: str) -> None:
    """These endpoints are supported."""
    assert endpoint_from_string(reactor, description) is not None


@pytest.mark.parametrize(
    "description",
    [
        "tls:0:key={key}:cert={chain}",
        "tls:0:cert={chain}:key={key}:interface=127.0.0.1",
        "tls:0:key={key}:cert={chain}:interface=[::1]",
        "tls:0:key={key}:cert={chain}:interface=\\:\\:1",
    ],
)
def test_tls_endpoints(tmp_path: Path, description: str) -> None:
    """TLS needs a key and a certificate in files."""
    key, chain, _ = files(tmp_path)
    endpoint = endpoint_from_string(reactor, description.format(key=key, chain=chain))
    assert isinstance(endpoint, TLSServerEndpoint)


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("tls:", "the form is tls:PORT"),
        ("tls:0", "the form is tls:PORT"),
        ("tls:0:key={key}", "the form is tls:PORT"),
        ("tls:0:key={key}:cert=", "the form is tls:PORT"),
        ("tls:0:key={key}:cert={chain}:privateKey=x", "the form is tls:PORT"),
        ("tls:0:1:key={key}:cert={chain}", "the form is tls:PORT"),
        ("tls:http:key={key}:cert={chain}", "'http' is not a port number"),
        ("tls:65536:key={key}:cert={chain}", "'65536' is not a port number"),
        ("tls:0:key={key}:cert={chain}:interface=x", "'x' does not appear to be an IPv4"),
        ("tls:0:key={key}:cert={chain}\\", "it ends with a backslash"),
        ("tls:0:key={key}x:cert={chain}", "key.pemx: No such file"),
        ("tls:0:key={key}:cert={key}", "key.pem: it contains no PEM certificate"),
    ],
)
def test_no_tls_endpoints(tmp_path: Path, description: str, why: str) -> None:
    """An invalid TLS endpoint is refused with one line that says why."""
    key, chain, _ = files(tmp_path)
    with pytest.raises(ValueError, match=re.escape(why)) as raised:
        endpoint_from_string(reactor, description.format(key=key, chain=chain))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "description",
    [
        "ssl:443:privateKey=x.pem",
        "haproxy:tcp:6666",
        " ssl :443",
    ],
)
def test_no_half_close(description: str) -> None:
    """If a half-close cannot arrive over an endpoint, the line says so."""
    with pytest.raises(ValueError, match="half-close") as raised:
        endpoint_from_string(reactor, description)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "description",
    ["", "6666", "tcp", "tcp:", "tcp:x", "nonsense:1", "localhost:6666", "unix", "txtorcon:1"],
)
def test_no_endpoints(description: str) -> None:
    """Anything but an endpoint is refused with a valid form, or the reason."""
    with pytest.raises(ValueError, match="is not a server endpoint") as raised:
        endpoint_from_string(reactor, description)
    assert "\n" not in str(raised.value)
    assert repr(description) in str(raised.value)


def test_tcp_endpoint() -> None:
    """The address decides between IPv4 and IPv6."""
    assert isinstance(tcp_endpoint(reactor, 0, "127.0.0.1"), TCP4ServerEndpoint)
    assert isinstance(tcp_endpoint(reactor, 0, "::1"), TCP6ServerEndpoint)


@pytest.mark.parametrize("dual", [True, False])
def test_all_addresses(dual: bool) -> None:
    """Without an address, the endpoint listens on IPv4 and IPv6, or on IPv4 alone without IPv6."""

    class System(Sockets):
        def serve_both_families(self) -> bool:
            return dual

    expected = TCP6ServerEndpoint if dual else TCP4ServerEndpoint
    assert isinstance(tcp_endpoint(reactor, 0, "", System()), expected)
