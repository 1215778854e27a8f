"""
The port for metrics and health checks: ``--metrics``.

``/metrics`` is for Prometheus, ``/healthz`` is answered as long as the reactor runs, and
``/readyz`` tells whether uploads should be sent here, and if not, why.  There are no
other pages, and nothing can be changed through this port.

Whatever connects to it must not harm uploads.  The number of connections is small, and
each is short and serves one request; a new connection replaces the oldest.  The body of a
request is discarded.  Frequent requests get a cached page for a while.  Requests are not
logged.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.net.addresses import listening_name
from twisted_upload.net.ports import listen
from twisted_upload.net.timeouts import IdleTimeouts
from twisted_upload.observability.http_request import BadRequest, Head, Request, is_own_host
from twisted_upload.observability.prometheus import page
from twisted_upload.observability.report import Report, Reporter

__all__ = ["LONGEST", "MOST_BODY", "MOST_CONNECTIONS", "StatusFactory", "StatusPort"]

MOST_CONNECTIONS = 16
"""Maximum number of connections; beyond it, a new one replaces the oldest."""

LONGEST = 10.0
"""Seconds after which a connection is aborted, whatever its state."""

MOST_BODY = 64 * 1024
"""Bytes after a request's head that are discarded before the connection is aborted."""

SHARE, BURST = 0.1, 0.25
"""The fraction of time that rendering pages may take in the long run, and the seconds
that it may take in addition.  Beyond that, the previous page is served again."""

DEFECT_INTERVAL = 3600.0
"""Seconds between two log lines about internal errors."""

PATHS = ("/metrics", "/healthz", "/readyz")


