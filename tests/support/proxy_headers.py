"""
PROXY protocol headers, as load balancers send them.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_pton

__all__ = ["SIGNATURE", "binary", "block", "line"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def line(source: str = "192.0.2.7", destination: str = "198.51.100.1", port: int = 50123) -> bytes:
    """Return a header of version 1."""
    kind = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {kind} {source} {destination} {port} 6666\r\n".encode()


def binary(
    source: str = "192.0.2.7",
    destination: str = "198.51.100.1",
    port: int = 50123,
    more: bytes = b"",
) -> bytes:
    """Return a header of version 2."""
    family = AF_INET6 if ":" in source else AF_INET
    addresses = inet_pton(family, source) + inet_pton(family, destination)
    block = addresses + struct.pack("!HH", port, 6666) + more
    kind = b"\x21\x21" if family == AF_INET6 else b"\x21\x11"
    return SIGNATURE + kind + struct.pack("!H", len(block)) + block


def block(command: int, family: int, content: bytes = b"") -> bytes:
    """Return a header of version 2, byte by byte."""
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(content)) + content
