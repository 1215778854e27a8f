"""
The head of a request: parsed by httptools (llhttp), and checked for what that lets
through.

A head that two programs could read differently is refused, because one of them may be
the proxy in front of us (request smuggling): RFC 9112, section 11.2.
"""

from __future__ import annotations

import re

import httptools

from twisted_upload.frontends.http.messages import Problem, Request

__all__ = ["LONGEST_HEAD", "LONGEST_TARGET", "MOST_FIELDS", "check_beginning", "parse_head"]

LONGEST_HEAD = 16 * 1024
"""Maximum number of bytes of a head."""

LONGEST_TARGET = 8 * 1024
"""Maximum number of bytes of a request target."""

MOST_FIELDS = 100
"""Maximum number of header fields."""

LARGEST = 2**63 - 1
"""Maximum length of a body: that of the largest file."""

_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n",
)
_BEGINNING = re.compile(
    rb"(?:\r\Z|[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,32}\Z|[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} "
    rb"(?:[!-~]*\Z|[!-~]+ (?P<rest>[ -~]{0,9}\r?\Z|[ -~]{0,9}\r\n)))"
)
_HTTP = b"HTTP/1."
_ABSOLUTE = re.compile(r"https?://([^/?]+)(.*)\Z", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]*)?\Z")
_DIGITS = re.compile(r"[0-9]{1,19}\Z")


def check_beginning(data: bytes) -> None:
    """
    Check the first bytes of a head that is not complete.

    :raises Problem: they cannot become an HTTP request, or there are too many.
    """
    if _BEGINNING.match(data) is None:
        raise _what_it_is(data)
    _check_size(data)


def _check_size(data: bytes) -> None:
    if len(data) > LONGEST_HEAD:
        line = data.find(b"\r\n")
        if line < 0 or line > LONGEST_TARGET + 64:
            raise _target_too_long()
        raise Problem(431, "head-too-large", "the header fields of the request are too large")


def _what_it_is(data: bytes) -> Problem:
    if data[:2] == b"\x16\x03":
        detail = "this port speaks plain HTTP, and this is TLS: use http://, not https://"
    elif b"HTTP/" in data[:LONGEST_HEAD].partition(b"\n")[0]:
        return Problem(400, "bad-request", "the first line of the request is not valid")
    else:
        detail = "this port speaks HTTP, and this is not an HTTP request"
    return Problem(400, "bad-request", detail)


class _Parsed:
    """What httptools has found in a head."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(head: bytes) -> Request:
    """
    Parse a complete head, including the empty line at its end.

    :raises Problem: it is not valid, or not one for this server.
    """
    _check_size(head)
    line = _LINE.match(head)
    if line is None:
        if head[:1] < b"!" or _BEGINNING.match(head) is None:
            raise _what_it_is(head)
        raise _bad("the first line of the request is not valid")
    raw_method, raw_target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise Problem(505, "http-version", "this server speaks HTTP/1.1 and HTTP/1.0")
    if len(raw_target) > LONGEST_TARGET:
        raise _target_too_long()
    if b"#" in raw_target:
        raise _bad("the address of the request has a fragment")
    parsed = _parse(head)
    method = raw_method.decode("ascii")
    if method == "CONNECT":
        raise Problem(501, "not-implemented", "this server is not a proxy")
    fields = _joined(parsed.fields)
    target = _target(method, raw_target.decode("ascii"), fields, minor == b"1")
    length = _length(fields, minor == b"1")
    return Request(
        method,
        target,
        fields,
        length,
        _keeps_alive(fields, minor == b"1"),
        _expects_continue(fields, length, minor == b"1"),
        1 if minor == b"1" else 0,
    )


def _parse(head: bytes) -> _Parsed:
    parsed = _Parsed()
    # For each request a new one: it knows nothing of what has gone before.
    parser = httptools.HttpRequestParser(parsed)
    try:
        parser.feed_data(head)
    except httptools.HttpParserInvalidMethodError:
        raise Problem(501, "not-implemented", "this server does not know the method") from None
    except httptools.HttpParserUpgrade:
        pass  # RFC 9110, section 7.8: a server may ignore it
    except httptools.HttpParserError as error:
        raise _bad(f"the head of the request is not valid: {_reason(error)}") from None
    if not parsed.complete:
        raise _bad("the head of the request is not valid")
    if len(parsed.fields) > MOST_FIELDS:
        raise Problem(431, "head-too-large", f"more than {MOST_FIELDS} header fields")
    return parsed


def _reason(error: Exception) -> str:
    """Return what llhttp says: a fixed text, without bytes of the sender."""
    text = str(error)
    return text if text.isascii() and text.isprintable() and len(text) < 100 else "malformed"


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """
    Return the fields by lower-case name.

    :raises Problem: one that must be there once is there several times.
    """
    fields: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("ascii").lower()
        raw = raw_value.strip(b" \t")
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
        if name in fields:
            if name in _ONCE:
                raise _bad(f"the field {_ONCE[name]} is there twice")
            value = f"{fields[name]}, {value}"
        fields[name] = value
    return fields


_ONCE = {
    name.lower(): name
    for name in (
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Type",
        "Authorization",
        "Expect",
    )
}
"""Fields whose meaning would depend on which of several a program uses."""


def _target(method: str, target: str, fields: dict[str, str], modern: bool) -> str:
    """Return path and query; an absolute target replaces the field Host."""
    host = fields.get("host")
    if host is None and modern:
        raise _bad("the field Host is missing")
    if host is not None and not _HOST.match(host):
        raise _bad("the field Host is not valid")
    if target.startswith("/"):
        return target
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is None or not _HOST.match(absolute[1]):
        raise _bad("the address of the request is not valid")
    fields["host"] = absolute[1]
    rest = absolute[2]
    return rest if rest.startswith("/") else f"/{rest}"


def _length(fields: dict[str, str], modern: bool) -> int | None:
    """Return the length of the body; `None` if it is chunked."""
    coding, length = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        if length is not None:
            raise _bad("both Transfer-Encoding and Content-Length")
        if not modern:
            raise _bad("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != "chunked":
            raise Problem(501, "not-implemented", "the only transfer coding here is chunked")
        return None
    if length is None:
        return 0
    if not _DIGITS.match(length) or int(length) > LARGEST:
        raise _bad("the field Content-Length is not valid")
    return int(length)


def _keeps_alive(fields: dict[str, str], modern: bool) -> bool:
    connection = fields.get("connection")
    if connection is None:
        return modern
    options = [option.strip() for option in connection.lower().split(",")]
    if "close" in options:
        return False
    return modern or "keep-alive" in options


def _expects_continue(fields: dict[str, str], length: int | None, modern: bool) -> bool:
    expect = fields.get("expect")
    if expect is None or not modern:
        return False
    if expect.lower() != "100-continue":
        raise Problem(417, "expectation-failed", "the only expectation here is 100-continue")
    return length != 0


def _target_too_long() -> Problem:
    return Problem(414, "target-too-long", "the address of the request is too long")


def _bad(detail: str) -> Problem:
    return Problem(400, "bad-request", detail)
