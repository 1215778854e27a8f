"""
An HTTP front end on a real port, clients that send bytes to it, and handlers for tests.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime

from tests.support.frontends import ListeningFrontend, opened
from tests.support.tls_peers import client_context
from tests.support.tls_peers import identity as server_identity
from tests.support.waiting import in_thread
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.http.exchange import Handler, IBodyReader, IExchange
from twisted_upload.frontends.http.factory import HTTPFactory
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.protocol import HTTPConnection
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import UploadSender
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore, Receipt

__all__ = ["HTTPClient", "OpenHTTP", "Reply", "StoredUpload", "open_http", "put", "store_puts"]

OPENING_PIECE = 65536


@dataclass(frozen=True)
class Reply:
    """
    A response, as a client reads it.

    :ivar fields: by lower-case name; repeated ones joined with ``, ``.
    """

    status: int
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        """The content as text."""
        return self.body.decode()

    @property
    def closes(self) -> bool:
        """Whether the server says that it closes the connection."""
        return "close" in self.fields.get("connection", "")


def put(body: bytes = b"", target: str = "/", *lines: str, method: str = "PUT") -> bytes:
    """Return a request with a body of known length; further fields as ``Name: value``."""
    more = "".join(f"{line}\r\n" for line in lines)
    head = f"{method} {target} HTTP/1.1\r\nHost: box.example\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


class HTTPClient:
    """
    A blocking client; what can be awaited is done in a thread.

    :ivar socket: connected.
    """

    def __init__(self, connected: Any) -> None:
        self.socket = connected
        self._unread = bytearray()

    def send(self, *pieces: bytes) -> HTTPClient:
        """Send bytes."""
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def half_close(self) -> HTTPClient:
        """Send no more."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def shake_hands(self) -> None:
        """Speak TLS from now on."""
        self.socket = client_context().wrap_socket(self.socket, server_hostname="127.0.0.1")

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def read_reply(self, method: str = "PUT") -> Reply:
        """
        Read one response; an interim one counts.

        :raises EOFError: the connection has ended before.
        """
        head = self._read_until(b"\r\n\r\n").decode()
        line, _, rest = head.partition("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        fields: dict[str, str] = {}
        for text in rest.split("\r\n"):
            if text:
                name, _, value = text.partition(": ")
                old = fields.get(name.lower())
                fields[name.lower()] = value if old is None else f"{old}, {value}"
        size = 0 if method == "HEAD" else int(fields.get("content-length", "0"))
        return Reply(int(status), fields, self._read(size))

    def at_end(self) -> bool:
        """Wait for the end, and return whether nothing came before it."""
        return self.read_rest() == b""

    def read_rest(self) -> bytes:
        """Read to the end."""
        while self._more():
            pass
        rest, self._unread = self._unread, bytearray()
        return bytes(rest)

    async def ask(self, *pieces: bytes, method: str = "PUT") -> Reply:
        """Send bytes, and read one response, in a thread."""
        return await self.ask_later(*pieces, method=method)

    def ask_later(self, *pieces: bytes, method: str = "PUT") -> Deferred[Reply]:
        """Begin to do what `ask` does."""

        def exchange() -> Reply:
            self.send(*pieces)
            return self.read_reply(method)

        return in_thread(exchange)

    async def reply(self, method: str = "PUT") -> Reply:
        """Read one response, in a thread."""
        return await in_thread(self.read_reply, method)

    async def ends(self) -> bool:
        """Wait for the end in a thread; return whether nothing came before it."""
        return await in_thread(self.at_end)

    def _more(self) -> bool:
        data = self.socket.recv(OPENING_PIECE)
        self._unread += data
        return bool(data)

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._unread:
            if not self._more():
                raise EOFError(f"the connection ended after {self._unread!r}")
        return self._take(self._unread.index(end) + len(end))

    def _read(self, size: int) -> bytes:
        while len(self._unread) < size:
            if not self._more():
                raise EOFError(f"the connection ended after {self._unread!r}")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        found = bytes(self._unread[:size])
        del self._unread[:size]
        return found


class StoredUpload(UploadSender, IBodyReader):
    """
    A body that is stored as one upload, in the simplest way that a handler can do it.

    :param exchange: the request.
    :param splices: whether the connection may lend its socket to the store.
    """

    def __init__(self, exchange: IExchange, *, splices: bool = True) -> None:
        frontend = exchange.frontend
        super().__init__(frontend, frontend.settings, allow_empty=True)
        self._began_at = frontend.clock.seconds()
        self._exchange = exchange
        self._splices = splices
        self._incoming: IIncomingUpload | None = None

    @property
    def peer(self) -> str:
        """See `UploadSender.peer`."""
        return self._exchange.client.peer

    @property
    def connection(self) -> Any:
        """See `UploadSender.connection`."""
        return self._exchange.connection

    def abort(self) -> None:
        """See `UploadSender.abort`."""
        self._exchange.stopProducing()

    def arrival(self) -> Arrival:
        """See `UploadSender.arrival`."""
        return super().arrival()._replace(length=self._exchange.request.length)

    def began(self, incoming: IIncomingUpload) -> None:
        """See `UploadSender.began`."""
        incoming.registerProducer(IPushProducer(self._exchange), True)
        self._incoming = incoming

    def tell_stored(self, receipt: Receipt) -> None:
        """See `UploadSender.tell_stored`."""
        self._answered = True
        self._exchange.respond(Response(201, (), f"{receipt.name}\n".encode()))

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `UploadSender.tell_refused`."""
        self._answered = True
        self._exchange.respond(problem_response(refusal, self._exchange.request.fields))

    # IBodyReader

    @property
    def incoming(self) -> IConsumer | None:
        """See `IBodyReader.incoming`."""
        return self._incoming if self._splices else None

    def received(self, data: bytes) -> None:
        """See `IBodyReader.received`."""
        self._has_come(data)

    def spliced(self, size: int) -> None:
        """See `IBodyReader.spliced`."""
        self.size += size
        self._is_too_large()

    def ended(self, trailers: Mapping[str, str]) -> None:
        """See `IBodyReader.ended`."""
        self._upload.ended()

    def came_whole(self, data: bytes) -> None:
        """See `IBodyReader.came_whole`."""
        self.size = len(data)
        if not self._is_too_large():
            self._upload.came_whole([data])

    def broke_off(self) -> None:
        """See `IBodyReader.broke_off`."""
        self._upload.lost()

    def left(self) -> None:
        """See `IBodyReader.left`."""
        self._upload.lost()

    def refused(self, refusal: UploadRefused) -> None:
        """See `IBodyReader.refused`."""
        self.refuse(refusal)

    def check(self, now: float) -> bool:
        """See `IBodyReader.check`."""
        return not self._answered and self._waits_for_the_store(now)


def store_puts(exchange: IExchange) -> None:
    """Handle a request: the body of a PUT is stored."""
    if exchange.request.method == "PUT":
        exchange.accept_body(StoredUpload(exchange))
    else:
        exchange.respond(Response(200, (), b"hello\n"))


class OpenHTTP(ListeningFrontend[HTTPFactory, HTTPClient]):
    """
    An HTTP front end on a real loopback port.

    :cvar over_tls: whether it speaks TLS.
    """

    over_tls = False

    @property
    def url(self) -> str:
        """The address that it listens on, as a URL without a path."""
        return "http://{}:{}".format(*self.address)

    @property
    def connections(self) -> list[HTTPConnection]:
        """The connections that are being served."""
        return [it for it in self.factory.protocols if isinstance(it, HTTPConnection)]

    def client_of(self, peer: socket.socket) -> HTTPClient:
        """See `ListeningFrontend.client_of`."""
        return HTTPClient(peer)

    async def connect_later(self) -> HTTPClient:
        """Return a client, over TLS if the front end speaks it: the handshake is in a thread."""
        client = self.connect()
        if self.over_tls:
            await in_thread(client.shake_hands)
        return client

    async def ask(self, *pieces: bytes, method: str = "PUT") -> Reply:
        """Send bytes on a new connection, and read one response."""
        client = await self.connect_later()
        return await client.ask(*pieces, method=method)


def open_http(
    settings: HTTPSettings | None = None,
    handler: Handler = store_puts,
    store: IUploadStore | None = None,
    clock: IReactorTime | None = None,
    slots: ConnectionSlots | None = None,
) -> AbstractAsyncContextManager[OpenHTTP]:
    """
    Open an HTTP front end for the duration of a test.

    :param handler: handles the requests; without one, PUT stores its body.
    """
    make = partial(
        HTTPFactory,
        settings=settings,
        handler=handler,
        slots=slots,
        now=lambda: 1_795_328_130.123,
    )
    identity = server_identity() if OpenHTTP.over_tls else None
    return opened(OpenHTTP(make, store, clock, identity))
