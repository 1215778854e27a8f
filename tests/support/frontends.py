"""
Front ends on real ports, and what they log; the raw one.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.support.senders import read_all, send_whole
from tests.support.waiting import PATIENCE, in_thread, reactor, until
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.factory import UploadFactory, UploadProtocol
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.interfaces import IUploadStore
from twisted_upload.net.ports import wait_in_shortage
from twisted_upload.net.tls.certificates import Identity
from twisted_upload.net.tls.endpoints import TLSServerFactory
from twisted_upload.net.transport import read_eagerly
from twisted_upload.stores.memory import MemoryStore

F = TypeVar("F", bound=Frontend[Any])
C = TypeVar("C")
L = TypeVar("L", bound="ListeningFrontend[Any, Any]")

_FRONTENDS = (
    "twisted_upload.frontends.sender",
    "twisted_upload.frontends.splice",
    "twisted_upload.core.outcome",
    "twisted_upload.net.tls.endpoints",
)


@implementer(ILogObserver)
class LoggedEnds:
    """
    What front ends log.

    :ivar ends: the events of uploads that have ended.
    :ivar others: the other events of front ends, at any level.
    """

    def __init__(self) -> None:
        self.ends: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") in _FRONTENDS:
            (self.ends if "outcome" in event else self.others).append(event)

    @property
    def kinds(self) -> list[str]:
        """The outcome of each upload that has ended."""
        return [event["outcome"] for event in self.ends]

    def loud(self) -> list[dict[str, Any]]:
        """Return the events, except outcomes, that an operator would see."""
        return [event for event in self.others if event["log_level"] > LogLevel.debug]


class ListeningFrontend(Generic[F, C]):
    """
    A front end on a real loopback port.

    :param make: makes it, with a store and a clock.
    :param store: stores the uploads; one in memory if it is not given.
    :param clock: times the uploads; a `Clock` if it is not given.
    :param identity: for TLS.
    :ivar clock: of the front end, and of nothing else.
    :ivar store: stores the uploads, unless another store was given.
    :ivar log: what it has logged.
    :cvar eager: whether its connections read at once what is there, as the daemon's do.
    """

    eager = True

    def __init__(
        self,
        make: Callable[[IUploadStore, IReactorTime], F],
        store: IUploadStore | None = None,
        clock: IReactorTime | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.clock = Clock()
        self.store = MemoryStore(lambda: 1_795_328_130.123, suffix=lambda _: ".bin")
        self.log = LoggedEnds()
        self.factory = make(store or self.store, clock or self.clock)
        outer: Any = self.factory
        if identity is not None:
            outer = TLSServerFactory(outer, clock or self.clock, identity)
        self.port: Any = reactor.listenTCP(0, outer, 4096, "127.0.0.1")
        if identity is None:
            self._prepare(self.port)
        self._peers: list[Any] = []

    def _prepare(self, port: Any) -> None:
        if self.eager:
            wait_in_shortage(port, reactor)
            read_eagerly(port)

    @property
    def address(self) -> tuple[str, int]:
        """The address that it listens on."""
        return "127.0.0.1", self.port.getHost().port

    @property
    def stored(self) -> list[bytes]:
        """What the memory store has stored."""
        return [*self.store.files.values()]

    @property
    def incoming(self) -> bytes:
        """The bytes that have arrived of the upload in flight."""
        return b"".join(bytes(incoming.content) for incoming in self.store.unfinished)

    def client_of(self, peer: socket.socket) -> C:
        """Return the client that has this socket, which is about to be connected."""
        raise NotImplementedError

    def connect(self, source: str = "") -> C:
        """
        Return a connected client; it is closed with the front end at the latest.

        :param source: an IPv4 address that it connects from.
        """
        return self._connect(socket.AF_INET, self.address, source)

    def _connect(self, family: int, address: Any, source: str = "") -> C:
        peer = socket.socket(family)
        client = self.client_of(peer)
        self._peers.append(client)
        peer.settimeout(PATIENCE)
        if source:
            peer.bind((source, 0))
        peer.connect(address)
        if family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    @contextlib.asynccontextmanager
    async def also_at(
        self, family: str, folder: Path | None = None
    ) -> AsyncIterator[Callable[[], C]]:
        """
        Open the same front end at another port; yield a function that connects to it,
        as `connect` does.

        :param family: ``IPv4``; ``IPv6``; ``mapped``, IPv4 at a port for both;
            ``unix``.
        :param folder: for a unix socket.
        """
        if family == "IPv4":
            yield self.connect
            return
        kind, address = socket.AF_INET6, cast(Any, None)
        if family == "unix":
            kind, address = socket.AF_UNIX, str(cast(Path, folder) / "socket")
            port: Any = reactor.listenUNIX(address, self.factory)
        else:
            interface = "::1" if family == "IPv6" else "::"
            try:
                port = reactor.listenTCP(0, self.factory, 4096, interface)
            except CannotListenError as error:
                pytest.skip(f"no IPv6 here: {error}")
            address = ("::1", port.getHost().port)
        if family == "mapped":
            kind, address = socket.AF_INET, ("127.0.0.1", port.getHost().port)
        self._prepare(port)
        try:
            yield partial(self._connect, kind, address)
        finally:
            await maybeDeferred(port.stopListening)

    async def has_received(self, size: int) -> None:
        """Wait until this many bytes of the only upload have arrived."""
        await until(lambda: len(self.incoming) >= size)

    async def is_quiet(self) -> None:
        """Wait until no connection is left."""
        await until(lambda: not self.factory.protocols)

    async def close(self) -> None:
        """Close everything."""
        for peer in self._peers:
            peer.close()
        await maybeDeferred(self.port.stopListening)
        self.store.release()
        self.factory.abort_the_rest()
        await self.is_quiet()


@contextlib.asynccontextmanager
async def opened(frontend: L) -> AsyncIterator[L]:
    """Log what a front end logs, and close it in the end."""
    globalLogPublisher.addObserver(frontend.log)
    try:
        yield frontend
    finally:
        await frontend.close()
        globalLogPublisher.removeObserver(frontend.log)


class OpenFrontend(ListeningFrontend[UploadFactory, socket.socket]):
    """A raw front end on a real loopback port; its clients are blocking sockets."""

    @property
    def endpoint(self) -> str:
        """The address that it listens on, as a client endpoint string."""
        return "tcp:{}:{}".format(*self.address)

    @property
    def senders(self) -> list[UploadProtocol]:
        """The connections of accepted senders that have a transport."""
        return [it for it in self.factory.protocols if isinstance(it, UploadProtocol)]

    def client_of(self, peer: socket.socket) -> socket.socket:
        """See `ListeningFrontend.client_of`."""
        return peer

    async def send(self, *pieces: bytes) -> bytes:
        """Send all pieces and half-close, as an orderly sender does; return the answer."""
        peer = self.connect()
        await in_thread(send_whole, peer, *pieces)
        return await in_thread(read_all, peer)


def open_frontend(
    settings: RawSettings | None = None,
    store: IUploadStore | None = None,
    clock: IReactorTime | None = None,
    slots: ConnectionSlots | None = None,
    identity: Identity | None = None,
) -> AbstractAsyncContextManager[OpenFrontend]:
    """Open a raw front end for the duration of a test."""
    make = partial(UploadFactory, settings=settings, slots=slots)
    return opened(OpenFrontend(make, store, clock, identity))