@implementer(IHalfCloseableProtocol)
class _Connection(Protocol):
    """A short connection for one request."""

    factory: StatusFactory
    transport: Any

    def __init__(self) -> None:
        self._head = Head()
        self._request: Request | None = None
        self._answered = False
        self._half_closed = False
        self._gone = False
        self._left = MOST_BODY

    def connectionMade(self) -> None:
        """Register the connection."""
        self.factory.came(self)

    def dataReceived(self, data: bytes) -> None:
        """Take a part of the request's head, or discard what follows it."""
        if self._request is not None or self._answered:
            self._left -= len(data)
            if self._left < 0:
                self.cut()
            return
        try:
            self._request = self._head.feed(data)
            if self._request is not None:
                self._process(self._request)
        except BadRequest as error:
            self._answer(error.code, f"{error}\n")

    def readConnectionLost(self) -> None:
        """Note that the client has half-closed; it may still wait for the response."""
        self._half_closed = True
        if self._answered or self._request is None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: we have half-closed, and the client has yet to close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remove the connection."""
        self._gone = True
        self.factory.went(self)

    def cut(self) -> None:
        """Abort the connection."""
        self.transport.abortConnection()

    def _process(self, request: Request) -> None:
        host = request.fields.get("host", "")
        # /healthz reveals nothing, and a load balancer may use any name in Host.
        if request.path != "/healthz" and not self.factory.is_ours(host, self.transport.getHost()):
            self._answer(
                421,
                "these pages are not served under this host name; add it with --metrics-host\n",
            )
        elif request.path not in PATHS:
            self._answer(404, "not found; the pages are /metrics, /healthz and /readyz\n")
        elif request.method not in ("GET", "HEAD"):
            self._answer(405, "only GET and HEAD are allowed\n", more="Allow: GET, HEAD\r\n")
        elif request.path == "/healthz":
            self._answer(200, "alive\n")
        elif request.path == "/readyz":
            report = maybeDeferred(self.factory.reporter)
            report.addCallback(self._readiness).addErrback(self._failed)
        else:
            made = self.factory.page(wants_open_metrics(request.fields.get("accept", "")))
            made.addCallback(self._metrics).addErrback(self._failed)

    def _metrics(self, made: tuple[bytes, str]) -> None:
        self._answer(200, *made)

    def _readiness(self, report: Report) -> None:
        if report.trouble is None:
            self._answer(200, "ready\n")
        else:
            self._answer(503, f"{report.trouble}\n")

    def _failed(self, failure: Failure) -> None:
        self.factory.defect(failure)
        self._answer(500, "internal error; see the log\n")

    def _answer(
        self,
        code: int,
        text: str | bytes,
        content_type: str = "text/plain; charset=utf-8",
        more: str = "",
    ) -> None:
        if self._gone or self._answered:
            return
        self._answered = True
        data = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
        head = (
            f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {len(data)}\r\n"
            "Cache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"{more}"
            "Connection: close\r\n\r\n"
        )
        is_head = self._request is not None and self._request.method == "HEAD"
        self.transport.write(head.encode("ascii") + (b"" if is_head else data))
        if self._half_closed:
            self.transport.loseConnection()
        else:
            # The client may still be sending: if we closed now, the kernel could reset the
            # connection before the client has read the response.
            self.transport.loseWriteConnection()


class StatusFactory(Factory):
    """
    Serves the three pages.

    :param reporter: provides the reports.
    :param clock: limits the duration of connections.
    :param hosts: names of this machine, in addition to its own hostname, addresses, and
        names that cannot be public (`is_own_host`).
    :ivar connections: the open connections, oldest first.
    """

    noisy = False
    protocol = _Connection  # type: ignore[assignment]

    def __init__(self, reporter: Reporter, clock: IReactorTime, hosts: Iterable[str] = ()) -> None:
        self.reporter = reporter
        self.clock = clock
        self.connections: dict[_Connection, None] = {}
        self._deadlines = IdleTimeouts(clock, LONGEST, _Connection.cut)
        self._hosts = {name.lower().rstrip(".") for name in (socket.gethostname(), *hosts)}
        self._pages: dict[bool, tuple[bytes, str]] = {}
        self._made_in = 0.0  # seconds spent on rendering, less what SHARE has allowed since
        self._since = clock.seconds()
        self._told = float("-inf")

    def came(self, connection: _Connection) -> None:
        """Add a connection; abort the oldest if there are too many."""
        if len(self.connections) >= MOST_CONNECTIONS:
            oldest = next(iter(self.connections))
            self.went(oldest)
            oldest.cut()
        self.connections[connection] = None
        self._deadlines.restart(connection)

    def went(self, connection: _Connection) -> None:
        """Remove a connection; harmless if it was removed before."""
        self.connections.pop(connection, None)
        self._deadlines.cancel(connection)

    def is_ours(self, host: str, address: IAddress) -> bool:
        """Return whether a request with this ``Host``, at this address, may be answered."""
        return isinstance(address, UNIXAddress) or is_own_host(host, self._hosts)

    def page(self, open_metrics: bool) -> Deferred[tuple[bytes, str]]:
        """Return the metrics page, possibly a cached one, and its content type."""
        now = self.clock.seconds()
        self._made_in = max(0.0, self._made_in - SHARE * (now - self._since))
        self._since = now
        if self._made_in > BURST and open_metrics in self._pages:
            return succeed(self._pages[open_metrics])
        return maybeDeferred(self.reporter).addCallback(self._make, open_metrics)

    def _make(self, report: Report, open_metrics: bool) -> tuple[bytes, str]:
        began = self.clock.seconds()
        made = self._pages[open_metrics] = page(report.samples, open_metrics=open_metrics)
        self._made_in += self.clock.seconds() - began
        return made

    def defect(self, failure: Failure) -> None:
        """Log an internal error, but rarely, so that requests cannot fill the log."""
        now = self.clock.seconds()
        if now - self._told >= DEFECT_INTERVAL:
            self._told = now
            _log.failure("metrics: internal error", failure)

    def cut_all(self) -> None:
        """Abort all connections."""
        for connection in [*self.connections]:
            connection.cut()


def wants_open_metrics(accept: str) -> bool:
    """Return whether an ``Accept`` field asks for the OpenMetrics format."""
    kinds = (each.partition(";")[0].strip().lower() for each in accept.split(","))
    return "application/openmetrics-text" in kinds


class StatusPort(Service):
    """
    The listening port.

    :param name: name of the endpoint, for error messages.
    :param reporter: provides the reports.
    :param hosts: see `StatusFactory`.
    :ivar factory: serves the connections.
    :ivar port: the port while it is bound, otherwise None.
    """

    def __init__(
        self,
        name: str,
        endpoint: IStreamServerEndpoint,
        reporter: Reporter,
        clock: IReactorTime,
        hosts: Iterable[str] = (),
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self.factory = StatusFactory(reporter, clock, hosts)
        self.port: Any = None

    def privilegedStartService(self) -> None:
        """
        Bind the port, unless it is bound already.

        :raises CannotStart: it cannot be bound.
        """
        if self.port is None:
            self.port = listen(self._name, self._endpoint, self.factory)

    def startService(self) -> None:
        """Log where it listens."""
        super().startService()  # type: ignore[no-untyped-call]
        assert self.port is not None
        _log.info("metrics and health on {where}", where=listening_name(self.port.getHost()))

    def stopService(self) -> Deferred[Any]:
        """Close the port; fires when that is done."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self.port = self.port, None
        self.factory.cut_all()
        return succeed(None) if port is None else maybeDeferred(port.stopListening)


_log = Logger()
