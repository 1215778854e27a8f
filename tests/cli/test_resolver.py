"""
The name resolver of the commands.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution
from zope.interface.verify import verifyObject

from twisted_upload.cli.resolver import DaemonResolver

reactor: Any = _reactor


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
