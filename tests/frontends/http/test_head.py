"""
Tests of heads: what is read of valid ones, and that all others are refused.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.frontends.http.head import (
    LONGEST_HEAD,
    LONGEST_TARGET,
    MOST_FIELDS,
    check_beginning,
    parse_head,
)
from twisted_upload.frontends.http.messages import Problem, Request

_START = b"PUT /a HTTP/1.1\r\nHost: box.example\r\n"


def head(*lines: bytes, start: bytes = _START) -> bytes:
    """Return a head with these further lines."""
    return start + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def refusal(data: bytes) -> Problem:
    """Return why a head is refused."""
    with pytest.raises(Problem) as caught:
        parse_head(data)
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()
    return caught.value


def test_fields() -> None:
    """A head is a method, a target, and fields by lower-case name."""
    request = parse_head(head(b"Content-Length: 12", b"X-Text:  a b\t", b"Accept: a", b"ACCEPT: b"))
    assert request == Request(
        "PUT",
        "/a",
        {"host": "box.example", "content-length": "12", "x-text": "a b", "accept": "a, b"},
        length=12,
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("照片".encode(), "照片"), (b"caf\xe9", "caf\xe9"), (b"", ""), (b'"a;b"', '"a;b"')],
)
def test_values(raw: bytes, expected: str) -> None:
    """A value is UTF-8, or else Latin-1: never bytes that no text has."""
    assert parse_head(head(b"X-Name: " + raw)).fields["x-name"] == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), 0),
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 0005",), 5),
        ((b"Content-Length: 9223372036854775807",), 2**63 - 1),
        ((b"Transfer-Encoding: chunked",), None),
        ((b"Transfer-Encoding: Chunked",), None),
    ],
)
def test_lengths(lines: tuple[bytes, ...], expected: int | None) -> None:
    """The body is as long as Content-Length says, or chunked."""
    assert parse_head(head(*lines)).length == expected


SMUGGLING = {
    "length and chunks": (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
    "chunks and length": (b"Transfer-Encoding: chunked", b"Content-Length: 1"),
    "two lengths": (b"Content-Length: 1", b"Content-Length: 2"),
    "the same length twice": (b"Content-Length: 1", b"Content-Length: 1"),
    "a list of lengths": (b"Content-Length: 1, 1",),
    "a length with a plus": (b"Content-Length: +1",),
    "a negative length": (b"Content-Length: -1",),
    "a length with a space": (b"Content-Length: 1 2",),
    "a hexadecimal length": (b"Content-Length: 0x10",),
    "a length with an underscore": (b"Content-Length: 1_0",),
    "other digits": ("Content-Length: ١".encode(),),
    "an empty length": (b"Content-Length:",),
    "a huge length": (b"Content-Length: 9223372036854775808",),
    "an overflowing length": (b"Content-Length: 18446744073709551616",),
    "a length of many digits": (b"Content-Length: " + b"0" * 100 + b"1",),
    "chunked twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunked, chunked": (b"Transfer-Encoding: chunked, chunked",),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked",),
    "chunked, identity": (b"Transfer-Encoding: chunked, identity",),
    "identity": (b"Transfer-Encoding: identity",),
    "xchunked": (b"Transfer-Encoding: xchunked",),
    "chunked with a vertical tab": (b"Transfer-Encoding: \x0bchunked",),
    "quoted chunked": (b'Transfer-Encoding: "chunked"',),
    "empty coding": (b"Transfer-Encoding:",),
    "space before the colon": (b"Content-Length : 1",),
    "tab before the colon": (b"Transfer-Encoding\t: chunked",),
    "folded line": (b"X: a", b" b"),
    "folded coding": (b"Transfer-Encoding:", b" chunked"),
    "leading space": (b" Content-Length: 1",),
    "no colon": (b"Content-Length 1",),
    "no name": (b": 1",),
    "bare LF": (b"X: a\nContent-Length: 1",),
    "bare CR": (b"X: a\rContent-Length: 1",),
    "NUL": (b"X: a\0b",),
    "control byte": (b"X: a\x01b",),
    "DEL": (b"X: a\x7fb",),
    "NUL in a name": (b"Content-Length\0: 1",),
    "brackets in a name": (b"Content[Length]: 1",),
    "non-ASCII name": ("Ｃontent-Length: 1".encode(),),
    "two hosts": (b"Host: other.example",),
    "two types": (b"Content-Type: a/b", b"Content-Type: c/d"),
    "two tokens": (b"Authorization: Bearer a", b"Authorization: Bearer b"),
}


@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_smuggling(lines: tuple[bytes, ...]) -> None:
    """A head that two programs could read differently is refused: RFC 9112, section 11.2."""
    assert refusal(head(*lines)).status in (400, 501)


LINES = {
    "no host": (b"PUT /a HTTP/1.1\r\n", 400),
    "bare LF after the first line": (b"PUT /a HTTP/1.1\nHost: a\r\n", 400),
    "two spaces": (b"PUT  /a HTTP/1.1\r\nHost: a\r\n", 400),
    "two spaces before the version": (b"PUT /a  HTTP/1.1\r\nHost: a\r\n", 400),
    "tab": (b"PUT\t/a HTTP/1.1\r\nHost: a\r\n", 400),
    "space in the target": (b"PUT /a b HTTP/1.1\r\nHost: a\r\n", 400),
    "space at the end": (b"PUT /a HTTP/1.1 \r\nHost: a\r\n", 400),
    "space at the start": (b" PUT /a HTTP/1.1\r\nHost: a\r\n", 400),
    "no version": (b"PUT /a\r\nHost: a\r\n", 400),
    "HTTP/0.9": (b"PUT /a HTTP/0.9\r\nHost: a\r\n", 505),
    "HTTP/1.2": (b"PUT /a HTTP/1.2\r\nHost: a\r\n", 505),
    "HTTP/2.0": (b"PUT /a HTTP/2.0\r\nHost: a\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n", 505),
    "HTTP/11": (b"PUT /a HTTP/11\r\nHost: a\r\n", 400),
    "HTTP/1.10": (b"PUT /a HTTP/1.10\r\nHost: a\r\n", 400),
    "http/1.1": (b"PUT /a http/1.1\r\nHost: a\r\n", 400),
    "RTSP": (b"DESCRIBE /a RTSP/1.0\r\nHost: a\r\n", 400),
    "ICE": (b"SOURCE /a ICE/1.0\r\nHost: a\r\n", 400),
    "unknown method": (b"FOO /a HTTP/1.1\r\nHost: a\r\n", 501),
    "lower-case method": (b"put /a HTTP/1.1\r\nHost: a\r\n", 501),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n", 501),
    "NUL in the target": (b"PUT /a\0 HTTP/1.1\r\nHost: a\r\n", 400),
    "non-ASCII target": ("PUT /照片 HTTP/1.1\r\nHost: a\r\n".encode(), 400),
    "fragment": (b"PUT /a#b HTTP/1.1\r\nHost: a\r\n", 400),
    "relative target": (b"PUT a HTTP/1.1\r\nHost: a\r\n", 400),
    "asterisk": (b"PUT * HTTP/1.1\r\nHost: a\r\n", 400),
    "other scheme": (b"PUT ftp://a/b HTTP/1.1\r\nHost: a\r\n", 400),
    "user in the target": (b"PUT http://u@a/b HTTP/1.1\r\nHost: a\r\n", 400),
    "two hosts in one": (b"PUT /a HTTP/1.1\r\nHost: a, b\r\n", 400),
    "space in the host": (b"PUT /a HTTP/1.1\r\nHost: a b\r\n", 400),
    "path in the host": (b"PUT /a HTTP/1.1\r\nHost: a/b\r\n", 400),
    "user in the host": (b"PUT /a HTTP/1.1\r\nHost: u@a\r\n", 400),
    "chunks in HTTP/1.0": (b"PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    "other expectation": (b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: x\r\n", 417),
}


@pytest.mark.parametrize(("start", "status"), LINES.values(), ids=LINES.keys())
def test_lines(start: bytes, status: int) -> None:
    """A first line or a Host that is not valid is refused."""
    assert refusal(head(start=start)).status == status


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"/a?b=c?d", "/a", "box.example"),
        (b"//a//b", "//a//b", "box.example"),
        (b"/%2e%2e/%00", "/%2e%2e/%00", "box.example"),
        (b"http://other.example:80/a?b", "/a", "other.example:80"),
        (b"HTTPS://[::1]:443", "/", "[::1]:443"),
        (b"http://other.example?x", "/", "other.example"),
    ],
)
def test_targets(target: bytes, path: str, host: str) -> None:
    """A target is as it was sent; that of a proxy replaces the field Host."""
    start = b"PUT " + target + b" HTTP/1.1\r\nHost: box.example\r\n"
    request = parse_head(head(start=start))
    assert (request.path, request.fields["host"]) == (path, host)


@pytest.mark.parametrize(
    ("version", "lines", "expected"),
    [
        (b"1", (), True),
        (b"1", (b"Connection: close",), False),
        (b"1", (b"Connection: TE , Close",), False),
        (b"1", (b"Connection: TE", b"Connection: close"), False),
        (b"1", (b"Connection: keep-alive",), True),
        (b"0", (), False),
        (b"0", (b"Connection: Keep-Alive",), True),
        (b"0", (b"Connection: keep-alive, close",), False),
    ],
)
def test_keep_alive(version: bytes, lines: tuple[bytes, ...], expected: bool) -> None:
    """HTTP/1.1 connections are kept unless the client says otherwise, HTTP/1.0 ones are not."""
    start = b"PUT / HTTP/1." + version + b"\r\nHost: a\r\n"
    assert parse_head(head(*lines, start=start)).keep_alive is expected


def test_expectations() -> None:
    """A client that waits for 100 Continue has a body, and speaks HTTP/1.1."""
    expect = b"Expect: 100-Continue"
    assert parse_head(head(expect, b"Content-Length: 1")).expects_continue
    assert parse_head(head(expect, b"Transfer-Encoding: chunked")).expects_continue
    assert not parse_head(head(expect)).expects_continue
    old = head(expect, b"Content-Length: 1", start=b"PUT / HTTP/1.0\r\n")
    assert not parse_head(old).expects_continue


def test_upgrade() -> None:
    """A client that offers another protocol is served with this one: RFC 9110, section 7.8."""
    request = parse_head(head(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 3"))
    assert request.length == 3


def test_too_many_fields() -> None:
    """The number of fields is limited."""
    most = [b"X-%d: x" % number for number in range(MOST_FIELDS - 1)]
    parse_head(head(*most))
    assert refusal(head(*most, b"Y: y")).status == 431


_PIECES = (
    b"PUT|GET| | / |HTTP/1.1|HTTP/1.0|\r\n|\r\n|\n|\r|Host: a|Content-Length: |5|"
    b"Transfer-Encoding: |chunked|:|,|\t|\0|\xff|Connection: close|Expect: 100-continue|http://a/"
).split(b"|")


# -- heads that are not complete ------------------------------------------------


@given(st.data())
def test_beginnings(data: st.DataObject) -> None:
    """Any beginning of a valid head may become one."""
    whole = head(b"Content-Length: 5", b"X: y", start=b"PUT /a?b=%20 HTTP/1.0\r\n")
    end = data.draw(st.integers(0, len(whole) - 1))
    check_beginning(whole[:end])


NOT_HTTP = {
    "JPEG": b"\xff\xd8\xff\xe0",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "ZIP": b"PK\x03\x04",
    "a line": b"hello\n",
    "a sentence": b"hello there, world\n",
    "LF": b"\n",
    "NUL": b"\0",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "a long word": b"x" * 33,
    "SOCKS": b"\x05\x01\x00",
    "PROXY": b"\r\n\r\n\0\r\nQUIT\n",
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_not_http(data: bytes) -> None:
    """Bytes that are not HTTP are refused as soon as that is certain."""
    with pytest.raises(Problem) as caught:
        check_beginning(data)
    assert caught.value.status == 400
    assert "this is not an HTTP request" in caught.value.detail


def test_tls() -> None:
    """A client that speaks TLS to the wrong port is told so."""
    with pytest.raises(Problem, match="this is TLS"):
        check_beginning(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"PUT /" + b"a" * LONGEST_HEAD, 414),
        (b"PUT /" + b"a" * LONGEST_TARGET + b" HTTP/1.1\r\nX: " + b"a" * LONGEST_HEAD, 431),
        (b"PUT / HTTP/1.1\r\nX: " + b"a" * LONGEST_HEAD, 431),
    ],
    ids=["endless target", "long target", "fields"],
)
def test_too_long(data: bytes, status: int) -> None:
    """The size of a head is limited, before it is complete."""
    with pytest.raises(Problem) as caught:
        check_beginning(data)
    assert caught.value.status == status
    whole = data if b" HTTP" in data else data + b" HTTP/1.1"
    assert refusal(whole + b"\r\n\r\n").status == status


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes, they are a request or a problem."""
    statuses = (400, 414, 431, 501, 505)
    for check in (check_beginning, lambda it: parse_head(it + b"\r\n\r\n")):
        try:
            check(data)
        except Problem as problem:
            found = problem.status
        else:
            found = 400
        assert found in statuses


@given(st.lists(st.sampled_from(_PIECES), max_size=24))
def test_likely_bytes(pieces: list[bytes]) -> None:
    """Whatever is parsed as a request has at most one length, and no control characters."""
    data = b"".join(pieces) + b"\r\n\r\n"
    try:
        request = parse_head(data)
    except Problem:
        return
    assert (b"Transfer-Encoding" in data) == (request.length is None)
    assert all(value.isprintable() or "\t" in value for value in request.fields.values())
    assert b"\n" not in data.replace(b"\r\n", b"")
