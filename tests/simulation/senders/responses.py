"""
Responses of HTTP, read strictly: what a tolerant client would overlook is a violation.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from typing import NamedTuple

__all__ = ["STATUSES", "Response", "Responses", "WrongResponse", "code_of", "receipts_of"]

STATUSES: dict[str, tuple[int, ...]] = {
    "bad-request": (400, 412, 415, 421, 501),
    "busy": (503,),
    "conflict": (400, 409, 412),
    "digest-mismatch": (460,),
    "empty": (400,),
    "expectation-failed": (417,),
    "head-too-large": (431,),
    "http-version": (505,),
    "method-not-allowed": (405,),
    "no-space": (507,),
    "not-allowed": (403,),
    "not-found": (404,),
    "not-implemented": (501,),
    "shutting-down": (503,),
    "store-error": (503,),
    "target-too-long": (414,),
    "timeout": (408,),
    "too-large": (413,),
    "unauthorized": (401, 429),
}
"""The statuses of each code."""

MOST = 1 << 20
"""Bytes of a response that are read."""

_REPEATED = ("www-authenticate",)
_STATUS_LINE = re.compile(r"HTTP/1\.1 ([1-5][0-9][0-9]) ([A-Z][A-Za-z0-9 ]*)\Z")
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*): ([^\x00-\x1f\x7f]*)\Z")
_NUMBER = re.compile(r"[0-9]{1,19}\Z")
_PROBLEM = re.compile("上传失败: ([a-z-]+) ([^\n\x00-\x1f]{1,600})\n")
_RECEIPT = re.compile("上传成功 ([^ \n/]+) ([0-9]+) ([0-9a-f]{64}|-)\n")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):\Z")


class WrongResponse(Exception):
    """Bytes that are no response, or not one to what was asked."""


class Response(NamedTuple):
    """
    A final response.

    :ivar fields: by name in lower case.
    """

    status: int
    fields: dict[str, str]
    body: bytes

    def number(self, name: str) -> int | None:
        """
        Return a field that is a number; `None` if it is missing.

        :raises WrongResponse: it is none.
        """
        text = self.fields.get(name)
        if text is None:
            return None
        if not _NUMBER.match(text):
            raise WrongResponse(f"{name}: {text}")
        return int(text)

    def digest(self) -> str | None:
        """
        Return the SHA-256 in ``Repr-Digest``, as hexadecimal digits; `None` without one.

        :raises WrongResponse: the field is not what it should be.
        """
        text = self.fields.get("repr-digest")
        if text is None:
            return None
        found = _DIGEST.match(text)
        if found is None:
            raise WrongResponse(f"Repr-Digest: {text}")
        return b64decode(found[1]).hex()


class Responses:
    """
    The responses on one connection: exactly one for each request, in their order.

    :ivar asked: the methods of the requests that have no response yet.
    :ivar continues: how often ``100 Continue`` has come.
    :ivar closes: whether a response tells that the connection closes.
    """

    __slots__ = ("_buffer", "asked", "closes", "continues", "expected")

    def __init__(self) -> None:
        self._buffer = b""
        self.asked: list[str] = []
        self.continues = 0
        self.expected = 0
        self.closes = False

    def ask(self, method: str, *, expects_continue: bool = False) -> None:
        """Note that a request is sent."""
        self.asked.append(method)
        self.expected += expects_continue

    @property
    def left(self) -> bytes:
        """What has come of a response that is not complete."""
        return self._buffer

    def feed(self, data: bytes) -> None:
        """Take bytes of the connection."""
        self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> Response | None:
        """
        Return the next final response; `None` if it is not complete yet.

        :raises WrongResponse: it is not one, or nobody has asked for it.
        """
        while True:
            buffer = self._buffer
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > MOST:
                    raise WrongResponse("a head without end")
                if buffer and not b"HTTP/1.1 ".startswith(buffer[:9]):
                    raise WrongResponse(repr(buffer[:60]))
                return None
            status, fields = _parse_head(buffer[:end])
            if status >= 200:
                break
            if status != 100 or fields:
                raise WrongResponse(f"an interim response {status} {fields}")
            self.continues += 1
            if self.continues > self.expected:
                raise WrongResponse("100 Continue, which nobody expects")
            self._buffer = buffer[end + 4 :]
        if self.closes:
            raise WrongResponse(f"a response {status} after one that closes the connection")
        if not self.asked:
            raise WrongResponse(f"a response {status} that nobody has asked for")
        size = _body_size(status, fields, self.asked[0])
        whole = end + 4 + size
        if len(buffer) < whole:
            return None
        self.asked.pop(0)
        self.closes = fields.get("connection", "").lower() == "close"
        self._buffer = buffer[whole:]
        return Response(status, fields, buffer[end + 4 : whole])


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    try:
        first, *lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise WrongResponse(repr(head[:200])) from None
    match = _STATUS_LINE.match(first)
    if match is None:
        raise WrongResponse(repr(first[:200]))
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.match(line)
        if found is None:
            raise WrongResponse(repr(line[:200]))
        name = found[1].lower()
        if name in fields and name not in _REPEATED:
            raise WrongResponse(f"the field {name} twice")
        fields[name] = found[2]
    return int(match[1]), fields


def _body_size(status: int, fields: dict[str, str], method: str) -> int:
    length = fields.get("content-length")
    if "transfer-encoding" in fields or "date" not in fields:
        raise WrongResponse(f"{status} {fields}")
    if status in (204, 304):
        if length is not None:
            raise WrongResponse(f"{status} with Content-Length")
        return 0
    if length is None or not _NUMBER.match(length):
        raise WrongResponse(f"{status} without Content-Length")
    if status == 503 and "retry-after" not in fields:
        raise WrongResponse("503 without Retry-After")
    return 0 if method == "HEAD" else int(length)


def code_of(response: Response) -> str:
    """
    Return the code of an error.

    :raises WrongResponse: it is none, or status and code do not belong together.
    """
    kind = response.fields.get("content-type", "")
    try:
        text = response.body.decode()
    except UnicodeDecodeError:
        raise WrongResponse(repr(response.body[:200])) from None
    if kind == "application/problem+json":
        try:
            problem = json.loads(text)
            code = problem["code"]
            right = problem["status"] == response.status and problem["detail"]
        except (ValueError, KeyError, TypeError):
            raise WrongResponse(text[:200]) from None
    elif kind == "text/plain; charset=utf-8":
        match = _PROBLEM.match(text)
        code, right = (match[1], match.end() == len(text)) if match else ("", False)
    else:
        raise WrongResponse(f"{response.status} with a body of the type {kind!r}")
    if not right or response.status not in STATUSES.get(code, ()):
        raise WrongResponse(f"{response.status} with {text[:200]!r}")
    return str(code)


def receipts_of(response: Response) -> list[tuple[str | None, int, str | None, str]]:
    """
    Return name, size, SHA-256 and code of each file in a response to plain uploads; the
    code is empty for those that are stored.

    :raises WrongResponse: it is not such a response.
    """
    try:
        text = response.body.decode()
        if response.fields.get("content-type") == "application/json":
            value = json.loads(text)
            files = value.get("files", [value])
            return [
                (it["name"], it.get("size") or 0, it.get("sha256"), it.get("code", ""))
                for it in files
            ]
    except (ValueError, KeyError, TypeError):
        raise WrongResponse(repr(response.body[:200])) from None
    found: list[tuple[str | None, int, str | None, str]] = []
    at = 0
    while at < len(text):
        match = _RECEIPT.match(text, at)
        if match is not None:
            found.append((match[1], int(match[2]), None if match[3] == "-" else match[3], ""))
        else:
            match = _PROBLEM.match(text, at)
            if match is None:
                raise WrongResponse(repr(text[at : at + 200]))
            found.append((None, 0, None, match[1]))
        at = match.end()
    if not found:
        raise WrongResponse(f"{response.status} without a word")
    return found
