"""
Writes responses: RFC 9112, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.problems import REASONS

__all__ = ["CONTINUE", "Dates", "encode_response"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Tells a client that waits for it to send the body."""

_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}" for status, reason in REASONS.items()}
_WITHOUT_CONTENT = frozenset({204, 304})


class Dates:
    """
    The field ``Date``, made once a second.

    :param now: returns the time in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = -1
        self._text = ""

    def text(self) -> str:
        """Return the present time as HTTP writes it."""
        second = int(self._now())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


def encode_response(
    response: Response, date: str, *, connection: str = "", without_body: bool = False
) -> bytes:
    """
    Return a response as bytes.

    :param date: the value of the field ``Date``.
    :param connection: the value of the field ``Connection``; empty to leave it out.
    :param without_body: it responds to HEAD: the length is that which GET would have.
    :raises ValueError: a field contains a line break.
    """
    status, body = response.status, response.body
    lines = [
        _STATUS_LINES.get(status) or f"HTTP/1.1 {status} ",
        f"Date: {date}",
        "X-Content-Type-Options: nosniff",
    ]
    if status not in _WITHOUT_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    if connection:
        lines.append(f"Connection: {connection}")
    for name, value in response.fields:
        lines.append(f"{name}: {value}")
    head = "\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count("\n") != breaks or head.count("\r") != breaks:
        raise ValueError("a field of the response contains a line break")
    encoded = f"{head}\r\n\r\n".encode()
    return encoded if without_body or status in _WITHOUT_CONTENT else encoded + body
