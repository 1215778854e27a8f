"""
Helpers for tests of the client's `upload`: a hand-written server with blocking sockets,
a reactor with a separate clock, and the errors of an upload.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from tests.support.senders import read_all
from tests.support.waiting import PATIENCE, in_thread, reactor
from twisted_upload.interfaces import Receipt

T = TypeVar("T")


CONTENT = bytes(range(256)) * 40


class Clocked:
    """The reactor, with a separate clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Server(Generic[T]):
    """
    A server for one connection, written with blocking sockets.

    :ivar done: fires with the result of its function.
    """

    def __init__(self, serve: Callable[[socket.socket], T]) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        self.endpoint = "tcp:{}:{}".format(*listener.getsockname())

        def run() -> T:
            with listener:
                peer, _ = listener.accept()
            with peer:
                peer.settimeout(PATIENCE)
                return serve(peer)

        self.done: Deferred[T] = in_thread(run)


def answering(answer: bytes) -> Callable[[socket.socket], bytes]:
    """A simple server: it reads to the end, answers, closes."""

    def serve(peer: socket.socket) -> bytes:
        content = read_all(peer)
        peer.sendall(answer)
        return content

    return serve


def until_reset(peer: socket.socket) -> str:
    """Read on, and return how the connection ended."""
    try:
        read_all(peer)
    except ConnectionResetError:
        return "reset"
    return "half-close"


async def error_of(deferred: Deferred[Receipt]) -> BaseException:
    """Return the error of an upload."""
    try:
        await deferred
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


def errors_of(deferred: Deferred[Receipt]) -> list[BaseException]:
    """Return a list that gets the error of an upload when it fails."""
    failed: list[BaseException] = []

    def remember(failure: Failure) -> None:
        assert failure.value is not None
        failed.append(failure.value)

    deferred.addErrback(remember)
    return failed


@implementer(IStreamClientEndpoint)
class Endpoint:
    """
    An endpoint whose behaviour the test defines.

    :ivar protocol: the protocol that was connected.
    """

    def __init__(self, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> None:
        self._connect = connect
        self.protocol: Any = None

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        def remember(protocol: IProtocol) -> IProtocol:
            self.protocol = protocol
            return protocol

        return self._connect(factory).addCallback(remember)
