"""
Network addresses as people write them.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from twisted_upload.net.endpoint_text import socket_name

__all__ = [
    "host_of",
    "listening_name",
    "peer_name",
    "unix_peer_name",
]


def host_of(address: IAddress | None) -> str | None:
    """Return the IPv4 or IPv6 address of a peer; `None` if it has none, as at a unix socket."""
    if isinstance(address, IPv4Address | IPv6Address):
        host: str = address.host
        return host
    return None


def peer_name(address: IAddress) -> str:
    """
    Name a peer as people write it: ``192.0.2.7:50123``, ``[2001:db8::7]:50123``.

    An IPv4 peer of an IPv6 socket is named by its IPv4 address; a peer without an
    address is ``unix``.
    """
    if isinstance(address, IPv4Address | IPv6Address):
        return socket_name(address.host, address.port)
    return "unix"


def unix_peer_name(transport: Any) -> str:
    """
    Name the peer of a unix socket, as the kernel knows it: ``unix uid 1000 pid 4711``.

    The name of the peer's own socket, which the peer can choose, is not part of it.
    """
    try:
        size = struct.calcsize("3i")
        # SO_PEERCRED is Linux's.
        credentials = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack("3i", credentials)
    except (AttributeError, OSError, struct.error):
        return "unix"
    # A process in another PID namespace has no pid here.
    return f"unix uid {uid} pid {pid}" if pid else f"unix uid {uid}"


def listening_name(address: IAddress, *, tls: bool = False) -> str:
    """
    Name what we listen on: ``*:6666`` for all addresses of a port, or a socket's path.

    :param tls: whether the listener speaks TLS: then it is ``tls:*:6666``.
    """
    if tls:
        return f"tls:{listening_name(address)}"
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    if isinstance(address, IPv4Address | IPv6Address) and address.host in ("0.0.0.0", "::"):  # noqa: S104
        return f"*:{address.port}"
    return peer_name(address)
