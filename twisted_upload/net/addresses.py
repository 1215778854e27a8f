"""
Network addresses as people write them.
"""

from __future__ import annotations

import os
import re
import struct
from socket import SO_PEERCRED, SOL_SOCKET
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

__all__ = [
    "host_of",
    "listening_name",
    "peer_name",
    "socket_name",
    "split_description",
    "unix_peer_name",
]

_ARGUMENT = re.compile(r"(?:(\w+)=)?((?:\\.|\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^:\\])*)(:|\Z)", re.DOTALL)


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


def socket_name(host: str, port: int) -> str:
    """See `peer_name`."""
    if ":" not in host:
        return f"{host}:{port}"
    if host.startswith("::ffff:") and "." in host:
        return f"{host[7:]}:{port}"
    return f"[{host}]:{port}"


def unix_peer_name(transport: Any) -> str:
    """
    Name the peer of a unix socket, as the kernel knows it: ``unix uid 1000 pid 4711``.

    The name of the peer's own socket, which the peer can choose, is not part of it.
    """
    try:
        size = struct.calcsize("3i")
        credentials = transport.getHandle().getsockopt(SOL_SOCKET, SO_PEERCRED, size)
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


def split_description(text: str) -> tuple[list[str], dict[str, str]]:
    """
    Split the arguments of an endpoint string, as Twisted does: ``6667:key=/a.pem`` is
    ``6667``, and ``/a.pem`` for ``key``.

    A colon that belongs to an argument is preceded by a backslash, or is part of an
    IPv6 address in brackets.

    :raises ValueError: the string is invalid.
    """
    values: list[str] = []
    named: dict[str, str] = {}
    rest: str | None = text
    while rest is not None:
        argument = _ARGUMENT.match(rest)
        if argument is None:
            raise ValueError("it ends with a backslash")
        name, escaped, colon = argument.groups()
        value = re.sub(r"\\(.)", r"\1", escaped, flags=re.DOTALL)
        if name is None:
            values.append(value)
        elif name in named:
            raise ValueError(f"{name}= is given twice")
        else:
            named[name] = value
        rest = rest[argument.end() :] if colon else None
    return values, named
