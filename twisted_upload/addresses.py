"""
Network addresses as people write them.
"""

from __future__ import annotations

import os

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

__all__ = ["listening_name", "peer_name"]


def peer_name(address: IAddress) -> str:
    """
    A peer as people write it: ``192.0.2.7:50123``, ``[2001:db8::7]:50123``.

    An IPv4 peer of an IPv6 socket is named by its IPv4 address; whatever has
    no address is ``unix``.
    """
    if isinstance(address, IPv6Address):
        host = address.host
        if host.startswith("::ffff:") and "." in host:
            return f"{host[7:]}:{address.port}"
        return f"[{host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    return "unix"


def listening_name(address: IAddress) -> str:
    """What we listen on: ``*:6666`` for all addresses of a port, or a socket's path."""
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    if isinstance(address, IPv4Address | IPv6Address) and address.host in ("0.0.0.0", "::"):  # noqa: S104
        return f"*:{address.port}"
    return peer_name(address)
