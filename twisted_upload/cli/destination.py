"""The server that the command sends to: parses the value of ``--to``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    from twisted.internet.interfaces import IStreamClientEndpoint

__all__ = ["DEFAULT_PORT", "Destination", "parse_destination"]

DEFAULT_PORT = 6666

_KINDS = ("tcp", "unix", "tls", "ssl")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?\Z")
_HOST = re.compile(r"[^\s/\\@\[\]?#]+\Z")


@dataclass(frozen=True, slots=True)
class Destination:
    """
    A server, not yet resolved.

    :ivar text: as given.
    :ivar host: a name or an address; `None` if ``text`` is a client endpoint string.
    :ivar port: its TCP port.
    """

    text: str
    host: str | None
    port: int = DEFAULT_PORT

    @property
    def is_tls(self) -> bool:
        """Whether the text itself asks for TLS."""
        return self.host is None and self.text.startswith("tls:")

    def endpoint(
        self, reactor: Any, context: ssl.SSLContext | None = None
    ) -> IStreamClientEndpoint:
        """
        Return an endpoint that connects to it.

        :param context: for TLS: which certificates to trust.
        :raises ValueError: it is not an endpoint after all.
        """
        # Imported here: a command that does not connect need not wait for Twisted.
        from twisted_upload.client.endpoints import (  # noqa: PLC0415
            client_endpoint,
            host_endpoint,
        )

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
    Parse ``HOST``, ``HOST:PORT``, ``::1``, ``[::1]:6666``, or a client endpoint string
    such as ``tls:server:6667`` or ``unix:/run/upload.sock``.

    :raises ValueError: it is none of these; the message says what is accepted.
    """
    if not text.isprintable() or not text.strip():
        raise ValueError(_not_understood(text))
    bracketed = _BRACKETED.match(text)
    if bracketed is not None:
        host, port = bracketed.groups()
        if not _is_ipv6(host):
            raise ValueError(f"{host!r} is not an IPv6 address")
        return Destination(text, host, DEFAULT_PORT if port is None else _port(port))
    if _is_ipv6(text):
        return Destination(text, text)
    host, colon, rest = text.partition(":")
    if host == "ssl" and colon:
        raise ValueError("ssl: is not supported; use tls:HOST:PORT")
    if (host in _KINDS and rest) or ":" in rest:
        return Destination(text, None)
    if not _HOST.match(host):
        raise ValueError(_not_understood(text))
    return Destination(text, host, _port(rest) if colon else DEFAULT_PORT)


def _is_ipv6(text: str) -> bool:
    """Return whether it is an IPv6 address, which may have a zone (``fe80::1%eth0``)."""
    if text.count(":") < 2:
        return False
    from socket import AF_INET6, inet_pton  # noqa: PLC0415 - slow to import

    try:
        inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port number from 1 to 65535")
    return int(text)


def _not_understood(text: str) -> str:
    return (
        f"{text!r} is not HOST, HOST:PORT, [IPV6]:PORT"
        " or a client endpoint such as tls:HOST:PORT or unix:/run/upload.sock"
    )
