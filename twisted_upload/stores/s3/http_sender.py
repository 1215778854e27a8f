"""
Sends the requests of botocore.

What botocore would send with has a timeout for each byte, but none for an answer, and reads
answers of any size.  Here, a request with its answer has a deadline, and an answer a largest
size, whatever the other end does.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from twisted_upload.stores.s3.attempts import (
    CONNECT_TIMEOUT,
    answer_timeout,
)
from twisted_upload.stores.s3.content import CHUNK, Body

__all__ = ["MOST_IDLE", "NOT_TRUSTED", "HttpSender", "IRequest", "SendFailed"]

NOT_TRUSTED = (
    "the certificate of the object store is not trusted: set AWS_CA_BUNDLE to the file of its CA"
)

MOST_IDLE = 64
"""Connections to one address that are kept for further requests."""

LARGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer; a list of 1,000 uploads has 2 MiB at most."""

# What botocore asks for before it sends a body; here, the body is sent at once.
_NOT_SENT = {"expect", "host"}

_Address = tuple[str, str, int]


class IRequest(Protocol):
    """A request, as botocore has prepared and signed it."""

    method: str
    url: str
    headers: Any
    body: Any


class SendFailed(Exception):
    """
    A request has no usable answer.

    :ivar why: for the text of an error.
    :ivar lost: whether it may have been carried out.
    :ivar status: the status of an answer that means something else than botocore thinks.
    """

    def __init__(self, why: str, *, lost: bool = True, status: int = 0) -> None:
        super().__init__(why)
        self.why = why
        self.lost = lost
        self.status = status


class HttpSender:
    """
    Sends requests, each from a thread, and keeps connections open for the next ones.

    :param context: the TLS context.
    :param patience: seconds for an answer, instead of those that are usual.
    :param now: returns the time in seconds since an arbitrary moment.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        patience: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._patience = patience
        self._now = now
        self._idle: defaultdict[_Address, list[_Connection]] = defaultdict(list)
        self._lock = threading.Lock()

    def send(self, request: IRequest) -> tuple[int, dict[str, str], bytes]:
        """
        Send a request, and return status, headers and body of its answer.

        :raises SendFailed: there was no complete answer in time.
        """
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        size = len(body) if hasattr(body, "__len__") else int(request.headers["Content-Length"])
        deadline = self._now() + answer_timeout(size, self._patience)
        url = urlsplit(request.url)
        secure = url.scheme == "https"
        address = (url.scheme, url.hostname or "", url.port or (443 if secure else 80))
        head = _head(request, url.netloc, size)
        connection = self._connection(address, deadline)
        try:
            answer = connection.ask(head, body, request.method)
        except BaseException as error:
            connection.close()
            if isinstance(error, (OSError, http.client.HTTPException)):
                raise SendFailed(_why(error)) from None
            raise
        if connection.reusable:
            self._keep(address, connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            idle = [it for connections in self._idle.values() for it in connections]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _connection(self, address: _Address, deadline: float) -> _Connection:
        while True:
            with self._lock:
                idle = self._idle[address]
                connection = idle.pop() if idle else None
            if connection is None:
                return self._connect(address, deadline)
            if connection.is_usable():
                connection.deadline = deadline
                return connection
            connection.close()

    def _connect(self, address: _Address, deadline: float) -> _Connection:
        scheme, host, port = address
        try:
            raw = socket.create_connection((host, port), CONNECT_TIMEOUT)
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if scheme == "https":
                    raw = self._context.wrap_socket(raw, server_hostname=host)
            except BaseException:
                raw.close()
                raise
        except ssl.SSLCertVerificationError:
            raise SendFailed(NOT_TRUSTED, lost=False) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SendFailed(f"no connection to {host}:{port} ({why})", lost=False) from None
        return _Connection(raw, deadline, self._now)

    def _keep(self, address: _Address, connection: _Connection) -> None:
        with self._lock:
            idle = self._idle[address]
            if len(idle) < MOST_IDLE:
                idle.append(connection)
                return
        connection.close()


class _Connection:
    """
    A connection, and the file that its answers are read from.

    :ivar deadline: when everything that is being waited for must be over.
    :ivar reusable: whether the last answer was read whole, and another may follow.
    """

    def __init__(self, raw: socket.socket, deadline: float, now: Callable[[], float]) -> None:
        self.deadline = deadline
        self.reusable = False
        self._raw = raw
        self._now = now

    def ask(self, head: bytes, body: Any, method: str) -> tuple[int, dict[str, str], bytes]:
        self.reusable = False
        try:
            self._send(head)
            for chunk in _chunks(body):
                self._send(chunk)
        except (BrokenPipeError, ConnectionResetError) as error:
            # It may have answered before it had everything.
            try:
                status, headers, content = self._answer(method)
            except (OSError, http.client.HTTPException):
                raise error from None
            self.reusable = False
            if status < 300:  # it cannot have what was not sent
                raise
            return status, headers, content
        return self._answer(method)

    def is_usable(self) -> bool:
        """Return whether the other end has neither closed it nor sent anything."""
        poll = select.poll()
        poll.register(self._raw, select.POLLIN)
        return not poll.poll(0)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what `http.client` reads from; it may close that."""
        return _Lines(_Reading(self))

    def receive(self, buffer: Any) -> int:
        self._raw.settimeout(self._left())
        return self._raw.recv_into(buffer)

    def close(self) -> None:
        self._raw.close()

    def _send(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        while view:
            self._raw.settimeout(self._left())
            view = view[self._raw.send(view) :]

    def _left(self) -> float:
        left = self.deadline - self._now()
        if left <= 0:
            raise TimeoutError
        return left

    def _answer(self, method: str) -> tuple[int, dict[str, str], bytes]:
        response = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            content = _content(response)
            headers = {name.lower(): value for name, value in response.getheaders()}
        finally:
            response.close()
        self.reusable = not response.will_close
        return response.status, headers, content


class _Reading(io.RawIOBase):
    """What an answer is read from; closing it leaves the connection open."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__()
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.receive(buffer)


class _Lines(io.BufferedReader):
    """A file in which every line ends: `http.client` takes the half of a head for all of it."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise http.client.IncompleteRead(b"")
        return line


def _why(error: Exception) -> str:
    """Return why there is no answer."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException):
        return "unusable answer"
    return "the connection was lost"


def _content(response: http.client.HTTPResponse) -> bytes:
    """Return the body of an answer."""
    parts: list[bytes] = []
    size = 0
    while part := response.read(CHUNK):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise http.client.HTTPException("too large")
    if response.length:
        raise http.client.IncompleteRead(b"")
    return b"".join(parts)


def _chunks(body: Any) -> Iterator[Any]:
    """Yield a body that is bytes or a file, from its beginning."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        yield body
    elif isinstance(body, Body):
        yield from body.chunks()
    else:
        body.seek(0)
        while chunk := body.read(CHUNK):
            yield chunk


def _head(request: IRequest, host: str, size: int) -> bytes:
    """Return the head of a request."""
    url = urlsplit(request.url)
    target = url.path or "/"
    if url.query:
        target = f"{target}?{url.query}"
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {host.rpartition('@')[2]}"]
    sized = False
    for name, value in request.headers.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if name.lower() in _NOT_SENT:
            continue
        sized = sized or name.lower() == "content-length"
        lines.append(f"{name}: {text}")
    if not sized and (size or request.method in {"POST", "PUT"}):
        lines.append(f"Content-Length: {size}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header of a request has more than one line")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
