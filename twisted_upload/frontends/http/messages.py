"""
Requests and responses, as the front end passes them from place to place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Problem", "Request", "Response"]


@dataclass(frozen=True, slots=True)
class Request:
    """
    The head of a request; it has been checked against RFC 9110 and RFC 9112.

    :ivar method: as sent.
    :ivar target: as sent: path and query.
    :ivar fields: header fields by lower-case name; the values of repeated fields are
        joined with ``, ``.
    :ivar length: length of the body in bytes: 0 without a body; `None` if it is chunked.
    :ivar keep_alive: whether the client wants to use the connection again.
    :ivar expects_continue: whether it waits for ``100 Continue`` before it sends the body.
    :ivar minor_version: 0 or 1, of HTTP/1.
    """

    method: str
    target: str
    fields: Mapping[str, str] = field(default_factory=dict)
    length: int | None = 0
    keep_alive: bool = True
    expects_continue: bool = False
    minor_version: int = 1

    @property
    def path(self) -> str:
        """The target without its query, percent-encoded as it was sent."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first question mark of the target."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Response:
    """
    A response.

    The connection adds ``Content-Length``, ``Date``, ``Connection``, and what all
    responses have.

    :ivar status: the status code.
    :ivar fields: header fields, in order.
    :ivar body: the content.
    """

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Problem(Exception):
    """
    A request that is answered with an error: see RFC 9457.

    :param status: the status code.
    :param code: a word for programs: one of `twisted_upload.core.answers.CODES`, or one
        that only HTTP has.
    :param detail: one line for the person at the other end.
    :param fields: further header fields.
    """

    def __init__(
        self, status: int, code: str, detail: str, fields: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = fields
