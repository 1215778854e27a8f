"""
An HTTP front end on a real port, clients that send bytes to it, and handlers for tests.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from tests.support.frontends import LoggedEnds
from tests.support.tls_peers import client_context
from tests.support.tls_peers import identity as server_identity
from tests.support.waiting import PATIENCE, in_thread, reactor, until
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
from twisted_upload.net.ports import wait_in_shortage
from twisted_upload.net.tls.endpoints import TLSServerFactory
from twisted_upload.net.transport import read_eagerly
from twisted_upload.stores.memory import MemoryStore

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


class OpenHTTP:
    """
    An HTTP front end on a real loopback port.

    :ivar clock: of the front end, and of nothing else.
    :ivar store: stores the uploads, unless another store was given.
    :ivar log: what it has logged.
    :cvar eager: whether its connections read at once what is there, as the daemon's do.
    :cvar over_tls: whether it speaks TLS.
    :param handler: handles the requests; without one, PUT stores its body.
    """

    eager = True
    over_tls = False

    def __init__(
        self,
        settings: HTTPSettings,
        handler: Handler | None = None,
        store: IUploadStore | None = None,
        clock: IReactorTime | None = None,
        slots: ConnectionSlots | None = None,
    ) -> None:
        identity = server_identity() if self.over_tls else None
        self.clock = Clock()
        self.store = MemoryStore(lambda: 1_795_328_130.123, suffix=lambda _: ".bin")
        self.log = LoggedEnds()
        self.factory = HTTPFactory(
            store or self.store,
            clock or self.clock,
            settings,
            handler=handler or store_puts,
            slots=slots,
            now=lambda: 1_795_328_130.123,
        )
        outer: Any = self.factory
        if identity is not None:
            outer = TLSServerFactory(outer, clock or self.clock, identity)
        self.port: Any = reactor.listenTCP(0, outer, 4096, "127.0.0.1")
        self._identity = identity
        self._prepare(self.port)
        self._clients: list[HTTPClient] = []

    def _prepare(self, port: Any) -> None:
        if self._identity is None and self.eager:
            wait_in_shortage(port, reactor)
            read_eagerly(port)

    @property
    def address(self) -> tuple[str, int]:
        """The address that it listens on."""
        return "127.0.0.1", self.port.getHost().port

    @property
    def url(self) -> str:
        """The same, as a URL without a path."""
        return "http://{}:{}".format(*self.address)

    @property
    def stored(self) -> list[bytes]:
        """What the memory store has stored."""
        return [*self.store.files.values()]

    @property
    def connections(self) -> list[HTTPConnection]:
        """The connections that are being served."""
        return [it for it in self.factory.protocols if isinstance(it, HTTPConnection)]

    @property
    def incoming(self) -> bytes:
        """The bytes that have arrived of the upload in flight."""
        return b"".join(bytes(incoming.content) for incoming in self.store.unfinished)

    def connect(self, source: str = "") -> HTTPClient:
        """
        Return a client; it is closed with the front end at the latest.

        :param source: an IPv4 address that it connects from.
        """
        peer = socket.socket()
        peer.settimeout(PATIENCE)
        if source:
            peer.bind((source, 0))
        return self._connected(peer, self.address)

    async def connect_later(self) -> HTTPClient:
        """Return a client, over TLS if the front end speaks it: the handshake is in a thread."""
        if self._identity is None:
            return self.connect()
        client = self.connect()

        def shake_hands() -> None:
            client.socket = client_context().wrap_socket(client.socket, server_hostname="127.0.0.1")

        await in_thread(shake_hands)
        return client

    def _connected(self, peer: socket.socket, address: Any) -> HTTPClient:
        client = HTTPClient(peer)
        self._clients.append(client)
        peer.connect(address)
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    @contextlib.asynccontextmanager
    async def also_at(self, path: Path) -> AsyncIterator[Callable[[], HTTPClient]]:
        """Open the same front end at a unix socket; yield a function that connects to it."""
        port: Any = reactor.listenUNIX(str(path), self.factory)
        self._prepare(port)

        def connect() -> HTTPClient:
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(PATIENCE)
            return self._connected(peer, str(path))

        try:
            yield connect
        finally:
            await maybeDeferred(port.stopListening)

    async def ask(self, *pieces: bytes, method: str = "PUT") -> Reply:
        """Send bytes on a new connection, and read one response."""
        client = await self.connect_later()
        return await client.ask(*pieces, method=method)

    async def has_received(self, size: int) -> None:
        """Wait until this many bytes of the only upload have arrived."""
        await until(lambda: len(self.incoming) >= size)

    async def is_quiet(self) -> None:
        """Wait until no connection is left."""
        await until(lambda: not self.factory.protocols)

    async def close(self) -> None:
        """Close everything."""
        for client in self._clients:
            client.close()
        await maybeDeferred(self.port.stopListening)
        self.store.release()
        self.factory.abort_the_rest()
        await self.is_quiet()


@contextlib.asynccontextmanager
async def open_http(
    settings: HTTPSettings | None = None,
    handler: Handler | None = None,
    store: IUploadStore | None = None,
    clock: IReactorTime | None = None,
    slots: ConnectionSlots | None = None,
) -> AsyncIterator[OpenHTTP]:
    """Open an HTTP front end for the duration of a test; see `OpenHTTP`."""
    http = OpenHTTP(settings or HTTPSettings(), handler, store, clock, slots)
    globalLogPublisher.addObserver(http.log)
    try:
        yield http
    finally:
        await http.close()
        globalLogPublisher.removeObserver(http.log)
