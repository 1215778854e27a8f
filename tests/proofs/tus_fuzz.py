"""
A tus client for the fuzz of the HTTP front end: it sends one upload in pieces, each over
another connection, which breaks in every way.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time

from tests.proofs.http_reference import read_statuses
from tests.support.daemon import PATIENCE
from tests.support.senders import reset

__all__ = ["TusClient", "read_what_comes"]

TUS = b"Tus-Resumable: 1.0.0"


class TusClient:
    """
    One upload.

    :param content: what is uploaded.
    :ivar path: of the upload.
    :ivar acknowledged: the offset that the server has told last.
    :ivar sent: bytes of the content that may have arrived.
    :ivar wrong: the broken promises found.
    """

    def __init__(self, address: tuple[str, int], chance: random.Random, content: bytes) -> None:
        self.address = address
        self.content = content
        self.path = b""
        self.acknowledged = 0
        self.sent = 0
        self.wrong: list[str] = []
        self._chance = chance

    def run(self) -> bool:
        """Upload, and return whether it has been acknowledged."""
        chance = self._chance
        status, fields = self.request(
            b"POST", b"/files/", b"Upload-Length: %d" % len(self.content), b"Content-Length: 0"
        )
        if status != 201:
            self.wrong.append(f"tus: created with {status}")
            return False
        self.path = b"/" + fields[b"location"].split(b"/", 3)[3]
        while self.acknowledged < len(self.content):
            chance.choice((self.piece, self.piece, self.broken, self.false, self.overtaken))()
            if self.wrong:
                return False
            self.find()
        return True

    def remove(self) -> None:
        """Terminate it: nothing of it remains."""
        status, _ = self.request(b"DELETE", self.path)
        if status != 204 or self.request(b"HEAD", self.path)[0] != 404:
            self.wrong.append(f"tus: removed with {status}")

    def find(self) -> None:
        """Ask for the offset: it never goes back, and never beyond what was sent."""
        status, fields = self.request(b"HEAD", self.path)
        offset = int(fields.get(b"upload-offset", b"-1"))
        if status != 200 or not self.acknowledged <= offset <= self.sent:
            self.wrong.append(
                f"tus: {status}, offset {offset}, not {self.acknowledged} to {self.sent}"
            )
        self.acknowledged = max(offset, self.acknowledged)

    def patch(self, piece: bytes, *fields: bytes, length: int | None = None) -> bytes:
        """Return a request that appends a piece."""
        return (
            self.head(
                *(b"PATCH", self.path, b"Upload-Offset: %d" % self.acknowledged),
                b"Content-Type: application/offset+octet-stream",
                b"Content-Length: %d" % (len(piece) if length is None else length),
                *fields,
            )
            + piece
        )

    def next_piece(self) -> bytes:
        """Return the next bytes of the content, of any number."""
        left = self.content[self.acknowledged :]
        return left[: self._chance.choice((1, 100, 70_000, len(left), len(left)))]

    # What may happen

    def piece(self) -> None:
        """Append a piece."""
        piece = self.next_piece()
        self.sent = max(self.sent, self.acknowledged + len(piece))
        status, fields = self.exchange(self.patch(piece), b"PATCH")
        offset = int(fields.get(b"upload-offset", b"-1"))
        if status == 409 and self.acknowledged < offset <= self.sent:
            return  # what a connection that has broken had sent arrived after all
        if (status, offset) != (204, self.acknowledged + len(piece)):
            self.wrong.append(f"tus: {status}, offset {offset} after a piece")
            return
        self.acknowledged = offset

    def broken(self) -> None:
        """Break off in the middle of a piece."""
        piece = self.next_piece()
        self.sent = max(self.sent, self.acknowledged + len(piece))
        data = self.patch(piece)
        data = data[: self._chance.randrange(len(data))]
        with self.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(data)
            if self._chance.random() < 0.5:
                reset(client)
            elif self._chance.random() < 0.5:
                client.shutdown(socket.SHUT_WR)
                read_what_comes(client)

    def false(self) -> None:
        """Send what must change nothing."""
        piece = b"false"
        path, self.path = self.path, self._chance.choice((self.path, self.path + b"0", b"/files/"))
        before, self.acknowledged = self.acknowledged, self.acknowledged + 1
        status, _ = self.exchange(self.patch(piece), b"PATCH")
        if status not in (400, 404, 405, 409, 413):
            self.wrong.append(f"tus: {status} for a false request")
        self.path, self.acknowledged = path, before

    def overtaken(self) -> None:
        """Begin a piece, and leave the connection as it is: others take over."""
        piece = self.next_piece()
        self.sent = max(self.sent, self.acknowledged + len(piece))
        with self.connect() as client:
            client.sendall(self.patch(piece[:-1], length=len(piece)))
            if self._chance.random() < 0.5:
                time.sleep(self._chance.random() / 50)
            self.find()

    # How

    def head(self, method: bytes, path: bytes, *fields: bytes) -> bytes:
        """Return the head of a request."""
        lines = [method + b" " + path + b" HTTP/1.1", b"Host: box:80", TUS, *fields, b"", b""]
        return b"\r\n".join(lines)

    def connect(self) -> socket.socket:
        """Connect."""
        return socket.create_connection(self.address, PATIENCE)

    def request(self, method: bytes, path: bytes, *fields: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Send a request without a body, and return the status and fields of the response."""
        return self.exchange(self.head(method, path, *fields), method)

    def exchange(self, data: bytes, method: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Send a request, and return the status and fields of the response."""
        with self.connect() as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            heard = read_what_comes(client)
        statuses = read_statuses(heard, [method.decode()])
        head = heard.partition(b"\r\n\r\n")[0]
        pairs = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
        return (statuses or [0])[0], {name.lower(): value for name, _, value in pairs}


def read_what_comes(client: socket.socket) -> bytes:
    """Read to the end, a reset or the timeout of the socket."""
    heard = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := client.recv(65536):
            heard += piece
    return heard
