"""
Sending requests: within a deadline, with connections that are used again, whatever the other
end does.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from twisted_upload.stores.s3.content import Body, Pieces
from twisted_upload.stores.s3.http_sender import LARGEST_ANSWER, HttpSender, SendFailed

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE = 0.5


class Request:
    """A request, as botocore has them."""

    def __init__(self, endpoint: str, body: object = None, method: str = "PUT") -> None:
        self.method = method
        self.url = f"{endpoint}/bucket/key?uploads"
        self.headers: dict[str, Any] = {"X-Amz-Date": b"now", "Expect": "100-continue"}
        self.body = body


class Peer:
    """
    A server whose connections are served as told, one after the other.

    :ivar requests: what has been received.
    """

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def serve(self, *connections: Callable[[socket.socket], None]) -> None:
        def run() -> None:
            for serve in connections:
                connection, _ = self.listener.accept()
                with connection:
                    try:
                        serve(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def receive(self, connection: socket.socket, body: int = 0) -> None:
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < body:
            piece = connection.recv(1 << 20)
            if not piece:
                raise OSError
            data += piece
        self.requests.append(data)

    def answering(self, *answers: bytes, body: int = 0) -> Callable[[socket.socket], None]:
        def serve(connection: socket.socket) -> None:
            for answer in answers:
                self.receive(connection, body)
                connection.sendall(answer)

        return serve

    def end(self) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(10)
        self.listener.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.end()


@pytest.fixture
def sender() -> Iterator[HttpSender]:
    sender = HttpSender(ssl.create_default_context(), PATIENCE)
    yield sender
    sender.close()


def test_request(peer: Peer, sender: HttpSender) -> None:
    """A request is sent as it was signed, with its length, and without Expect."""
    peer.serve(peer.answering(OK, body=4))
    assert sender.send(Request(peer.endpoint, b"body")) == (200, {"content-length": "2"}, b"ok")
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    host = peer.endpoint.removeprefix("http://").encode()
    assert head.split(b"\r\n") == [
        b"PUT /bucket/key?uploads HTTP/1.1",
        b"Host: " + host,
        b"X-Amz-Date: now",
        b"Content-Length: 4",
    ]
    assert body == b"body"


@pytest.mark.parametrize("body", [b"content", bytearray(b"content"), "content"])
def test_bodies(peer: Peer, sender: HttpSender, body: object) -> None:
    """A body is sent from its beginning, of whatever kind it is."""
    peer.serve(peer.answering(OK, OK, body=7))
    pieces = Pieces([b"con", b"tent"])
    pieces.seek(2)
    for each in body, pieces:
        sender.send(Request(peer.endpoint, each))
    assert [it.partition(b"\r\n\r\n")[2] for it in peer.requests] == [b"content"] * 2


def test_used_again(peer: Peer, sender: HttpSender) -> None:
    """A connection is used for the next request; one that was closed is not."""
    peer.serve(peer.answering(OK, OK), peer.answering(OK))
    for _ in range(2):
        sender.send(Request(peer.endpoint))
    time.sleep(0.05)  # for the peer's close to arrive
    sender.send(Request(peer.endpoint))
    assert len(peer.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_answers(peer: Peer, sender: HttpSender, answer: bytes) -> None:
    """An answer is read whole, however its end is told; then the next request is sent."""
    serve = peer.answering(answer)
    peer.serve(serve, serve)
    for _ in range(2):
        assert sender.send(Request(peer.endpoint))[::2] == (200, b"ok")
        sender.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "unusable answer|the connection was lost"),
        (b"HTTP/1.1 200", "unusable answer"),
        (b"HTTP/1.1 200 OK\r\nETag: x\r\n", "unusable answer"),
        (b"HTTP/1.1 200 OK\r\nETag: x", "unusable answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "unusable answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "unusable answer"),
        (b"no HTTP\r\n\r\n", "unusable answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "unusable answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LARGEST_ANSWER + 1), "unusable answer"),
    ],
)
def test_unusable(peer: Peer, sender: HttpSender, answer: bytes, why: str) -> None:
    """Half an answer, one that is none, and one that is too large, are no answer."""
    peer.serve(peer.answering(answer))
    with pytest.raises(SendFailed, match=why) as failed:
        sender.send(Request(peer.endpoint))
    assert failed.value.lost


@pytest.mark.parametrize("drip", [b"", b"x", b"X-Header: y\r\n"])
def test_deadline(peer: Peer, sender: HttpSender, drip: bytes) -> None:
    """An answer has a deadline, also if some bytes of it arrive all the time."""

    def serve(connection: socket.socket) -> None:
        peer.receive(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" if drip else b"")
        while not peer.ended.wait(0.02):
            connection.sendall(drip)

    peer.serve(serve)
    began = time.monotonic()
    with pytest.raises(SendFailed, match=r"no answer in time|unusable answer"):
        sender.send(Request(peer.endpoint))
    assert time.monotonic() - began < 20 * PATIENCE
    peer.ended.set()


def test_nothing_is_read(peer: Peer, sender: HttpSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that reads nothing is left after the deadline."""

    def serve(connection: socket.socket) -> None:
        peer.ended.wait(20)

    peer.serve(serve)
    monkeypatch.setattr("twisted_upload.stores.s3.attempts.SLOWEST", 1 << 30)
    with pytest.raises(SendFailed, match="no answer in time"):
        sender.send(Request(peer.endpoint, Pieces([bytes(1 << 20)] * 16)))
    peer.ended.set()


@pytest.mark.parametrize("status", [403, 200])
def test_early_answer(peer: Peer, sender: HttpSender, status: int) -> None:
    """A refusal that arrives before everything is sent is told; a success cannot be one."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)  # for it to arrive before the reset

    peer.serve(serve)
    request = Request(peer.endpoint, Pieces([bytes(1 << 20)] * 32))
    try:
        found = sender.send(request)[0]
    except SendFailed:
        found = 0  # it was overtaken by the reset
    assert found in ({0, 403} if status == 403 else {0})


def test_reset(peer: Peer, sender: HttpSender) -> None:
    """A connection that is reset is told as lost."""

    def serve(connection: socket.socket) -> None:
        peer.receive(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    peer.serve(serve)
    with pytest.raises(SendFailed, match="the connection was lost") as failed:
        sender.send(Request(peer.endpoint))
    assert failed.value.lost


def test_no_connection(sender: HttpSender) -> None:
    """What was not sent was not carried out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(SendFailed, match=r"no connection to 127\.0\.0\.1:") as failed:
        sender.send(Request(endpoint))
    assert not failed.value.lost


def test_headers_of_one_line(peer: Peer, sender: HttpSender) -> None:
    """A header that would be two is not sent."""
    peer.serve(peer.answering(OK))
    request = Request(peer.endpoint)
    request.headers["X-Amz-Meta-Name"] = "a\r\nX-Amz-Acl: public-read"
    with pytest.raises(ValueError, match="more than one line"):
        sender.send(request)
    sender.send(Request(peer.endpoint))
    assert len(peer.requests) <= 1


def test_unreadable_body(peer: Peer, sender: HttpSender) -> None:
    """A body that cannot be read is no fault of the peer."""

    class Broken(Body):
        def _read(self, offset: int, size: int) -> bytes:
            raise ZeroDivisionError

    peer.serve(lambda connection: None)
    with pytest.raises(ZeroDivisionError):
        sender.send(Request(peer.endpoint, Broken(1)))
