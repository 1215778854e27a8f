"""Asks an HTTP server what it is, and whether it would store a file: one request each."""

from __future__ import annotations

import io
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, NoReturn, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_upload.client.targets import Target
from twisted_upload.core.answers import (
    FAILURE,
    SUCCESS,
    StoredAnswer,
    quoted,
    read_answer,
    speaks_tls,
)
from twisted_upload.core.text import format_duration
from twisted_upload.errors import CouldNotConnect, OutcomeUnknown, UploadRefused, UploadTimedOut
from twisted_upload.interfaces import Receipt

__all__ = ["HttpAnswer", "ask_http", "exchange"]

_LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """
    A response.

    :ivar fields: with names in lower case.
    """

    status: int
    reason: str
    fields: Mapping[str, str]
    body: bytes


async def ask_http(
    exchange: Callable[[bytes], Awaitable[bytes]],
    to: Target,
    token: str | None,
    content: bytes,
    found: Callable[[HttpAnswer], object],
) -> Receipt:
    """
    Ask which uploads the server takes; if it takes them as ours does, send it a file.

    :param exchange: sends a request over a new connection, and returns the response.
    :param found: called with its first response.
    :raises UploadError: the file is not known to be stored.
    """

    async def asked(method: str, path: str, body: bytes | None = None) -> HttpAnswer:
        request = _request(to, token, method, path, body)
        return _parsed(await exchange(request), to)

    options = await asked("OPTIONS", f"{to.path}files/")
    found(options)
    if "tus-version" not in options.fields:
        raise OutcomeUnknown(
            f"it is an HTTP server, but not one for uploads: it answered {options.status}"
            f" {options.reason} to OPTIONS {to.path}files/"
        )
    arrived = time.time()
    answer = await asked("PUT", f"{to.path}ping.txt" if content else to.path, content)
    known = read_answer(answer.body, SUCCESS)
    if isinstance(known, UploadRefused):
        raise known
    if answer.status // 100 == 2 and isinstance(known, StoredAnswer):
        peer = to.address
        return Receipt(known.name, len(content), known.sha256, peer, arrived, time.time())
    raise OutcomeUnknown(f"it answered {answer.status} {answer.reason}: {quoted(answer.body)}")


def _request(to: Target, token: str | None, method: str, path: str, body: bytes | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {to.authority}", "Connection: close"]
    lines += ["Accept: text/plain", "User-Agent: twisted-upload"]
    if token is not None and method != "OPTIONS":
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


class _Exchange(Protocol):
    """
    One request and its response.

    :ivar answer: fires with the response.
    """

    transport: Any

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self.answer: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        # A raw server would take the request for a file, unless the connection is reset.
        handle = self.transport.getHandle()
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _LONGEST or not b"HTTP/1.".startswith(self._received[:7]):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.callback(self._received)


def exchange(
    endpoint: IStreamClientEndpoint, request: bytes, reactor: Any, timeout: float
) -> Deferred[bytes]:
    """
    Send a request over a new connection.

    :param timeout: seconds for the connection; 0 for no limit.
    :return: fires with what the server has sent, when it has closed the connection.  Fails
        with `CouldNotConnect` or `UploadTimedOut`.
    """
    protocol = _Exchange(request)

    def failed(failure: Failure) -> NoReturn:
        if failure.check(CouldNotConnect, UploadTimedOut, CancelledError) is not None:
            failure.raiseException()
        raise CouldNotConnect(failure.getErrorMessage().strip().rstrip(".")) from failure.value

    def too_late(_: object, seconds: float) -> NoReturn:
        raise UploadTimedOut(f"no connection within {format_duration(seconds)}")

    connecting: Deferred[Any] = connectProtocol(endpoint, protocol)
    if timeout > 0:
        connecting.addTimeout(timeout, reactor, too_late)
    return connecting.addCallbacks(lambda _: protocol.answer, failed)


class _Socket:
    """What `HTTPResponse` reads from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._content)


def _parsed(received: bytes, to: Target) -> HttpAnswer:
    if received.startswith(FAILURE.encode()):
        raise CouldNotConnect(f"it is a raw server: write {to.address} without {to.scheme}://")
    if speaks_tls(received) or b"HTTPS" in received[:_LONGEST].upper().split(b"\r\n\r\n", 1)[-1]:
        raise CouldNotConnect(f"the server expects TLS: write https://{to.authority}{to.path}")
    if not received:
        raise OutcomeUnknown("the server closed the connection without an answer")
    response = HTTPResponse(cast(Any, _Socket(received)))
    try:
        response.begin()
        body = response.read()
    except (HTTPException, ValueError, OSError) as error:
        raise OutcomeUnknown(f"it does not speak HTTP: it answered {quoted(received)}") from error
    fields = {name.lower(): value for name, value in response.getheaders()}
    return HttpAnswer(response.status, response.reason, fields, body)
