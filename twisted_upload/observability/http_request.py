"""
Parsing the head of an HTTP request, as far as the metrics and health port needs it.

Any input results in a `Request`, a `BadRequest`, or the need for more bytes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from twisted_upload.core.text import counted

__all__ = ["MOST_HEAD", "BadRequest", "Head", "Request", "is_own_host"]

MOST_HEAD = 16 * 1024
"""Maximum size of the lines before a body, in bytes."""

# RFC 9112, sections 3 and 5; a line may end without CR (section 2.2).
_END = re.compile(rb"\r?\n\r?\n")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([^\x00\r\n]*)")

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d{0,5})?")

_NOT_PUBLIC = (".localhost", ".local", ".internal", ".home.arpa", ".svc")
"""Suffixes that do not exist in the public DNS (RFC 6761, RFC 6762, RFC 8375), and the
suffix of Kubernetes services."""


class BadRequest(Exception):
    """
    The input is not a request, or not one that can be answered here.

    :ivar code: the HTTP status code of the response.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """
    The head of a request.

    :ivar target: path and query.
    :ivar fields: header fields by lower-case name; the values of repeated fields are
        joined with commas.
    """

    method: str
    target: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Head:
    """Assembles the head of a request from chunks of bytes."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Request | None:
        """
        Take the next bytes.

        :return: the request, once its head is complete.  Do not call this again then.
        :raises BadRequest: the input is not a request.  Do not call this again.
        """
        # The end of the head may have begun in the previous bytes.
        start = max(0, len(self._data) - 3)
        self._data += data[: MOST_HEAD + 1 - len(self._data)]
        end = _END.search(self._data, start)
        if end is not None:
            return _parse(bytes(self._data[: end.start()]))
        if len(self._data) > MOST_HEAD:
            limit = counted(MOST_HEAD, "byte")
            raise BadRequest(431, f"the head of the request is longer than {limit}")
        return None


def _parse(head: bytes) -> Request:
    first, *lines = re.split(rb"\r?\n", head)
    matched = _REQUEST_LINE.fullmatch(first)
    if matched is None:
        raise BadRequest(400, "this is not an HTTP/1.1 or HTTP/1.0 request")
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise BadRequest(400, "a line of the request is not NAME: VALUE")
        name = found[1].decode("ascii").lower()
        value = found[2].strip(b" \t").decode("latin-1")
        if name == "host" and name in fields:
            raise BadRequest(400, "there is more than one Host line")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Request(matched[1].decode("ascii"), matched[2].decode("latin-1"), fields)


def is_own_host(host: str, names: AbstractSet[str]) -> bool:
    """
    Return whether a ``Host`` value rules out DNS rebinding.

    A foreign web page can make its own domain resolve to this machine (DNS rebinding)
    and then read the responses.  Its requests have that domain in ``Host``: browsers
    always send it.  Addresses, names without a dot, and names for local use cannot be
    such a domain.

    :param host: the value of the field; empty is allowed (RFC 9112, section 3.2).
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
