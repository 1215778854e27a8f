"""
The PROXY protocol, as ``doc/proxy-protocol.txt`` of HAProxy defines it.
"""

from __future__ import annotations

import itertools
import struct
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

from tests.support.proxy_headers import SIGNATURE, binary, block, line
from twisted_upload.net.proxy_protocol import LONGEST, Header, HeaderReader, InvalidHeader


def read(*pieces: bytes) -> tuple[Header, bytes] | None:
    """Return the header in these bytes, and all that follows it."""
    reader = HeaderReader()
    for number, piece in enumerate(pieces):
        if (found := reader.feed(piece)) is not None:
            header, rest = found
            return header, rest + b"".join(pieces[number + 1 :])
    return None


SENDER = Header("192.0.2.7", 50123)

WHOLE: list[tuple[bytes, Header]] = [
    (line(), SENDER),
    (line("2001:db8::7", "2001:db8::1"), Header("2001:db8::7", 50123)),
    (line("2001:DB8:0:0:0:0:0:7", "::1"), Header("2001:db8::7", 50123)),
    (line(port=0), Header("192.0.2.7", 0)),
    (line(port=65535), Header("192.0.2.7", 65535)),
    (b"PROXY UNKNOWN\r\n", Header()),
    (b"PROXY UNKNOWN ffff:f...f:ffff whatever \xff\r\n", Header()),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", Header()),
    (binary(), SENDER),
    (binary("2001:db8::7", "::1"), Header("2001:db8::7", 50123)),
    (binary(more=b"\x04\x00\x03abc"), SENDER),
    (binary(more=bytes(LONGEST - 28)), SENDER),
    (block(0x20, 0x00), Header(local=True)),
    (block(0x20, 0x11, bytes(12)), Header(local=True)),
    (block(0x20, 0xFF, b"\x04\x00\x01x"), Header(local=True)),
    (block(0x21, 0x00), Header()),
    (block(0x21, 0x00, bytes(30)), Header()),
    (block(0x21, 0x10, bytes(12)), Header()),
    (block(0x21, 0x12, bytes(12)), Header()),
    (block(0x21, 0x31, b"/run/x".ljust(216, b"\0")), Header()),
]


@pytest.mark.parametrize(("header", "means"), WHOLE)
@pytest.mark.parametrize("content", [b"", b"\r\n", b"PROXY TCP4 ", b"content"])
def test_whole(header: bytes, means: Header, content: bytes) -> None:
    """Each kind of header is understood, and exactly what follows it is the file."""
    assert read(header + content) == (means, content)


@pytest.mark.parametrize(("header", "means"), WHOLE)
def test_cut_anywhere(header: bytes, means: Header) -> None:
    """A header may arrive in two pieces, split anywhere, or byte by byte."""
    for cut in range(1, len(header)):
        assert read(header[:cut], header[cut:] + b"content") == (means, b"content")
    pieces = [bytes([byte]) for byte in header]
    assert read(*pieces) == (means, b"")
    assert read(*pieces[:-1]) is None


@settings(deadline=None, derandomize=True)
@given(
    header=st.sampled_from(WHOLE),
    content=st.binary(max_size=100),
    cuts=st.lists(st.integers(1, 300), max_size=6),
)
def test_any_chunking(header: tuple[bytes, Header], content: bytes, cuts: list[int]) -> None:
    """However header and file are split on their way, peer and file are the same."""
    everything, means = header[0] + content, header[1]
    slots = [0, *sorted(cut for cut in cuts if cut < len(everything)), len(everything)]
    pieces = [everything[one:two] for one, two in itertools.pairwise(slots)]
    assert read(*pieces) == (means, content)


MALFORMED = [
    b"content",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\0",
    b"PROXY\r\n",
    b"PROXYTCP4",
    b"proxy ",
    b"\r\n\r\n\0\r\nQUIT\r",
    b"PROXY \r\n",
    b"PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2 3\r\n",
    b"PROXY TCP4  192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2 \r\n",
    b"PROXY TCP4 192.0.2 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 nonsense 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n",
    b"PROXY TCP6 2001:db8::7%eth0 ::1 1 2\r\n",
    b"PROXY TCP4 \xff\xfe 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 \x1b[31m 192.0.2.8 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 00\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 +1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1_0 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 65536 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 999999\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 \xd9\xa1 2\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8  \r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n".ljust(107, b"x"),
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r".ljust(107, b"x"),
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    b"PROXY " + b"x" * 101,
    block(0x11, 0x11, bytes(12)),
    block(0x31, 0x11, bytes(12)),
    block(0x22, 0x11, bytes(12)),
    block(0x2F, 0x11, bytes(12)),
    block(0x21, 0x41, bytes(12)),
    block(0x21, 0xF1, bytes(12)),
    block(0x21, 0x13, bytes(12)),
    block(0x21, 0x11, bytes(11)),
    block(0x21, 0x11),
    block(0x21, 0x21, bytes(35)),
    block(0x21, 0x31, bytes(215)),
    block(0x20, 0x00, bytes(LONGEST)),
    SIGNATURE + b"\x21\x11\xff\xff",
]


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed(data: bytes) -> None:
    """
    Anything but a header is refused, whole or byte by byte, and its bytes are not in the
    message.
    """
    with pytest.raises(InvalidHeader) as raised:
        read(data)
    text = str(raised.value)
    assert text.isascii()
    assert text.isprintable()
    with pytest.raises(InvalidHeader):
        read(*[bytes([byte]) for byte in data])


def test_refused_as_soon_as_known() -> None:
    """The first byte that cannot belong to a header is refused."""
    with pytest.raises(InvalidHeader):
        HeaderReader().feed(b"x")
    reader = HeaderReader()
    assert reader.feed(b"PROX") is None
    with pytest.raises(InvalidHeader):
        reader.feed(b"X")


def test_memory_is_bounded() -> None:
    """Whatever arrives, a reader holds at most the longest header."""
    reader = HeaderReader()
    assert reader.feed(SIGNATURE + b"\x21\x11" + struct.pack("!H", LONGEST - 16)) is None
    for _ in range(LONGEST - 17):
        assert reader.feed(b"x") is None
    assert reader.feed(b"x") is not None


@settings(deadline=None, derandomize=True)
@given(
    number=st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    port=st.integers(0, 65535),
    two=st.booleans(),
)
def test_as_twisted_reads_it(number: bytes, port: int, two: bool) -> None:
    """Complete and correct headers are read as by Twisted's own parsers."""
    host = inet_ntop(AF_INET if len(number) == 4 else AF_INET6, number)
    data = binary(host, host, port) if two else line(host, host, port)
    parser: Any = V2Parser() if two else V1Parser()
    info, rest = parser.feed(data + b"content")
    found = read(data + b"content")
    assert found is not None
    header, our_rest = found
    assert our_rest == rest
    assert header.host is not None
    assert inet_pton(AF_INET6 if ":" in host else AF_INET, info.source.host) == number
    assert header.host == host
    assert header.port == info.source.port == port


@settings(deadline=None, derandomize=True, max_examples=300)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"PROXY ", SIGNATURE, b"\r\n"]))
def test_nonsense(data: bytes, start: bytes) -> None:
    """Any bytes are a header, the beginning of one, or refused."""
    try:
        read(start + data)
    except InvalidHeader:
        return
