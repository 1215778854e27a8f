r"""
The header with which a load balancer names the sender: the PROXY protocol, versions 1
and 2.

The source of every rule is HAProxy's ``doc/proxy-protocol.txt``, which is quoted.  No
sockets here: bytes go in, in any pieces, and a `Header` comes out, with what followed
it.

Twisted's own parsers (``twisted.protocols.haproxy``) are private, drop a header that
arrives in pieces (twisted/twisted #8287), and accept anything as an address, which
would then appear in the log.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

__all__ = ["LONGEST", "Header", "HeaderReader", "InvalidHeader"]

LONGEST = 4096
"""Maximum length of a header in bytes; the addresses take 232, the rest is extensions
that are skipped.  nginx has the same limit."""

_LONGEST_LINE = 107
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_WORD = b"PROXY "
_START = 16
"""Bytes of version 2 before the addresses."""


class InvalidHeader(ValueError):
    """
    What arrived is not a header.

    The text is one line for people, without any of the bytes that arrived.
    """


class Header(NamedTuple):
    """
    The sender that a load balancer speaks for.

    :ivar host: the sender's IPv4 or IPv6 address; `None` if the load balancer does not
        name one.
    :ivar port: the sender's port, with ``host``.
    :ivar local: whether the load balancer speaks for itself, as in a health check.
    """

    host: str | None = None
    port: int = 0
    local: bool = False


class HeaderReader:
    """
    Reads one header.

    :ivar begun: whether anything has arrived.
    """

    def __init__(self) -> None:
        self._received = b""

    @property
    def begun(self) -> bool:
        """Whether anything has arrived."""
        return bool(self._received)

    def feed(self, data: bytes) -> tuple[Header, bytes] | None:
        """
        Take the next bytes, until the header is complete.

        :return: the header, and the bytes after it; `None` while it is incomplete.
        :raises InvalidHeader: nothing that could follow would make it a header.
        """
        self._received += data
        received = self._received
        if received.startswith(_SIGNATURE[: len(received)]):
            return _binary(received) if len(received) >= _START else None
        if received.startswith(_WORD[: len(received)]):
            return _line(received)
        raise InvalidHeader("there was no PROXY protocol header before the file")


def _line(received: bytes) -> tuple[Header, bytes] | None:
    line, end, rest = received[:_LONGEST_LINE].partition(b"\r\n")
    if not end:
        # "If the CRLF sequence is not found in the first 107 characters, the
        # receiver should declare the line invalid."
        if len(received) >= _LONGEST_LINE:
            raise InvalidHeader("the PROXY line is too long")
        return None
    rest += received[_LONGEST_LINE:]
    _, kind, *fields = line.split(b" ")
    if kind == b"UNKNOWN":
        # "... must ignore anything presented before the CRLF is found."
        return Header(), rest
    family = {b"TCP4": AF_INET, b"TCP6": AF_INET6}.get(kind)
    if family is None or len(fields) != 4:
        raise InvalidHeader("the PROXY line is malformed")
    source, destination, *ports = fields
    host = _address(family, source)
    _address(family, destination)
    port, _ = map(_port, ports)
    return Header(host, port), rest


def _address(family: int, text: bytes) -> str:
    try:
        # And back to text: one spelling for each address.
        return inet_ntop(family, inet_pton(family, text.decode("ascii")))
    except (OSError, ValueError):
        raise InvalidHeader("the PROXY line has an invalid address") from None


def _port(text: bytes) -> int:
    # "Heading zeroes are not permitted."
    if text.isdigit() and len(text) <= 5 and (text == b"0" or text[:1] != b"0"):
        port = int(text)
        if port <= 65535:
            return port
    raise InvalidHeader("the PROXY line has an invalid port")


_FAMILIES = {0x1: (AF_INET, 4), 0x2: (AF_INET6, 16)}
_SIZES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}


def _binary(received: bytes) -> tuple[Header, bytes] | None:
    version, command = received[12] >> 4, received[12] & 0xF
    family, transport = received[13] >> 4, received[13] & 0xF
    size = int.from_bytes(received[14:16], "big")
    if version != 2 or command > 1:
        raise InvalidHeader("the PROXY header has an unknown version or type")
    if _START + size > LONGEST:
        raise InvalidHeader("the PROXY header is too long")
    # Of a LOCAL one, "discard the protocol block including the family which is
    # ignored".  "Other values [...] must be rejected as invalid by receivers."
    if command == 1 and (family not in _SIZES or transport > 2 or size < _SIZES[family]):
        raise InvalidHeader("the PROXY header is malformed")
    if len(received) < _START + size:
        return None
    rest = received[_START + size :]
    if command == 0:
        return Header(local=True), rest
    if family not in _FAMILIES or transport != 1:
        return Header(), rest
    kind, width = _FAMILIES[family]
    ports = _START + 2 * width
    host = inet_ntop(kind, received[_START : _START + width])
    return Header(host, int.from_bytes(received[ports : ports + 2], "big")), rest
