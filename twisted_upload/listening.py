"""
Which endpoints the raw door can be opened on.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

__all__ = ["BACKLOG", "endpoint_from_string", "tcp_endpoint"]

BACKLOG = 4096
"""Connections that the kernel holds ready for us; it caps this by net.core.somaxconn."""

_KINDS = ("tcp", "tcp4", "tcp6", "unix", "systemd", "fd")
_NO_HALF_CLOSE = ("tls", "ssl", "haproxy")


def endpoint_from_string(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    An endpoint from a server endpoint string of Twisted.

    :raises ValueError: it is not one, or no half-close can arrive on it; the
        text says which.
    """
    kind = description.partition(":")[0].strip()
    if kind in _NO_HALF_CLOSE:
        raise ValueError(
            f"{kind}: is not supported, because the end of an upload (a half-close)"
            " cannot arrive through it"
        )
    if kind not in _KINDS or not description.partition(":")[2]:
        raise ValueError(
            f"{description!r} is not a server endpoint such as tcp:6666, tcp6:6666,"
            " unix:/run/upload.sock or systemd:domain=INET:index=0"
        )
    try:
        return cast(IStreamServerEndpoint, serverFromString(reactor, description))
    except Exception as error:
        raise ValueError(f"{description!r} is not a server endpoint: {error}") from error


def tcp_endpoint(reactor: Any, port: int, interface: str) -> IStreamServerEndpoint:
    """
    An endpoint on a TCP port.

    :param interface: an IPv4 or IPv6 address; empty for all of both kinds (of
        IPv4 alone, where the machine has no IPv6).
    """
    if not interface:
        # All of them: the daemon's very purpose.
        interface = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
    endpoint = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    return cast(
        IStreamServerEndpoint, endpoint(reactor, port, backlog=BACKLOG, interface=interface)
    )
