"""
A server of tus, and the network to it, as a driver of conversations: no sockets, no clock.

The network breaks where a test says; the server may forget, refuse, or be restarted.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted_upload.client.attempts import Attempt, Attempts
from twisted_upload.client.conversation import (
    Abort,
    Close,
    Connect,
    ConnectionBroken,
    Conversation,
    Read,
    Receive,
    Send,
    SendFrom,
    Sha256,
    Sleep,
)
from twisted_upload.client.http.job import HTTPUpload
from twisted_upload.client.targets import parse_target
from twisted_upload.errors import CouldNotConnect, SourceChanged, UploadError

__all__ = ["Content", "ModelServer", "Network", "job_for"]

T = TypeVar("T")


@dataclass
class Content:
    """Content of a file in memory, which may change."""

    data: bytes
    again: bool = True
    known: bool = True
    changed: bool = False
    position: int = 0

    @property
    def total(self) -> int | None:
        return len(self.data) if self.known else None

    def check(self, size: int) -> None:
        if self.changed or (self.total is not None and size != self.total):
            raise SourceChanged("the file changed while it was being sent")


@dataclass
class _Partial:
    length: int | None
    data: bytes = b""
    stored: str | None = None
    digest: bool = False


@dataclass
class ModelServer:
    """
    A server: `respond` takes a request, and returns a response.

    :ivar stored: the files that it has stored, in order.
    :ivar refusals: responses that come instead of the next ones, by method.
    """

    has_tus: bool = True
    stored: list[bytes] = field(default_factory=list)
    partials: dict[str, _Partial] = field(default_factory=dict)
    refusals: dict[str, list[bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    receipts: bool = True
    closes: bool = False

    def forget(self) -> None:
        """Forget all uploads, as a server does after a time."""
        self.partials.clear()

    def respond(self, head: dict[str, str], body: bytes, *, whole: bool) -> bytes | None:
        """Handle a request; a body that is not whole is one that broke off."""
        method, path = head["method"], head["path"]
        self.requests.append(method)
        response = self._respond(method, path, head, body, whole=whole)
        if method == "HEAD" and response is not None:  # RFC 9110, section 9.3.2
            response = response[: response.index(b"\r\n\r\n") + 4]
        if self.closes and response is not None:
            return response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        return response

    def _respond(
        self, method: str, path: str, head: dict[str, str], body: bytes, *, whole: bool
    ) -> bytes | None:
        if self.refusals.get(method):
            return self.refusals[method].pop(0)
        if not self.has_tus:
            return self._plain(method, body, whole=whole)
        if method == "POST":
            return self._create(head)
        partial = self.partials.get(path)
        if partial is None:
            return problem(404, "not-found")
        if method == "HEAD":
            return self._state(partial, 200)
        if method == "DELETE":
            del self.partials[path]
            return answer(204, {})
        return self._append(partial, head, body, whole=whole)

    def _plain(self, method: str, body: bytes, *, whole: bool) -> bytes | None:
        if method != "PUT":
            return b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
        if not whole:
            return None
        self.stored.append(body)
        told = {"name": f"{len(self.stored)}.bin", "size": len(body), "sha256": None}
        return answer(201, {}, json.dumps(told).encode())

    def _create(self, head: dict[str, str]) -> bytes:
        path = f"/files/{len(self.requests):032x}"
        length = head.get("upload-length")
        digest = "want-repr-digest" in head
        self.partials[path] = _Partial(int(length) if length else None, digest=digest)
        return answer(201, {"Location": f"http://elsewhere.example{path}"})

    def _append(
        self, partial: _Partial, head: dict[str, str], body: bytes, *, whole: bool
    ) -> bytes:
        if int(head["upload-offset"]) != len(partial.data):
            return problem(409, "conflict")
        if "upload-length" in head:
            partial.length = int(head["upload-length"])
        partial.data += body
        if partial.length == len(partial.data) and partial.stored is None:
            self.stored.append(partial.data)
            partial.stored = f"{len(self.stored)}.bin"
        return self._state(partial, 204)

    def _state(self, partial: _Partial, status: int) -> bytes:
        fields = {"Upload-Offset": str(len(partial.data))}
        if partial.length is not None:
            fields["Upload-Length"] = str(partial.length)
        if partial.stored is not None and self.receipts:
            fields["Stored-As"] = partial.stored
            if partial.digest:
                digest = hashlib.sha256(partial.data).digest()
                fields["Repr-Digest"] = f"sha-256=:{b64encode(digest).decode()}:"
        return answer(status, fields)


def answer(status: int, fields: dict[str, str], body: bytes = b"") -> bytes:
    """Return a response of a server with tus."""
    lines = [f"HTTP/1.1 {status} OK", "Tus-Resumable: 1.0.0"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def problem(status: int, code: str) -> bytes:
    """Return an error of our server."""
    body = json.dumps({"code": code, "detail": "no"}).encode()
    return answer(status, {"Content-Type": "application/problem+json"}, body)


@dataclass
class Network:
    """
    A driver whose connections go to a model server.

    :ivar breaks: for each connection: after so many bytes it breaks, and whether that is
        before the answer that is then due; with -2, the answer to its second request is
        lost.  Connections that follow do not break.
    :ivar connections: how many there were.
    :ivar between: called before each connection.
    """

    server: ModelServer
    breaks: Iterator[tuple[int, bool]] = field(default_factory=lambda: iter(()))
    between: Callable[[], object] = lambda: None
    slept: float = 0.0
    _input: bytes = b""
    _output: bytes = b""
    _left: float = float("inf")
    _loses_answer: bool = False
    _requests: int = 0
    _open: bool = False
    connections: int = 0

    def clock(self) -> float:
        """Return the seconds that have passed."""
        return self.slept

    def run(self, conversation: Conversation[T]) -> T:
        """Carry out a conversation."""
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                step = conversation.send if error is None else conversation.throw
                command = step(error or result)
                result = error = None
                try:
                    result = self._do(command)
                except (UploadError, ConnectionBroken) as failure:
                    error = failure
        except StopIteration as end:
            value: T = end.value
            return value

    def _do(self, command: object) -> Any:
        match command:
            case Connect():
                return self._connect()
            case Send(data):
                return self._send(data)
            case SendFrom(Content() as content, offset, size):
                sent = self._send(content.data[offset : offset + size])
                command.moved(offset + sent)
                return sent
            case Read(Content() as content, size):
                piece = content.data[content.position : content.position + size]
                content.position += len(piece)
                return piece
            case Sha256(Content() as content, size):
                return hashlib.sha256(content.data[:size]).hexdigest()
            case Receive():
                return self._receive()
            case Sleep(seconds):
                self.slept += seconds
            case Close() | Abort():
                self._open = False
        return None

    def _connect(self) -> str:
        self.between()
        self.connections += 1
        left, self._loses_answer = next(self.breaks, (float("inf"), False))
        self._requests = min(0, left)  # type: ignore[assignment]
        self._left = float("inf") if left < 0 else left
        self._input = self._output = b""
        self._open = left != 0
        if not self._open:
            raise CouldNotConnect("Connection refused")
        return "192.0.2.1:80"

    def _send(self, data: bytes) -> int:
        if not self._open:
            raise ConnectionBroken("reset")
        passed = data[: int(min(self._left, len(data)))]
        self._left -= len(passed)
        self._input += passed
        if self._left <= 0:
            self._handle(whole=False)
            self._open = False
            # What is in a buffer of the kernel counts as sent, although it never arrives.
            return len(data)
        self._handle(whole=True)
        return len(data)

    def _handle(self, *, whole: bool) -> None:
        while b"\r\n\r\n" in self._input:
            head, _, rest = self._input.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            method, path, _ = first.split(" ")
            fields = {name.lower(): value for name, value in (it.split(": ", 1) for it in lines)}
            if "transfer-encoding" in fields:
                body, complete, rest = _dechunked(rest)
            else:
                length = int(fields["content-length"])
                body, complete, rest = rest[:length], len(rest) >= length, rest[length:]
            if not complete and whole:
                return
            request = {**fields, "method": method, "path": path}
            response = self.server.respond(request, body, whole=complete)
            self._input = rest if complete else b""
            self._requests += 1
            if not self._requests or (response is not None and b"Connection: close" in response):
                self._open = False
            if not self._requests:
                return
            if response is not None and complete and (whole or not self._loses_answer):
                self._output += response

    def _receive(self) -> bytes:
        data, self._output = self._output[:7], self._output[7:]
        if not data and not self._open:
            raise ConnectionBroken("reset")
        assert data, "it would wait for ever"
        return data


def _dechunked(data: bytes) -> tuple[bytes, bool, bytes]:
    """Return a chunked body, whether it is complete, and what follows."""
    body = b""
    while b"\r\n" in data:
        line, _, rest = data.partition(b"\r\n")
        size = int(line, 16)
        if len(rest) < size + 2:
            break
        body, data = body + rest[:size], rest[size + 2 :]
        if not size:
            return body, True, data
    return body, False, b""


def job_for(
    content: Content, network: Network, *, patience: float = 1000.0, **options: Any
) -> tuple[HTTPUpload, list[Attempt]]:
    """Return an upload of some content to a server, and a list of what is told of its attempts."""
    told: list[Attempt] = []
    attempts = Attempts(patience, told.append, clock=network.clock, chance=lambda: 0.5)
    target = parse_target("http://box.example/")
    return HTTPUpload(target, content, attempts, **options), told
