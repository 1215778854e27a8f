"""
A proxy in front of an object store that fails as told.  Which requests fail is decided by
what they do and by their number, never by chance or by time.

Each request is read whole before anything else happens, over real sockets.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.parse import parse_qs, unquote

from tests.support.faults import Exchange, Fault, passed_on

__all__ = ["STEPS", "FaultProxy", "Rule", "Seen", "step_of"]

STEPS = ("put", "begin", "part", "complete", "abort", "tag", "head", "remove", "list", "other")
"""What a request of S3 does."""

_LONGEST_PAUSE = 60.0


class Seen(NamedTuple):
    """A request that has arrived: what it does, and the path of its object or bucket."""

    step: str
    path: str


def step_of(method: str, target: str) -> str:
    """Tell what a request of S3 does."""
    path, _, search = target.partition("?")
    query = parse_qs(search, keep_blank_values=True)
    if "/" not in path.strip("/"):
        return "list" if method == "GET" else "other"
    if "tagging" in query:
        return "tag" if method == "PUT" else "other"
    if "uploadId" in query:
        return {"PUT": "part", "POST": "complete", "DELETE": "abort"}.get(method, "other")
    if "uploads" in query:
        return "begin"
    return {"PUT": "put", "HEAD": "head", "DELETE": "remove"}.get(method, "other")


@dataclass(eq=False)
class Rule:
    """
    Which requests fail, and how.

    :ivar step: what they do, one of `STEPS`; empty for any.
    :ivar fault: what happens to them.
    :ivar first: which of the matching requests is the first that fails, from 1.
    :ivar times: how many fail, one after the other.
    :ivar part: part of the path of the object.
    :ivar matched: how many requests have matched.
    """

    step: str
    fault: Fault
    first: int = 1
    times: float = 1
    part: str = ""
    matched: int = 0

    def applies(self, seen: Seen) -> bool:
        """Count a request; return whether it fails."""
        if (self.step and self.step != seen.step) or self.part not in seen.path:
            return False
        self.matched += 1
        return self.first <= self.matched < self.first + self.times

    @property
    def happened(self) -> int:
        """Return how many requests have failed."""
        return int(max(0, min(self.matched - self.first + 1, self.times)))


class _Requests:
    """Reads requests from a connection."""

    def __init__(self, client: socket.socket, ended: threading.Event) -> None:
        self._client = client
        self._ended = ended
        self._arrived = bytearray()

    def next(self) -> tuple[bytes, bytes]:
        """
        Return the head and the body of the next request; a chunked body as it was sent.

        :raises ConnectionError: there is none.
        """
        head = self._until(b"\r\n\r\n")
        fields = head.lower()
        if b"\r\nexpect:" in fields:
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"\r\ntransfer-encoding:" in fields:
            return head, self._chunks()
        length = re.search(rb"\r\ncontent-length: *(\d+)", fields)
        return head, self._take(int(length[1]) if length else 0)

    def _chunks(self) -> bytes:
        body = b""
        while True:
            line = self._until(b"\r\n")
            body += line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            body += self._take(size + 2)
        while (line := self._until(b"\r\n")) != b"\r\n":
            body += line
        return body + line

    def _until(self, end: bytes) -> bytes:
        while (found := self._arrived.find(end)) < 0:
            self._receive()
        return self._take(found + len(end))

    def _take(self, size: int) -> bytes:
        while len(self._arrived) < size:
            self._receive()
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def _receive(self) -> None:
        self._client.settimeout(0.05)
        while not self._ended.is_set():
            try:
                piece = self._client.recv(1 << 20)
            except TimeoutError:
                continue
            if not piece:
                break
            self._arrived += piece
            self._client.settimeout(_LONGEST_PAUSE)
            return
        raise ConnectionError


class FaultProxy:
    """
    Passes requests on to an object store, in a ``with`` block.

    :param port: of the object store, on 127.0.0.1.
    :param host: the address to listen on.
    :ivar endpoint: the address for clients.
    :ivar seen: all requests, in the order in which they arrived.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._port = port
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), backlog=128)
        self.endpoint = f"http://{host}:{self._listener.getsockname()[1]}"
        self.seen: list[Seen] = []

    def script(self, *rules: Rule) -> None:
        """From now on, these rules apply, and no others; the first that matches decides."""
        with self._lock:
            self._rules = [*rules]
            self.seen = []

    @contextlib.contextmanager
    def failing(self, *rules: Rule) -> Iterator[None]:
        """These rules apply too, in a ``with`` block."""
        with self._lock:
            self._rules += rules
        try:
            yield
        finally:
            with self._lock:
                self._rules = [rule for rule in self._rules if rule not in rules]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # it wakes the thread, as close does not
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                client, _ = self._listener.accept()
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """Serve one connection."""
        requests = _Requests(client, self._ended)
        with client, contextlib.suppress(OSError):
            while True:
                head, body = requests.next()
                exchange = Exchange(client, head, body, self._port, self._ended)
                if not self._fault_for(exchange)(exchange):
                    return

    def _fault_for(self, exchange: Exchange) -> Fault:
        method, target, _ = exchange.head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        seen = Seen(step_of(method, target), unquote(target.partition("?")[0]))
        with self._lock:
            self.seen.append(seen)
            for rule in self._rules:
                if rule.applies(seen):
                    return rule.fault
        return passed_on
