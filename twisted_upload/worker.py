"""
One worker of several: see `twisted_upload.workers`.

Started with the sockets that it is to serve, an argument such as
``AF_INET6:3,AF_INET:4:5`` for each listener (5 is the file with key and
certificate, where TLS is to be spoken); told what is in force by the first line
of its standard input.  The lines that follow ask it something.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver

from twisted_upload.building import Endpoints
from twisted_upload.certificates import Identity
from twisted_upload.configuration import Configuration
from twisted_upload.errors import CannotStart
from twisted_upload.gathering import QUESTION, answer
from twisted_upload.listening import adopted_endpoint
from twisted_upload.logs import JOURNAL_STREAM, LineObserver, unbuffered
from twisted_upload.reporting import ProcessReporter, Report
from twisted_upload.service import UploadService
from twisted_upload.tap import upload_service
from twisted_upload.tls_endpoints import TLSServerEndpoint
from twisted_upload.workers import REPORTS

__all__ = ["main"]


GOODBYE = 1.0
"""Seconds that the last report may take to be read."""


class _Supervised(LineOnlyReceiver):
    """Standard input, on which the supervisor asks, and the pipe for the answers."""

    delimiter = b"\n"
    transport: Any

    def __init__(
        self, reactor: Any, service: UploadService, reporter: ProcessReporter | None
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._reporter = reporter
        self._gone: Deferred[None] | None = None

    def lineReceived(self, line: bytes) -> None:
        """A question."""
        if line == QUESTION and self._reporter is not None:
            self._reporter.report().addCallback(self._tell)

    def connectionLost(self, reason: object = None) -> None:
        """The supervisor is gone: somebody else may want the port.  Give it up, then drain."""
        if self._gone is not None:
            self._gone.callback(None)
            return
        self._service.stop_listening()
        if self._reactor.running:
            self._reactor.stop()

    def stop(self) -> Deferred[None]:
        """Drain, and say for the last time what there is to say."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._service.stopService()
        if self._reporter is None or self.transport.disconnected:
            return
        self._tell(await self._reporter.report())
        self._gone = Deferred()
        self._gone.addTimeout(GOODBYE, self._reactor).addErrback(lambda _: None)
        self.transport.loseConnection()
        await self._gone

    def _tell(self, report: Report) -> None:
        self.transport.write(answer(report))


def main() -> None:
    """Serve until told to stop."""
    from twisted.internet import reactor as _reactor  # noqa: PLC0415

    reactor: Any = _reactor
    # Not one byte more than the line: what follows is the reactor's.
    with open(0, "rb", buffering=0, closefd=False) as supervisor:
        line = supervisor.readline()
    if not line.endswith(b"\n"):
        raise SystemExit(1)  # there is no supervisor any more
    configuration = Configuration.from_json(line.decode())
    # Our lines become the supervisor's, and it has left the variable only where
    # those go to journald.
    observer = LineObserver(
        unbuffered(sys.stdout),
        configuration["log-format"],
        journald=JOURNAL_STREAM in os.environ,
        clock=reactor,
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    endpoints = [_adopted(descriptions, reactor) for descriptions in sys.argv[1:]]
    service, reporter = upload_service(configuration, reactor, endpoints)
    try:
        service.startService()
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    # A supervisor that stands still holds up no uploads: it misses lines of the log.
    os.set_blocking(sys.stdout.fileno(), False)
    supervised = _Supervised(reactor, service, reporter)
    StandardIO(supervised, stdout=REPORTS, reactor=reactor)  # type: ignore[call-arg]
    reactor.addSystemEventTrigger("before", "shutdown", supervised.stop)
    reactor.run()
    observer.flush()


def _adopted(descriptions: str, reactor: Any) -> Endpoints:
    return [(each, _endpoint(each, reactor)) for each in descriptions.split(",")]


def _endpoint(description: str, reactor: Any) -> IStreamServerEndpoint:
    family, number, *identity = description.split(":")
    adopted = adopted_endpoint(reactor, int(number), socket.AddressFamily[family])
    for descriptor in map(int, identity):
        with open(descriptor, "rb") as file:
            return TLSServerEndpoint(adopted, Identity(file.read()), reactor)
    return adopted
