"""
Where the command sends to: what people write after ``--to``, understood.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

__all__ = ["DEFAULT_PORT", "DaemonResolver", "Destination", "parse_destination"]

DEFAULT_PORT = 6666

_NO_HALF_CLOSE = ("tls", "ssl")
_KINDS = ("tcp", "unix", *_NO_HALF_CLOSE)
_A_DAY = 24 * 3600.0
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?\Z")
_HOST = re.compile(r"[^\s/\\@\[\]?#]+\Z")


@dataclass(frozen=True, slots=True)
class Destination:
    """
    A server, not yet looked up.

    :ivar text: as it was written.
    :ivar host: a name or an address; `None` where ``text`` is a client
        endpoint string of Twisted.
    :ivar port: its TCP port.
    """

    text: str
    host: str | None
    port: int = DEFAULT_PORT

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """
        What connects to it, for as long as the kernel tries: whoever has less
        patience cancels it.

        :raises ValueError: it is no endpoint after all.
        """
        if self.host is None:
            try:
                return cast(IStreamClientEndpoint, clientFromString(reactor, self.text))
            except Exception:
                raise ValueError(_not_understood(self.text)) from None
        # A literal is not looked up: the look-up would lose the zone of fe80::1%eth0.
        kind: Any = HostnameEndpoint
        if isIPAddress(self.host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(self.host):
            kind = TCP6ClientEndpoint
        return cast(IStreamClientEndpoint, kind(reactor, self.host, self.port, _A_DAY))


def parse_destination(text: str) -> Destination:
    """
    Understand ``HOST``, ``HOST:PORT``, ``::1``, ``[::1]:6666``, or a client
    endpoint string such as ``unix:/run/upload.sock``.

    :raises ValueError: with a text that says what is understood.
    """
    if not text.isprintable() or not text.strip():
        raise ValueError(_not_understood(text))
    bracketed = _BRACKETED.match(text)
    if bracketed is not None:
        host, port = bracketed.groups()
        if not isIPv6Address(host):
            raise ValueError(f"{host!r} is not an IPv6 address")
        return Destination(text, host, DEFAULT_PORT if port is None else _port(port))
    if isIPv6Address(text):
        return Destination(text, text)
    host, colon, rest = text.partition(":")
    if host in _NO_HALF_CLOSE and colon:
        raise ValueError(
            f"{host}: is not supported, because the end of an upload (a half-close)"
            " cannot be sent through it"
        )
    if (host in _KINDS and rest) or ":" in rest:
        return Destination(text, None)
    if not _HOST.match(host):
        raise ValueError(_not_understood(text))
    return Destination(text, host, _port(rest) if colon else DEFAULT_PORT)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port number from 1 to 65535")
    return int(text)


def _not_understood(text: str) -> str:
    return (
        f"{text!r} is not HOST, HOST:PORT, [IPV6]:PORT"
        " or a client endpoint such as unix:/run/upload.sock"
    )


@dataclass(frozen=True, slots=True)
class _Resolution:
    """One look-up; nothing can cut it short."""

    name: str

    def cancel(self) -> None:
        """Let it go on; nobody listens any more."""


@implementer(IHostnameResolver)
class DaemonResolver:
    """
    Looks names up in daemon threads.

    The reactor's own resolver uses its thread pool, which is waited for when
    the reactor stops: a name server that does not answer would hold up the
    exit long after the user has interrupted us.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """See `IHostnameResolver.resolveHostName`."""
        wanted = tuple(addressTypes or (IPv4Address, IPv6Address))
        resolution = cast(IHostResolution, _Resolution(hostName))

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(hostName, portNumber, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                found = []
            self._reactor.callFromThread(tell, [entry[4] for entry in found])

        def tell(addresses: list[tuple[Any, ...]]) -> None:
            for address in addresses:
                kind: Any = IPv4Address if len(address) == 2 else IPv6Address
                if kind in wanted:
                    resolutionReceiver.addressResolved(kind("TCP", *address))
            resolutionReceiver.resolutionComplete()

        resolutionReceiver.resolutionBegan(resolution)
        threading.Thread(target=look_up, daemon=True).start()
        return resolution
