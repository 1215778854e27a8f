"""
What a `FaultProxy` can do to a request.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

__all__ = ["FAULTS", "Exchange", "Fault", "delayed", "passed_on", "refused", "refused_after"]

_ENGINE_TIMEOUT = 60.0
_PIECE = 64 * 1024


class Exchange:
    """
    One request that is to fail, and what can be done with it.

    :ivar head: the head of the request, with its empty line.
    :ivar body: its body.
    :ivar ended: set when the proxy ends: nothing may wait longer.
    """

    def __init__(
        self, client: socket.socket, head: bytes, body: bytes, port: int, ended: threading.Event
    ) -> None:
        self.client = client
        self.head = head
        self.body = body
        self.ended = ended
        self._port = port

    def pass_on(self) -> bytes:
        """Let the engine answer, and return the whole answer."""
        lines = self.head[:-4].split(b"\r\n")
        dropped = (b"expect:", b"connection:")
        lines = [line for line in lines if not line.lower().startswith(dropped)]
        head = b"\r\n".join([*lines, b"Connection: close", b"", b""])
        with socket.create_connection(("127.0.0.1", self._port), _ENGINE_TIMEOUT) as engine:
            engine.sendall(head)
            engine.sendall(self.body)
            answer = b"".join(iter(lambda: engine.recv(1 << 20), b""))
        head, end, body = answer.partition(b"\r\n\r\n")
        kept = [it for it in head.split(b"\r\n") if not it.lower().startswith(b"connection:")]
        return b"\r\n".join(kept) + end + body

    def send(self, data: bytes) -> None:
        """Send something to the client."""
        self.client.sendall(data)

    def reset(self) -> None:
        """Reset the connection of the client."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()

    def until_it_hangs_up(self) -> None:
        """Wait until the client has closed its connection, or the proxy ends."""
        self.client.settimeout(0.05)
        while not self.ended.is_set():
            try:
                if not self.client.recv(_PIECE):
                    return
            except TimeoutError:
                continue


Fault = Callable[[Exchange], bool]
"""What happens to a request.  It returns whether the connection can be used for another."""


def passed_on(exchange: Exchange) -> bool:
    """The request is carried out, and its answer arrives."""
    exchange.send(exchange.pass_on())
    return True


def delayed(seconds: float) -> Fault:
    """The request is passed on after a delay."""

    def happen(exchange: Exchange) -> bool:
        exchange.ended.wait(seconds)
        exchange.send(exchange.pass_on())
        return True

    return happen


def stalled(exchange: Exchange) -> bool:
    """The request is not passed on, and never answered."""
    exchange.until_it_hangs_up()
    return False


def stalled_after(exchange: Exchange) -> bool:
    """The request is carried out, and never answered."""
    exchange.pass_on()
    return stalled(exchange)


def reset_before(exchange: Exchange) -> bool:
    """The connection is reset; the engine never sees the request."""
    exchange.reset()
    return False


def reset_after(exchange: Exchange) -> bool:
    """The request is carried out; the connection is reset before its answer."""
    exchange.pass_on()
    exchange.reset()
    return False


def refused(status: int, code: str) -> Fault:
    """The request is answered with an error; the engine never sees it."""

    def happen(exchange: Exchange) -> bool:
        exchange.send(_error(status, code, exchange))
        return True

    return happen


def refused_after(status: int, code: str) -> Fault:
    """The request is carried out, and answered with an error."""

    def happen(exchange: Exchange) -> bool:
        exchange.pass_on()
        exchange.send(_error(status, code, exchange))
        return True

    return happen


def truncated(exchange: Exchange) -> bool:
    """The request is carried out; of its answer, only the first half arrives."""
    answer = exchange.pass_on()
    exchange.send(answer[: len(answer) // 2])
    return False


def endless(exchange: Exchange) -> bool:
    """The request is carried out; the body of the answer never ends."""
    exchange.pass_on()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n<?xml?>")
    return _fill(exchange, b" " * _PIECE, 0)


def endless_slowly(exchange: Exchange) -> bool:
    """The same, a few bytes at a time: no single wait for bytes is long."""
    exchange.pass_on()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n<?xml?>")
    return _fill(exchange, b" ", 0.02)


def endless_head(exchange: Exchange) -> bool:
    """The request is carried out; the head of the answer never ends."""
    exchange.pass_on()
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    return _fill(exchange, b"X-Padding: " + b"x" * 1000 + b"\r\n", 0)


def error_in_200(exchange: Exchange) -> bool:
    """The answer has the status 200, and an error in its body; the engine never sees it."""
    exchange.send(_error(200, "InternalError", exchange))
    return True


def error_in_200_after(exchange: Exchange) -> bool:
    """The same, but the request is carried out."""
    exchange.pass_on()
    return error_in_200(exchange)


def garbage(exchange: Exchange) -> bool:
    """The answer has the status 200, and is not that of an object store."""
    page = b"<html>Please log in to the network.</html>"
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
    return True


def flipped(exchange: Exchange) -> bool:
    """One bit of the body of the request is changed on the way to the engine."""
    if exchange.body:
        middle = len(exchange.body) // 2
        flip = bytes([exchange.body[middle] ^ 1])
        exchange.body = exchange.body[:middle] + flip + exchange.body[middle + 1 :]
    exchange.send(exchange.pass_on())
    return True


FAULTS: dict[str, Fault] = {
    "stalled": stalled,
    "stalled-after": stalled_after,
    "reset-before": reset_before,
    "reset-after": reset_after,
    "500": refused(500, "InternalError"),
    "500-after": refused_after(500, "InternalError"),
    "503": refused(503, "SlowDown"),
    "503-after": refused_after(503, "SlowDown"),
    "409": refused(409, "ConditionalRequestConflict"),
    "403": refused(403, "AccessDenied"),
    "truncated": truncated,
    "endless": endless,
    "endless-slowly": endless_slowly,
    "endless-head": endless_head,
    "error-in-200": error_in_200,
    "error-in-200-after": error_in_200_after,
    "garbage": garbage,
    "flipped": flipped,
}
"""Every fault that needs no arguments."""


def _error(status: int, code: str, exchange: Exchange) -> bytes:
    """Return an error as S3 has them; the answer to HEAD has no body."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a test</Message></Error>"
    fields = f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    head = f"HTTP/1.1 {status} Fault\r\n{fields}"
    return (head if exchange.head.startswith(b"HEAD ") else head + body).encode()


def _fill(exchange: Exchange, data: bytes, seconds: float) -> bool:
    """Send something until the client hangs up."""
    with contextlib.suppress(OSError):
        while not exchange.ended.wait(seconds):
            exchange.send(data)
    return False
