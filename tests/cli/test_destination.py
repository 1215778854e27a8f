"""
The values of ``--to``.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution
from zope.interface.verify import verifyObject

from twisted_upload.cli.destination import parse_destination
from twisted_upload.cli.resolver import DaemonResolver

reactor: Any = _reactor


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("server", "server", 6666),
        ("server:7000", "server", 7000),
        ("my_server.example.:1", "my_server.example.", 1),
        ("bücher.example:65535", "bücher.example", 65535),
        ("192.0.2.7", "192.0.2.7", 6666),
        ("192.0.2.7:7000", "192.0.2.7", 7000),
        ("::1", "::1", 6666),
        ("[::1]", "::1", 6666),
        ("[::1]:7000", "::1", 7000),
        ("2001:db8::7000", "2001:db8::7000", 6666),
        ("fe80::1%eth0", "fe80::1%eth0", 6666),
        ("[fe80::1%eth0]:7000", "fe80::1%eth0", 7000),
    ],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    """A name, an IPv4 or an IPv6 address, with or without a port; the default port is 6666."""
    destination = parse_destination(text)
    assert (destination.host, destination.port) == (host, port)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("server", HostnameEndpoint),
        ("192.0.2.7", TCP4ClientEndpoint),
        ("fe80::1%eth0", TCP6ClientEndpoint),
        ("tcp:server:7000", TCP4ClientEndpoint),
        ("tcp:host=server:port=7000:timeout=3", TCP4ClientEndpoint),
        ("unix:/run/upload.sock", UNIXClientEndpoint),
        ("unix:path=/run/upload.sock", UNIXClientEndpoint),
    ],
)
def test_endpoint(text: str, kind: type) -> None:
    """Names are looked up, addresses are not; endpoint strings are left to Twisted."""
    assert type(parse_destination(text).endpoint(reactor)) is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        ":6666",
        "server:",
        "server:0",
        "server:65536",
        "server:-1",
        "server:x",
        "server:６",
        "[server]:1",
        "[::1",
        "[::1]7000",
        "[::1]:",
        "user@server",
        "server/path",
        "http://server:6666",
        "tcp:6666",
        "tcp:server:port",
        "unix:",
        "tls:server",
        "tls:server:port",
        "ssl:server:443",
        "a:b:c",
        "server\n",
        "\x1b[31m",
        "\udcff",
    ],
)
def test_invalid(text: str) -> None:
    """Anything else is a `ValueError` with a message of one line."""
    with pytest.raises(ValueError, match=r"^\S.*\S$") as refused:
        parse_destination(text).endpoint(reactor)
    assert str(refused.value).isprintable()


class _Receiver:
    def __init__(self) -> None:
        self.found: list[IAddress] = []
        self.done: Deferred[None] = Deferred()

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        self.name = resolution.name

    def addressResolved(self, address: IAddress) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        self.done.callback(None)


def test_resolver_provides_its_interface() -> None:
    """The resolver provides Twisted's interface."""
    assert verifyObject(IHostnameResolver, DaemonResolver(reactor))


@pytest.mark.parametrize("kinds", [None, [IPv4Address], [IPv6Address]])
async def test_resolver_looks_up(
    kinds: list[type[IAddress]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked up by the system, and yields addresses of the requested kinds."""
    stream = socket.SOCK_STREAM
    found: list[tuple[Any, ...]] = [
        (socket.AF_INET6, stream, 6, "", ("2001:db8::7", 7000, 0, 0)),
        (socket.AF_INET, stream, 6, "", ("192.0.2.7", 7000)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    receiver: Any = _Receiver()
    DaemonResolver(reactor).resolveHostName(receiver, "server", 7000, kinds)
    await receiver.done
    addresses = [IPv6Address("TCP", "2001:db8::7", 7000), IPv4Address("TCP", "192.0.2.7", 7000)]
    assert receiver.name == "server"
    assert receiver.found == [
        address for address in addresses if kinds is None or type(address) in kinds
    ]


async def test_resolver_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name has no addresses."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    receiver: Any = _Receiver()
    DaemonResolver(reactor).resolveHostName(receiver, "server")
    await receiver.done
    assert receiver.found == []
