"""
A strict reader of HTTP/1.1, to compare the daemon with: what it finds in the bytes of a
connection is all that may be handled, and stored.

It has nothing in common with the parser of the daemon.  Whatever two programs could read
differently is not a request here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

__all__ = ["MALFORMED", "Seen", "read_requests", "read_statuses"]

MALFORMED = -1
"""In place of a status: bytes that are not a response."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([01])\Z")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")
_DIGEST = re.compile(rb"sha-256=:([A-Za-z0-9+/=]*):")
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*\r\n")


@dataclass(frozen=True)
class Seen:
    """
    One request with a valid head.

    :ivar method: of the request.
    :ivar body: its content; `None` if that is not complete.
    :ivar form: whether the content is a form.
    :ivar storable: whether the content may be stored.
    """

    method: str
    body: bytes | None
    form: bool
    storable: bool


def read_requests(data: bytes) -> list[Seen]:
    """
    Return the requests in the bytes of a connection, up to the first that is not valid.

    Only the last may be incomplete.
    """
    found: list[Seen] = []
    while True:
        while data.startswith(b"\r\n"):
            data = data[2:]
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return found
        request = _request(head)
        if request is None:
            return found
        method, target, minor, fields = request
        body = _body(fields, minor, rest)
        if body is None:
            return found
        content, rest, persistent = body
        found.append(_seen(method, target, fields, content))
        options = [it.strip().lower() for it in fields.get(b"connection", b"").split(b",")]
        closes = b"close" in options or (minor == b"0" and b"keep-alive" not in options)
        if content is None or not persistent or closes:
            return found
        data = rest


Fields = dict[bytes, bytes]


def _request(head: bytes) -> tuple[bytes, bytes, bytes, Fields] | None:
    first, *lines = head.split(b"\r\n")
    line = _LINE.match(first)
    if line is None:
        return None
    fields: Fields = {}
    for text in lines:
        pair = _FIELD.match(text)
        if pair is None:
            return None
        name = pair[1].lower()
        if name in fields and name in (b"content-length", b"transfer-encoding", b"host"):
            return None
        fields[name] = pair[2] if name not in fields else fields[name] + b", " + pair[2]
    if line[3] == b"1" and b"host" not in fields:
        return None
    return line[1], line[2], line[3], fields


def _body(fields: Fields, minor: bytes, rest: bytes) -> tuple[bytes | None, bytes, bool] | None:
    """Return the content, what follows it, and whether another request may follow."""
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding is not None:
        if length is not None or minor == b"0" or coding.lower() != b"chunked":
            return None
        return _chunks(rest), b"", False
    if length is None:
        return b"", rest, True
    if not re.fullmatch(rb"[0-9]{1,19}", length):
        return None
    size = int(length)
    return (rest[:size] if len(rest) >= size else None), rest[size:], True


def _chunks(data: bytes) -> bytes | None:
    content = b""
    while True:
        line = _CHUNK.match(data)
        if line is None:
            return None
        data, size = data[line.end() :], int(line[1], 16)
        if size == 0:
            return content if _trailers_end(data) else None
        if len(data) < size + 2 or data[size : size + 2] != b"\r\n":
            return None
        content, data = content + data[:size], data[size + 2 :]


def _trailers_end(data: bytes) -> bool:
    while not data.startswith(b"\r\n"):
        line, end, data = data.partition(b"\r\n")
        if not end or not _FIELD.match(line):
            return False
    return True


def _seen(method: bytes, target: bytes, fields: Fields, content: bytes | None) -> Seen:
    target = re.sub(rb"\Ahttps?://[^/?]*", b"", target, flags=re.IGNORECASE)
    path = target.partition(b"?")[0] or b"/"
    form = b"multipart/form-data" in fields.get(b"content-type", b"").lower()
    put = method == b"PUT" and b"/" not in path[1:]
    storable = bool(content) and (put or (method == b"POST" and path == b"/"))
    if fields.get(b"content-encoding", b"identity").lower() not in (b"", b"identity"):
        storable = False
    if put and (b"content-range" in fields or b"if-match" in fields):
        storable = False
    for name in (b"repr-digest", b"content-digest"):
        for digest in _DIGEST.findall(fields.get(name, b"")):
            right = base64.b64encode(hashlib.sha256(content or b"").digest())
            storable = storable and digest == right
    return Seen(method.decode(), content, form and method == b"POST", storable)


def read_statuses(data: bytes, methods: list[str]) -> list[int]:
    """
    Return the statuses of the final responses, in their order.

    A last one that is cut off counts, if its head is complete.

    :param methods: of the requests: a response to HEAD has no content.
    :return: with `MALFORMED` at the end if there is anything else.
    """
    found: list[int] = []
    while data:
        line = _STATUS.match(data)
        head, end, rest = data.partition(b"\r\n\r\n")
        if line is None or not end:
            return [*found, *([] if b"HTTP/1.1 ".startswith(data[:9]) else [MALFORMED])]
        status = int(line[1])
        if status >= 200:
            method = methods[len(found)] if len(found) < len(methods) else ""
            found.append(status)
            # A head that the server refuses is not that of a HEAD, whatever it begins with.
            refused = status >= 400 and not rest.startswith(b"HTTP/1.1 ")
            if status != 204 and (method != "HEAD" or refused):
                length = re.search(rb"\r\nContent-Length: ([0-9]+)(?:\r\n|\Z)", head)
                if length is None:
                    return [*found, MALFORMED]
                rest = rest[int(length[1]) :]
        data = rest
    return found
