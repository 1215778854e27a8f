"""
The head of an HTTP request: as much of it as the port for metrics and health needs.

Whatever bytes come, there is a `Request`, a `BadRequest`, or too little yet.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

__all__ = ["MOST_HEAD", "BadRequest", "Head", "Request", "is_own_host"]

MOST_HEAD = 16 * 1024
"""Bytes that the lines before a body may have."""

# RFC 9112, sections 3 and 5; a line may end without CR (section 2.2).
_END = re.compile(rb"\r?\n\r?\n")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([^\x00\r\n]*)")

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d{0,5})?")

_NOT_PUBLIC = (".localhost", ".local", ".internal", ".home.arpa", ".svc")
"""Names that nobody can have in the public DNS (RFC 6761, RFC 6762, RFC 8375), and
what Kubernetes calls its services."""


class BadRequest(Exception):
    """
    It is no request, or not one for here.

    :ivar code: the status to answer with.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """
    :ivar target: path and query.
    :ivar fields: by their names in lower case; of several, all values, with commas.
    """

    method: str
    target: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The target without a query."""
        return self.target.partition("?")[0]


class Head:
    """Puts a request's head together."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Request | None:
        """
        The next bytes have come.

        :return: the request, when all of its head is there; not to be called again.
        :raises BadRequest: it is none; the same.
        """
        # The end may have begun in what was there.
        start = max(0, len(self._data) - 3)
        self._data += data[: MOST_HEAD + 1 - len(self._data)]
        end = _END.search(self._data, start)
        if end is not None:
            return _parse(bytes(self._data[: end.start()]))
        if len(self._data) > MOST_HEAD:
            raise BadRequest(431, f"a request has at most {MOST_HEAD} bytes before its body")
        return None


def _parse(head: bytes) -> Request:
    first, *lines = re.split(rb"\r?\n", head)
    matched = _REQUEST_LINE.fullmatch(first)
    if matched is None:
        raise BadRequest(400, "this is not a request of HTTP/1.1 or HTTP/1.0")
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise BadRequest(400, "a line of the request is not NAME: VALUE")
        name = found[1].decode("ascii").lower()
        value = found[2].strip(b" \t").decode("latin-1")
        if name == "host" and name in fields:
            raise BadRequest(400, "there are two Host lines")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Request(matched[1].decode("ascii"), matched[2].decode("latin-1"), fields)


def is_own_host(host: str, names: AbstractSet[str]) -> bool:
    """
    Whether a browser can have been sent here by nobody but us.

    A page of somebody else can have its own name point at this machine (DNS
    rebinding), and then read what is here; its requests have that name in ``Host``.
    An address is no name, and neither names without a dot nor those that are for
    local use are anybody's.  A browser always says where it believes to be.

    :param host: the value of that line; empty is allowed (RFC 9112, section 3.2).
    :param names: other names of this machine, in lower case.
    """
    if not host:
        return True
    matched = _HOST.fullmatch(host)
    if matched is None:
        return False
    name = matched[1].lower().rstrip(".")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return ("." not in name and name != "") or name in names or name.endswith(_NOT_PUBLIC)
    return True
