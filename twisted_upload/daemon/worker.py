"""
One of several workers: see `twisted_upload.daemon.supervisor`.

`twisted_upload.daemon.worker_protocol` defines how it is started and configured.  It
reports to its supervisor what a daemon reports to systemd.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger, globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver

from twisted_upload.config.configuration import Configuration
from twisted_upload.core.garbage import freeze_start
from twisted_upload.daemon.builder import reconfigure_process, upload_service
from twisted_upload.daemon.listeners import NamedEndpoint
from twisted_upload.daemon.notify import Notifications
from twisted_upload.daemon.service import UploadService
from twisted_upload.daemon.signals import Signals
from twisted_upload.daemon.system import System
from twisted_upload.daemon.systemd import started_with, take_environment
from twisted_upload.daemon.worker_protocol import APPLIED, CERTIFICATES, REPORTS, InheritedPort
from twisted_upload.errors import CannotStart
from twisted_upload.net.clock import use_monotonic_time
from twisted_upload.net.endpoints import InheritedEndpoint
from twisted_upload.net.tls.certificates import Identity
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.log import JOURNAL_STREAM, LineObserver, unbuffered
from twisted_upload.observability.multiprocess import QUESTION, answer
from twisted_upload.observability.report import ProcessReporter, Report

__all__ = ["main"]


LAST_REPORT_TIMEOUT = 1.0
"""Seconds within which the supervisor must read the last report."""


def schedule_as_batch() -> None:
    """
    Do not preempt the process that wakes this one up, if no core is free.

    That is often a sender, or a proxy, on this machine.  A worker that preempts it at its
    first byte gets one upload, and another worker the next, where one worker could have
    stored several together.  A free core is still used at once.  If all cores are busy,
    a worker still gets its share of them, only not at that moment.

    Call it before there are threads, which inherit the policy.
    """
    # A policy that the operator chose is not changed, and a sandbox may forbid a change.
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class _SupervisorConnection(LineOnlyReceiver):
    """
    Standard input, on which the supervisor sends questions and settings, and the pipe
    for the answers.  It also acts on signals.
    """

    delimiter = b"\n"
    MAX_LENGTH = 16 * 1024 * 1024  # of a configuration, in bytes
    transport: Any

    def __init__(
        self, reactor: Any, service: UploadService, reporter: ProcessReporter | None
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._reporter = reporter
        self._disconnected: Deferred[None] | None = None
        self._writable = True

    def connectionMade(self) -> None:
        """Register as a producer: a stalled supervisor gets no more than what is pending."""
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """Stop notifying: enough is pending."""
        self._writable = False

    def resumeProducing(self) -> None:
        """Notify again: the supervisor has read what was pending."""
        self._writable = True

    def stopProducing(self) -> None:
        """Do nothing: the supervisor is gone; see `connectionLost`."""

    def lineReceived(self, line: bytes) -> None:
        """Handle a question, new certificates, or a configuration with reloadable changes."""
        if line == QUESTION:
            if self._reporter is not None:
                self._reporter.report().addCallback(self._send_report)
            return
        try:
            self._do(line.decode())
        except Exception:
            _log.failure("cannot apply the new configuration; this worker keeps the old one")
        # However much is pending: the supervisor sends nothing else before it has this.
        self.transport.write(f"{APPLIED}\n".encode())

    def _do(self, text: str) -> None:
        if text.startswith(CERTIFICATES):
            self._show_certificates(json.loads(text.removeprefix(CERTIFICATES)))
        else:
            self._reconfigure(Configuration.from_json(text))

    def connectionLost(self, reason: object = None) -> None:
        """Close the ports, then drain: with no supervisor, another daemon may want the ports."""
        if self._disconnected is not None:
            self._disconnected.callback(None)
            return
        self._service.close_ports()
        if self._reactor.running:
            self._reactor.stop()

    def notify(self, message: str) -> bool:
        """Report to the supervisor what a daemon reports to systemd."""
        if self._writable:
            self.transport.write(f"{message}\n".encode())
        return self._writable

    def end_now(self) -> None:
        """See `ISignalled.end_now`."""
        self._service.end_now()

    def reload(self) -> None:
        """Do nothing: the supervisor reads the configuration and sends it."""

    def rotate(self) -> None:
        """Do nothing: the supervisor has the log file."""

    def _reconfigure(self, configuration: Configuration) -> None:
        reconfigure_process(self._service, configuration, System())

    def _show_certificates(self, pems: list[str]) -> None:
        """Present these certificates, which the supervisor has validated."""
        for endpoint, pem in zip(self._service.tls_endpoints, pems, strict=True):
            endpoint.show(Identity(pem.encode("latin-1")))

    def stop(self) -> Deferred[None]:
        """Drain, and send the last report."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._service.stopService()
        if self._reporter is None or self.transport.disconnected:
            return
        self._send_report(await self._reporter.report())
        self._disconnected = Deferred()
        self._disconnected.addTimeout(LAST_REPORT_TIMEOUT, self._reactor).addErrback(lambda _: None)
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        await self._disconnected

    def _send_report(self, report: Report) -> None:
        self.transport.write(answer(report))


def main() -> None:
    """Serve until told to stop."""
    schedule_as_batch()
    from twisted.internet import reactor as _reactor  # noqa: PLC0415

    reactor: Any = _reactor
    use_monotonic_time(reactor)
    manager = take_environment(started_with(), os.environ, os.getpid())
    # Not one byte more than the line: the reactor reads what follows.
    with open(0, "rb", buffering=0, closefd=False) as supervisor:
        line = supervisor.readline()
    if not line.endswith(b"\n"):
        raise SystemExit(1)  # the supervisor is gone
    configuration = Configuration.from_json(line.decode())
    # The supervisor copies our lines into its log, and sets the variable only if that
    # goes to journald.
    observer = LineObserver(
        unbuffered(sys.stdout),
        configuration.settings.log_format,
        journald=JOURNAL_STREAM in os.environ,
        clock=reactor,
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    endpoints = [_inherited(ports, reactor) for ports in sys.argv[1:]]
    service, reporter = upload_service(configuration, reactor, endpoints, System(), observer)
    connection = _SupervisorConnection(reactor, service, reporter)
    Signals(reactor, connection, worker=True).install()
    try:
        service.startService()
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    StandardIO(connection, stdout=REPORTS, reactor=reactor)  # type: ignore[call-arg]
    notifications = Notifications(
        connection.notify,
        reactor,
        lambda: "COUNTS={} {}".format(*service.counts()),
        service.disks,
        watchdog=manager.watchdog,
    )
    reactor.callWhenRunning(freeze_start)
    reactor.callWhenRunning(notifications.ready)
    reactor.addSystemEventTrigger("before", "shutdown", connection.stop)
    reactor.addSystemEventTrigger("during", "shutdown", notifications.over)
    observer.begin()  # from here on, a stalled supervisor does not block uploads
    reactor.run()
    observer.flush()
    observer.finish()


def _inherited(ports: str, reactor: Any) -> list[NamedEndpoint]:
    return [NamedEndpoint(each, _endpoint(each, reactor)) for each in ports.split(",")]


def _endpoint(description: str, reactor: Any) -> IStreamServerEndpoint:
    it = InheritedPort.parse(description)
    inherited = InheritedEndpoint(reactor, it.descriptor, it.family, lasting=it.lasting)
    if it.identity is None:
        return inherited
    with open(it.identity, "rb") as file:
        return TLSServerEndpoint(inherited, Identity(file.read()), reactor)


_log = Logger()
