"""
Requests for the fuzz of the HTTP front end: valid ones in every form, those that two
programs could read differently, and changed ones.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable

__all__ = ["PROTOTYPES", "TRICKS", "changed", "chunked", "form", "plain", "put", "trick"]

BOUNDARY = b"----fuzz7d1c5b9e"

_NAMES = (
    *(b"/", b"/photo.jpg", b"/%E7%85%A7.png", b"/..%2f..%2fetc%2fpasswd", b"/%00", b"/.hidden"),
    *(b"/a%0d%0ab", b"/%1b%5b31m.txt", b"/" + b"n" * 300, b"/%ff%fe", b"/x?y=z", b"/?", b"/%"),
)
_FIELDS = (
    *(b"Accept: application/json", b"Accept: text/html, */*;q=0.1", b"Expect: 100-continue"),
    *(b"X-\xe7: \xe7\x85\xa7", b"X: " + b"v" * 900, b"Content-Type: text/plain; charset=utf-8"),
    *(b'Content-Disposition: attachment; filename="a\\"b.txt"', b"Connection: keep-alive"),
    *(b"Content-Disposition: attachment; filename*=UTF-8''%e7%85%a7.jpg", b"Upgrade: h2c"),
    *(b"Want-Repr-Digest: sha-256=10", b"Cookie: a=b; c=d", b"X-Forwarded-For: 1.2.3.4, x"),
    *(b"Content-Type: image/png\t", b"Connection: close", b"TE: trailers", b"Range: bytes=0-4"),
    *(b"Content-Encoding: gzip", b"If-Match: *", b"Content-Range: bytes 0-4/9", b"X:"),
)


def put(
    body: bytes, *fields: bytes, target: bytes = b"/", method: bytes = b"PUT", minor: bytes = b"1"
) -> bytes:
    """Return a request with a body of known length."""
    lines = [method + b" " + target + b" HTTP/1." + minor, b"Host: box", *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def _digest(body: bytes) -> bytes:
    return b"sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()) + b":"


def plain(chance: random.Random, body: bytes) -> bytes:
    """Return a valid request that stores a body, or is refused as it is."""
    fields = chance.sample(_FIELDS, chance.choice((0, 0, 1, 2, 4)))
    roll = chance.random()
    if roll < 0.05:
        fields.append(b"Repr-Digest: " + _digest(body))
    elif roll < 0.1:
        fields.append(b"Content-Digest: " + _digest(body + b"!"))
    once = {field.partition(b":")[0]: field for field in fields}
    method, target = chance.choice(((b"PUT", chance.choice(_NAMES)), (b"POST", b"/")))
    minor = chance.choice((b"1", b"1", b"1", b"0"))
    return put(body, *once.values(), target=target, method=method, minor=minor)


def other(chance: random.Random, hidden: bytes) -> bytes:
    """Return a valid request that stores nothing, although its body is a request that would."""
    method, target = chance.choice(
        (
            *((b"GET", b"/"), (b"HEAD", b"/"), (b"OPTIONS", b"*"), (b"DELETE", b"/files/x")),
            *((b"PUT", b"/no/such"), (b"TRACE", b"/"), (b"PATCH", b"/files/" + b"0" * 32)),
            *((b"POST", b"/files/"), (b"HEAD", b"/files/" + b"f" * 32), (b"BREW", b"/")),
        )
    )
    fields = chance.choice(((), (b"Tus-Resumable: 1.0.0", b"Upload-Offset: 0")))
    return put(hidden, *fields, target=target, method=method)


def chunked(chance: random.Random, body: bytes) -> bytes:
    """Return a PUT with a body in chunks."""
    head = b"PUT /chunks HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = []
    while body:
        size = chance.choice((1, 10, 1000, 70_000, len(body)))
        piece, body = body[:size], body[size:]
        extension = chance.choice((b"", b"", b";a=b", b';a="b c"'))
        pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
    trailers = chance.choice((b"", b"X: y\r\n", b"Content-Length: 5\r\n"))
    return head + b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"


def form(chance: random.Random, *bodies: bytes) -> bytes:
    """Return a POST of a form with several files."""
    parts = [b'\r\nContent-Disposition: form-data; name="note"\r\n\r\ntext\r\n']
    for body in bodies:
        name = chance.choice((b"a.txt", b"", b"..\\..\\x", b"\xe7\x85\xa7.png", b"n" * 300))
        parts.append(
            b'\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n'
            b"Content-Type: text/plain\r\n\r\n%b\r\n" % (name, body)
        )
    content = b"".join(b"--" + BOUNDARY + part for part in parts) + b"--" + BOUNDARY + b"--\r\n"
    field = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY
    return put(content, field, method=b"POST")


# What two programs could read differently.  `%b` is a request that must not be handled.

_CL = b"Content-Length: "
_TE = b"Transfer-Encoding: chunked"

FRAMINGS = (
    *(_CL + b"5\r\n" + _TE, _TE + b"\r\n" + _CL + b"5", _CL + b"5\r\n" + _CL + b"5"),
    *(_CL + b"5\r\n" + _CL + b"6", _CL + b"5, 5", _CL + b"+5", _CL + b"-5", _CL + b"0x5"),
    *(_CL + b"5 5", _CL + b"5;", _CL + b"99999999999999999999", _CL + b"\xd9\xa5", _CL + b"5_0"),
    *(b"Content-Length : 5", b" Content-Length: 5", b"Content-Length:\r\n 5", b"Content-Length"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding:\r\n chunked", _TE + b"\r\n" + _TE),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, identity", _TE + b", gzip"),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: xchunked", _TE + b"\x0b"),
    *(b"Transfer-Encoding: \x00chunked", b"Transfer\x00-Encoding: chunked", _TE + b"\x00"),
    *(b"X: y\n" + _TE, b"X: y\r" + _TE, _TE + b"\n", b"X: y\r\n\x20" + _CL + b"5", _CL),
    *(b'Transfer-Encoding: "chunked"', b"Transfer_Encoding: chunked\r\n" + _CL + b"x5"),
    *(b"Host: other\r\n" + _CL + b"5", b"X: \r\r\n" + _CL + b"5\r", _CL + b"5\r\n\r" + _TE),
)

CHUNKS = (
    *(b"0x5\r\nhello\r\n0\r\n\r\n%b", b"+5\r\nhello\r\n0\r\n\r\n%b", b"-5\r\nhello\r\n0\r\n\r\n%b"),
    *(b" 5\r\nhello\r\n0\r\n\r\n%b", b"5\nhello\n0\n\n%b", b"5\r\nhello0\r\n\r\n%b"),
    *(b"5\r\nhelloXX0\r\n\r\n%b", b"5;\nx\r\nhello\r\n0\r\n\r\n%b", b"5\r\nhello\r\n0\r\n%b"),
    *(b"5;\x00\r\nhello\r\n0\r\n\r\n%b", b"10000000000000005\r\nhello\r\n0\r\n\r\n%b"),
    *(b"5\rXhello\r\n0\r\n\r\n%b", b"5\r\nhello\r\n0\r\nX : y\r\n\r\n%b", b"\r\n5\r\nhello\r\n%b"),
    *(
        b"ffffffffffffffff\r\n%b",
        b"5\r\nhello\n\n0\r\n\r\n%b",
        b"5\r\nhello\r\n0\r\n\nX: y\r\n\r\n%b",
    ),
    *(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n%b", b"5_0\r\nhello\r\n0\r\n\r\n%b"),
    *(b"5" + b";a" * 9000 + b"\r\nhello\r\n0\r\n\r\n%b", b"1\r\n\r\n\r\n0\r\n\r\n%b"),
    b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 4000 + b"\r\n%b",
)

HEADS = (
    *(b"PUT / HTTP/1.1\nHost: box\nContent-Length: 5\n\nhello%b", b"PUT  / HTTP/1.1\r\n\r\n%b"),
    *(b"PUT / HTTP/1.1 \r\nHost: box\r\n\r\n%b", b"PUT / HTTP/2.0\r\nHost: box\r\n\r\n%b"),
    *(b"PUT /\x7f HTTP/1.1\r\nHost: box\r\n\r\n%b", b"PUT / HTTP/1.1\r\nHost: a b\r\n\r\n%b"),
    *(b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello%b", b"put / http/1.1\r\n\r\n%b"),
    *(
        b"CONNECT box:443 HTTP/1.1\r\nHost: box:443\r\n\r\n%b",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%b",
    ),
    *(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03%b", b"GET /\r\n\r\n%b", b"\0\0\0\0%b"),
    *(b"PUT /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: box\r\n\r\n%b", b"x" * 40_000 + b"%b"),
    *(b"PUT / HTTP/1.1\r\nX: " + b"y" * 17_000 + b"\r\nHost: box\r\n\r\n%b", b"\r\n" * 40 + b"%b"),
    b"PUT / HTTP/1.1\r\nHost: box\r\n" + b"X: y\r\n" * 120 + b"\r\n%b",
)

TRICKS = (
    *(b"PUT /trick HTTP/1.1\r\nHost: box\r\n" + it + b"\r\n\r\nhello%b" for it in FRAMINGS),
    *(
        b"PUT /trick HTTP/1.1\r\nHost: box\r\n" + it + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n%b"
        for it in FRAMINGS
    ),
    *(b"PUT / HTTP/1.1\r\nHost: box\r\n" + _TE + b"\r\n\r\n" + it for it in CHUNKS),
    *(b"PUT / HTTP/1.0\r\nHost: box\r\n" + _TE + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n%b",),
    *HEADS,
)
"""Requests that are to be refused, or after which the connection must close; `%b` follows."""


def trick(chance: random.Random, hidden: bytes) -> bytes:
    """Return one of them, with a request behind it."""
    head, _, rest = chance.choice(TRICKS).partition(b"%b")
    return head + hidden + rest


def changed(chance: random.Random, data: bytes) -> bytes:
    """Change a few bytes, most of them where heads are."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        reach = chance.choice((60, 200, len(data)))
        at = chance.randrange(min(reach, len(data)) + 1)
        end = at + chance.choice((0, 1, 1, 2, 8))
        to = chance.choice(
            (
                *(b"", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"0", b"\x1b[31m", b"\xff"),
                *(chance.randbytes(chance.randrange(9)), b"\r\n\r\n", data[at : at + 40] * 2),
                *(b"\r\nContent-Length: 3\r\n", b"\r\nTransfer-Encoding: chunked\r\n"),
            )
        )
        data = data[:at] + to + data[end:]
    return data


PROTOTYPES: dict[Callable[[random.Random, bytes], bytes], int] = {
    plain: 8,
    chunked: 3,
    form: 2,
    other: 2,
    trick: 6,
}
"""What makes a request, of a body or of a hidden request, and how often."""
