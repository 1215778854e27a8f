"""
The port for those who look after the daemon: ``--metrics``.

``/metrics`` is for Prometheus, ``/healthz`` is answered while the reactor turns,
and ``/readyz`` says whether uploads should be sent here, and if not, why.  There
is nothing else, and nothing can be changed from here.

It must not hurt uploads: there are few connections at a time, each short and for
one request, and what comes with a request is thrown away.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from twisted_upload.addresses import listening_name
from twisted_upload.binding import Companion, listen
from twisted_upload.exposition import page
from twisted_upload.reporting import Report, Reporter

__all__ = ["LONGEST", "MOST_BODY", "MOST_CONNECTIONS", "StatusFactory", "StatusPort"]

MOST_CONNECTIONS = 16
"""Connections at a time; more are closed at once."""

LONGEST = 10.0
"""Seconds after which a connection is cut, whatever it is at."""

MOST_BODY = 64 * 1024
"""Bytes of a request's body that are read before the connection is cut."""

_PATHS = (b"/metrics", b"/healthz", b"/readyz")


class _Request(Request):
    """One request, and its answer."""

    channel: Any
    gone = False
    _body = 0

    def gotLength(self, length: int | None) -> None:
        """A body is no use: nothing is kept of it, in memory or in a file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Some of it."""
        self._body += len(data)
        if self._body > MOST_BODY:
            self.channel.cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits for the answer any more."""
        self.gone = True
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        """Answer."""
        _process(self, self.channel.factory.reporter)


def _process(request: Any, reporter: Reporter) -> None:
    if request.path not in _PATHS:
        _answer(request, 404, "there are /metrics, /healthz and /readyz\n")
    elif request.method not in (b"GET", b"HEAD"):
        request.setHeader("Allow", "GET, HEAD")
        _answer(request, 405, "there are only GET and HEAD\n")
    elif request.path == b"/healthz":
        _answer(request, 200, "alive\n")
    else:
        answer = _metrics if request.path == b"/metrics" else _readiness
        report = reporter()
        report.addCallback(lambda report: answer(request, report))
        report.addErrback(lambda failure: _failed(request, failure))


def _metrics(request: Any, report: Report) -> None:
    text, content_type = page(report.samples, request.getHeader("Accept") or "")
    _answer(request, 200, text, content_type)


def _readiness(request: Any, report: Report) -> None:
    if report.trouble is None:
        _answer(request, 200, "ready\n")
    else:
        _answer(request, 503, f"{report.trouble}\n")


def _failed(request: Any, failure: Failure) -> None:
    _log.failure("metrics: a defect", failure)
    _answer(request, 500, "there is a defect; see the log\n")


def _answer(
    request: Any, code: int, text: str | bytes, content_type: str = "text/plain; charset=utf-8"
) -> None:
    if request.gone:
        return
    data = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
    request.setResponseCode(code)
    request.setHeader("Content-Type", content_type)
    request.setHeader("Content-Length", str(len(data)))
    request.setHeader("Cache-Control", "no-store")
    request.write(data)
    request.finish()


class _Channel(HTTPChannel):
    """One connection: for one request, and for a short time."""

    factory: StatusFactory
    requestFactory = _Request
    transport: Any

    def connectionMade(self) -> None:
        """Somebody wants to know something."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.channels.add(self)
        self._limit = self.factory.reactor.callLater(LONGEST, self.cut)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """And is gone."""
        self.factory.channels.discard(self)
        if self._limit.active():
            self._limit.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """No second request: who comes seldom need not keep a connection."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def cut(self) -> None:
        """End it now."""
        self.transport.abortConnection()


class StatusFactory(HTTPFactory):
    """
    Serves the three pages.

    :param reporter: has the numbers.
    :param reactor: times the connections.
    :ivar channels: the connections there are.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, reporter: Reporter, reactor: Any) -> None:
        super().__init__(timeout=None, reactor=reactor)  # type: ignore[arg-type]
        self.reporter = reporter
        self.channels: set[_Channel] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """One for each connection, while there are few."""
        if len(self.channels) >= MOST_CONNECTIONS:
            return None
        return super().buildProtocol(addr)

    def cut_all(self) -> None:
        """End all connections."""
        for channel in [*self.channels]:
            channel.cut()

    # No access log: what senders write does not belong into ours.

    def startFactory(self) -> None:
        """Nothing to open."""

    def stopFactory(self) -> None:
        """Nothing to close."""

    def log(self, request: Request) -> None:
        """Nothing to write."""


class StatusPort(Companion):
    """
    The port itself.

    :param name: of the endpoint, for people.
    :param reporter: has the numbers.
    :ivar factory: what serves the connections.
    :ivar port: while it is bound.
    """

    def __init__(
        self, name: str, endpoint: IStreamServerEndpoint, reporter: Reporter, reactor: Any
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self.factory = StatusFactory(reporter, reactor)
        self.port: Any = None

    def bind(self) -> None:
        """See `Companion.bind`."""
        if self.port is None:
            self.port = listen(self._name, self._endpoint, self.factory)

    def start(self) -> None:
        """Say where it is."""
        assert self.port is not None
        _log.info("metrics and health on {where}", where=listening_name(self.port.getHost()))

    def stop(self) -> Deferred[Any]:
        """Close it."""
        port, self.port = self.port, None
        self.factory.cut_all()
        return succeed(None) if port is None else maybeDeferred(port.stopListening)


_log = Logger()
