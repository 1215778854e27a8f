"""
The status server, on loopback, and clients of it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.support.senders import read_all
from tests.support.waiting import PATIENCE, in_thread, reactor, until
from twisted_upload.observability.metrics import INFO, Samples
from twisted_upload.observability.report import Report, daemon_samples
from twisted_upload.observability.status_server import StatusFactory

__all__ = ["SAMPLES", "Slow", "Status", "all_of", "open_status"]

SAMPLES = daemon_samples("1.2.3", 1000.0)


def all_of(peer: socket.socket) -> bytes:
    """Read to the end, and close."""
    with peer:
        return read_all(peer)


class Status:
    """
    The status server, on loopback.

    :ivar trouble: the problem that the daemon reports.
    :ivar waiting: pending reports, while ``slow``.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.samples: Samples = SAMPLES
        self.trouble: str | None = None
        self.slow = False
        self.waiting: list[Deferred[Report]] = []
        self.clock = Clock()
        self.factory = StatusFactory(self._report, self.clock, ["metrics.upload.com"])
        self.port: Any = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.address = ("127.0.0.1", self.port.getHost().port)

    def _report(self) -> Deferred[Report]:
        self.asked += 1
        report: Deferred[Report] = Deferred()
        if not self.slow:
            return succeed(Report(self.samples, self.trouble))
        self.waiting.append(report)
        return report

    async def get(
        self, path: str, method: str = "GET", **more: Any
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """Send one request; return the status, text and headers of its response."""

        def ask() -> tuple[int, str, http.client.HTTPMessage]:
            connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
            try:
                connection.request(method, path, **more)
                answer = connection.getresponse()
                return answer.status, answer.read().decode(), answer.headers
            finally:
                connection.close()

        return await in_thread(ask)

    async def ask(self, request: bytes, *, last: bool = False) -> bytes:
        """Send a request byte by byte, and return the response."""
        peer = await self.connect()
        peer.sendall(request)
        if last:
            peer.shutdown(socket.SHUT_WR)
        return await in_thread(all_of, peer)

    async def connect(self) -> socket.socket:
        """Return a connection that the server has accepted."""
        peer = socket.create_connection(self.address, timeout=PATIENCE)
        address = peer.getsockname()[1]
        await until(lambda: address in [it.transport.getPeer().port for it in self.there])
        return peer

    @property
    def there(self) -> list[Any]:
        """The open connections."""
        return [*self.factory.connections]

    async def close(self) -> None:
        """Close everything."""
        await self.port.stopListening()
        self.factory.cut_all()
        await until(lambda: not self.factory.connections)
        assert self.clock.getDelayedCalls() == []


class Slow(dict[str, Any]):
    """Samples that take a second to render as a page."""

    def __init__(self, samples: Samples, clock: Clock) -> None:
        super().__init__(samples)
        self._clock = clock

    def get(self, name: str, default: Any = None) -> Any:
        if name == INFO.name:
            self._clock.advance(1)
        return super().get(name, default)


@contextlib.asynccontextmanager
async def open_status() -> AsyncIterator[Status]:
    """Open a status server for the duration of a test."""
    status = Status()
    try:
        yield status
    finally:
        await status.close()
