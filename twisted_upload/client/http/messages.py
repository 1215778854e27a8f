"""
Requests and responses of HTTP/1.1, as a conversation: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools

from twisted_upload.client.conversation import ConnectionBroken, Conversation, Receive
from twisted_upload.client.targets import Target
from twisted_upload.core.answers import CODES, clean_text, quoted, read_answer, speaks_tls
from twisted_upload.errors import (
    Busy,
    CouldNotConnect,
    NoSpace,
    NotAllowed,
    NotFound,
    TooLarge,
    Unauthorized,
    UploadError,
    UploadInterrupted,
    UploadRefused,
)
from twisted_upload.version import VERSION

__all__ = ["NotUnderstood", "Response", "error_in", "receive_response", "request_head"]

_LONGEST = 64 * 1024
"""Maximum number of bytes of a response, of all its interim responses too."""

_LONGEST_EXPLANATION = 500

_KINDS: Mapping[int, type[UploadRefused]] = {
    401: Unauthorized,
    403: NotAllowed,
    404: NotFound,
    407: Unauthorized,
    410: NotFound,
    413: TooLarge,
    429: Busy,
    503: Busy,
    507: NoSpace,
}
"""What the statuses of other servers mean: of a proxy, for example."""


class NotUnderstood(CouldNotConnect):
    """What answers there does not speak the protocol, and will not the next time."""

    safe_to_repeat = False


@dataclass(slots=True)
class Response:
    """
    A response.

    :ivar fields: by lower-case name; several of a name are joined by commas.
    :ivar reusable: whether another request can be sent over the connection.
    """

    status: int = 0
    reason: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reusable: bool = False

    def json(self) -> dict[str, Any]:
        """Return the object in the body; an empty one if it is something else."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def number(self, name: str) -> int | None:
        """Return a field that is a number; `None` if it is not there, or is none."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def request_head(
    method: str, target: Target, path: str, fields: Mapping[str, str], length: int | None
) -> bytes:
    """
    Return the head of a request.

    :param length: of its body; `None` if it is chunked.
    :raises ValueError: a field contains a line break.
    """
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: twisted-upload/{VERSION}",
        "Accept: application/json, application/problem+json",
        *(f"{name}: {value}" for name, value in fields.items()),
        "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}",
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a field of the request contains a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class _Parser:
    """Parses one response, after any number of interim ones."""

    def __init__(self, *, without_body: bool) -> None:
        self.response = Response()
        self.complete = False
        self._without_body = without_body
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """:raises CouldNotConnect: this is not HTTP, or too much."""
        self._size += len(data)
        try:
            if self._size > _LONGEST:
                raise NotUnderstood("the server's response is too long")
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.complete:
                return  # whatever follows a response to HEAD
            if speaks_tls(data):
                raise NotUnderstood("the server expects TLS; try https://") from error
            raise NotUnderstood(f"the server does not speak HTTP: {quoted(data)}") from error

    # Called by the parser

    def on_status(self, status: bytes) -> None:
        self.response.reason += status.decode("utf-8", "replace")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("ascii", "replace").lower()
        text = value.decode("utf-8", "replace")
        former = self.response.fields.get(key)
        self.response.fields[key] = text if former is None else f"{former}, {text}"

    def on_headers_complete(self) -> None:
        self.response.status = self._parser.get_status_code()
        self.response.reusable = self._parser.should_keep_alive()
        if self._without_body and self.response.status >= 200:
            self.complete = True

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.response.body += body

    def on_message_complete(self) -> None:
        if self.response.status < 200:
            self.response = Response()
        else:
            self.complete = True


def receive_response(timeout: float, *, without_body: bool = False) -> Conversation[Response]:
    """
    Receive a response.

    :param timeout: seconds between two pieces of it; 0 for no limit.
    :param without_body: it responds to HEAD.
    :raises ConnectionBroken: the connection ended before.
    :raises CouldNotConnect: what was received is not HTTP.
    """
    parser = _Parser(without_body=without_body)
    while not parser.complete:
        data = yield Receive(timeout)
        if not data:
            raise ConnectionBroken("the server closed the connection without a response")
        parser.feed(data)
    return parser.response


def error_in(response: Response) -> UploadError:
    """
    Return the error that a response stands for.

    Its code, and the explanation, are those of the server; of another program between it
    and us only the status is known.
    """
    error = _problem_in(response) or _line_in(response) or _error_of_status(response)
    if isinstance(error, UploadRefused):
        error.retry_after = float(response.number("retry-after") or 0)
    return error


def _problem_in(response: Response) -> UploadRefused | None:
    problem = response.json()
    code, detail = problem.get("code"), problem.get("detail")
    if not isinstance(code, str) or not isinstance(detail, str) or len(code) > 64:
        return None
    explanation = clean_text(detail)[:_LONGEST_EXPLANATION]
    refusal = CODES.get(code, UploadRefused)(explanation)
    refusal.code = clean_text(code)
    return refusal


def _line_in(response: Response) -> UploadRefused | None:
    """Return what a server says that has not read the request, and so not its ``Accept``."""
    answer = read_answer(response.body)
    return answer if isinstance(answer, UploadRefused) else None


def _error_of_status(response: Response) -> UploadError:
    reason = clean_text(response.reason)[:60]
    text = f"the server answered {response.status} {reason}".rstrip()
    kind = _KINDS.get(response.status)
    if kind is not None:
        return kind(text)
    if response.status >= 500:
        return UploadInterrupted(text)  # a proxy whose server is away
    return UploadRefused(text)
