"""
Which endpoints the raw door can be opened on.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IStreamServerEndpoint

from twisted_upload.ports import AdoptedUnixEndpoint

__all__ = ["BACKLOG", "adopted_endpoint", "endpoint_from_string", "tcp_endpoint"]

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
        endpoint = serverFromString(reactor, description)
    except Exception as error:
        raise ValueError(f"{description!r} is not a server endpoint: {error}") from error
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        return adopted_endpoint(reactor, endpoint.fileno, endpoint.addressFamily)
    return cast(IStreamServerEndpoint, endpoint)


def adopted_endpoint(reactor: Any, descriptor: int, family: int) -> IStreamServerEndpoint:
    """An endpoint on a socket that somebody else has bound: systemd, or a supervisor."""
    if family == socket.AF_UNIX:
        return AdoptedUnixEndpoint(reactor, descriptor)
    # The endpoint duplicates the descriptor, and the port closes that.
    return cast(IStreamServerEndpoint, AdoptedStreamServerEndpoint(reactor, descriptor, family))


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
