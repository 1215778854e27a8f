"""
Where the command sends to: what people write after ``--to``, understood.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from twisted_upload.connecting import client_endpoint, host_endpoint

__all__ = ["DEFAULT_PORT", "DaemonResolver", "Destination", "parse_destination"]

DEFAULT_PORT = 6666

_KINDS = ("tcp", "unix", "tls", "ssl")
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

    @property
    def is_tls(self) -> bool:
        """Whether it says itself that it is to be spoken to by TLS."""
        return self.host is None and self.text.startswith("tls:")

    def endpoint(
        self, reactor: Any, context: ssl.SSLContext | None = None
    ) -> IStreamClientEndpoint:
        """
        What connects to it.

        :param context: for TLS: whom to trust.
        :raises ValueError: it is no endpoint after all.
        """
        if self.host is not None:
            return host_endpoint(reactor, self.host, self.port, context)
        if self.is_tls:
            return client_endpoint(reactor, self.text)
        try:
            return client_endpoint(reactor, self.text)
        except ValueError:
            raise ValueError(_not_understood(self.text)) from None


def parse_destination(text: str) -> Destination:
    """
    Understand ``HOST``, ``HOST:PORT``, ``::1``, ``[::1]:6666``, or a client
    endpoint string such as ``tls:server:6667`` or ``unix:/run/upload.sock``.

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
    if host == "ssl" and colon:
        raise ValueError("ssl: is not supported; tls:HOST:PORT is")
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
        " or a client endpoint such as tls:HOST:PORT or unix:/run/upload.sock"
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
