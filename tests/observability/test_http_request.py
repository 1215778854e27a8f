"""
The head of an HTTP request, from any bytes.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twisted_upload.observability.http_request import (
    MOST_HEAD,
    BadRequest,
    Head,
    Request,
    is_own_host,
)

PIECES = st.sampled_from(
    [
        *(b"GET", b"HEAD", b" ", b"/metrics", b"?x", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n"),
        *(b"\r", b"Host", b": ", b":", b"localhost", b"Accept", b"\xff", b"\0", b"\t", b"["),
        *(b"Content-Length: " + b"9" * 5000, b"Transfer-Encoding: chunked", b"\r\n\r\n"),
    ]
)
REQUESTS = st.one_of(st.binary(), st.lists(PIECES | st.binary(max_size=5)).map(b"".join))


def parse(data: bytes, sizes: list[int]) -> Request | BadRequest | None:
    """Feed the data in pieces of these sizes, repeating the last size."""
    head = Head()
    offset = number = 0
    while offset < len(data):
        size = sizes[min(number, len(sizes) - 1)]
        try:
            request = head.feed(data[offset : offset + size])
        except BadRequest as error:
            return error
        if request is not None:
            return request
        offset, number = offset + size, number + 1
    return None


@given(REQUESTS, st.lists(st.integers(1, 50), min_size=1))
@settings(deadline=None)
@example(b"GET / HTTP/1.1\r\n\r\n", [1])
@example(b"\n\n", [1])
def test_any_bytes(data: bytes, sizes: list[int]) -> None:
    """Any bytes give a request, an error or nothing, however they arrive."""
    whole, parts = parse(data, [len(data) + 1]), parse(data, sizes)
    assert repr(whole) == repr(parts)
    if isinstance(whole, Request):
        assert whole.target.isprintable() or not whole.target.isascii()
        is_own_host(whole.fields.get("host", ""), {"upload.example.com"})
    elif whole is not None:
        assert whole.code in (400, 431)
        assert str(whole).isascii()
        assert str(whole).isprintable()


@given(st.text(max_size=100) | st.from_regex(r"[\[\]:.0-9a-z%]*", fullmatch=True))
@settings(deadline=None)
def test_any_host(host: str) -> None:
    """Any text is either our own host name or not."""
    assert is_own_host(host, set()) in (True, False)


def test_request() -> None:
    """Field names are in lower case, values are stripped, and repeated fields are joined."""
    head = Head()
    assert head.feed(b"GET /a?b HTTP/1.1\r\nHOST:x\r\nAccept: \t a \r\naccept: b\r\n\r\nrest") == (
        Request("GET", "/a?b", {"host": "x", "accept": "a, b"})
    )


@pytest.mark.parametrize(
    "line",
    [b"a: " + b" " * MOST_HEAD, b"a" * MOST_HEAD, b"a:\r\n" * (MOST_HEAD // 4), b"\r" * MOST_HEAD],
    ids=["spaces", "name", "many", "returns"],
)
@pytest.mark.parametrize("size", [1, MOST_HEAD])
def test_takes_little_time(line: bytes, size: int) -> None:
    """Any head is parsed quickly, whatever is in it, and however slowly it arrives."""
    data = (b"GET / HTTP/1.1\r\n" + line)[: MOST_HEAD - 4] + b"\r\n\r\n"
    start = time.process_time()
    parse(data, [size])
    assert time.process_time() - start < 1.0
