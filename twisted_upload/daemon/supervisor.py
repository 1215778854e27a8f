"""
Several processes on one port: ``--workers``.

The supervisor (this service, in the twistd process) binds the ports and passes them to
workers that it starts, watches and, when it stops, drains.  A worker is
`twisted_upload.daemon.worker`.  It gets the configuration in force from the supervisor,
so that a change to the configuration file cannot make two workers differ.  It writes
its log to a pipe that the supervisor copies into its own log.
`twisted_upload.daemon.worker_protocol` defines the messages between them.

A worker that dies is replaced.  Its unfinished uploads are aborted, as in any crash,
and its replacement removes what it left behind.  A worker that shows no sign of life
for as long as the service manager's watchdog waits is killed, so that the others can
continue.  When the supervisor dies, the workers see the end of their standard input,
close their ports at once, and drain.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from twisted_upload.daemon.listeners import ListenerService, ListenerSpec
from twisted_upload.daemon.notify import Counts, total
from twisted_upload.daemon.storage import IStore, undone_on_failure
from twisted_upload.daemon.worker_process import WorkerProcess
from twisted_upload.daemon.worker_protocol import CERTIFICATES, REPORTS, InheritedPort
from twisted_upload.disk.threads import IDisk
from twisted_upload.net.ports import close_own
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.observability.log import JOURNAL_STREAM
from twisted_upload.observability.multiprocess import WorkerReports

__all__ = ["KILL_TIMEOUT", "Supervisor"]

RESTART_DELAY = 1.0
"""Seconds before a worker is replaced that lived no longer than that."""

END_NOW_TIMEOUT = 2.0
"""Seconds after which a worker that was told to end at once is killed."""

KILL_TIMEOUT = 5.0
"""Seconds for which to wait for a killed worker to end, which may hang on a dead
disk."""


class Supervisor(ListenerService[Factory]):
    """
    The workers of one daemon.

    :param number: the number of workers.
    :param configuration: the one in force, in one line, for the workers.
    :param stores: opened once, to find problems early.
    :param reactor: starts processes and schedules calls.
    :param stop_timeout: seconds after which a worker that was told to stop is
        killed.
    :param worker_reports: is given the workers, to ask them for reports.
    :param journal: checked once, to find problems early.
    :param watchdog: seconds after which a worker that shows no sign of life is
        killed; 0 for never.
    """

    disks: Sequence[IDisk] = ()

    def __init__(
        self,
        specs: Sequence[ListenerSpec[Factory]],
        number: int,
        configuration: str,
        stores: Sequence[IStore],
        reactor: Any,
        *,
        stop_timeout: float,
        worker_reports: WorkerReports,
        journal: JournalFiles | None = None,
        watchdog: float = 0.0,
    ) -> None:
        super().__init__(specs)
        self._worker_reports = worker_reports
        self._number = number
        self._configuration = configuration
        self._stores = stores
        self._reactor = reactor
        self._stop_timeout = stop_timeout
        self._journal = journal
        self._watchdog = watchdog
        self._watch_timer: IDelayedCall | None = None
        self._due = 0.0  # time of the next check
        self._kill_timer: IDelayedCall | None = None
        self._abandon_timer: IDelayedCall | None = None
        self._stored = 0  # by workers that have ended
        self._when_ready: list[Deferred[None]] = []
        self._workers: dict[int, WorkerProcess] = {}
        self._restart_timers: dict[int, IDelayedCall] = {}

    def bind(self) -> None:
        """See `ListenerService.bind`; only workers accept."""
        super().bind()
        for bound in self.ports:
            bound.port.stopReading()

    def open(self) -> None:
        """See `ListenerService.open`."""
        with undone_on_failure(self._stores):
            for store in self._stores:
                store.open()
                store.close()
            if self._journal is not None:
                self._journal.check()

    def startService(self) -> None:
        """Start the workers."""
        super().startService()
        for index in range(self._number):
            self._start(index)
        if self._watchdog > 0:
            self._watch_later()

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires when all workers serve."""
        ready: Deferred[None] = Deferred()
        self._when_ready.append(ready)
        self._check_ready()
        return ready

    def counts(self) -> Counts:
        """Count the uploads of all workers, as they reported some seconds ago."""
        return total([Counts(0, self._stored), *(it.counts for it in self._workers.values())])

    def reconfigure(self, configuration: str, stop_timeout: float) -> None:
        """
        Have the workers apply another configuration to new connections.

        :param stop_timeout: as for the constructor.
        """
        self._configuration = configuration
        self._stop_timeout = stop_timeout
        for worker in self._workers.values():
            worker.tell(configuration)

    def certificates_changed(self) -> None:
        """Have the workers present the current certificates of the endpoints."""
        shown = [endpoint.identity.pem.decode("latin-1") for endpoint in self.tls_endpoints]
        for worker in self._workers.values():
            worker.tell(CERTIFICATES + json.dumps(shown))

    def end_now(self) -> None:
        """Have the workers refuse uploads in flight and end; called while it stops."""
        for worker in self._workers.values():
            worker.signal(signal.SIGQUIT)
        if self._kill_timer is not None and self._kill_timer.active():
            self._kill_timer.reset(END_NOW_TIMEOUT)

    def stopService(self) -> Deferred[None]:
        """Have the workers drain; fires when all have ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._worker_reports.draining = True
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        for timer in self._restart_timers.values():
            timer.cancel()
        self._restart_timers.clear()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ended = [worker.ended for worker in self._workers.values()]
        for worker in self._workers.values():
            worker.signal(signal.SIGTERM)
        gone: Deferred[None] = Deferred()
        DeferredList(ended).addCallback(lambda _: None if gone.called else gone.callback(None))
        kill_timer = self._kill_timer = self._reactor.callLater(
            self._stop_timeout, self._kill, gone
        )
        # A port that stays open would collect connections that no worker accepts.
        tcp = [bound for bound in self.ports if bound.family != socket.AF_UNIX]
        await DeferredList([close_own(bound.port) for bound in tcp])
        self.ports = [bound for bound in self.ports if bound not in tcp]
        await gone
        for timer in (kill_timer, self._abandon_timer):
            if timer is not None and timer.active():
                timer.cancel()
        await self.close_ports()
        self.ports = []
        await self.stop_side_services()

    def _kill(self, gone: Deferred[None]) -> None:
        for worker in self._workers.values():
            _log.warn("worker {pid} is not stopping; killing it", pid=worker.pid)
            worker.kill()
        self._abandon_timer = self._reactor.callLater(KILL_TIMEOUT, self._abandon, gone)

    def _abandon(self, gone: Deferred[None]) -> None:
        for worker in self._workers.values():
            _log.error("worker {pid} hangs in the kernel; abandoning it", pid=worker.pid)
        gone.callback(None)

    def _check_ready(self) -> None:
        if len(self._workers) == self._number and all(it.ready for it in self._workers.values()):
            waiting, self._when_ready = self._when_ready, []
            for ready in waiting:
                ready.callback(None)

    def _watch_later(self) -> None:
        seconds = self._watchdog / 4
        self._due = self._reactor.seconds() + seconds
        self._watch_timer = self._reactor.callLater(seconds, self._watch)

    def _watch(self) -> None:
        # While we were stalled, no message was received; what the workers sent meanwhile
        # is read after the timers of this reactor turn.
        late = self._reactor.seconds() - self._due
        for worker in self._workers.values():
            worker.discount(late)
        self._watch_timer = self._reactor.callLater(0, self._kill_stuck)

    def _kill_stuck(self) -> None:
        for worker in self._workers.values():
            # A worker that is starting may have to wait for a disk before it is ready.
            silent = worker.ready and worker.silence > self._watchdog
            if (silent or worker.stuck) and not worker.killed:
                _log.error("worker {pid} is not responding; killing it", pid=worker.pid)
                worker.kill()
        self._watch_later()

    def _start(self, index: int) -> None:
        self._restart_timers.pop(index, None)
        worker = WorkerProcess(
            self._reactor, self._configuration, self._copy_log, self._check_ready
        )
        try:
            self._spawn(worker)
        except (OSError, MemoryError) as error:
            # There is no process to send anything to or to wait for.
            why = getattr(error, "strerror", None) or "out of memory"
            _log.error("cannot start a worker, will retry: {why}", why=why)
            self._restart_timers[index] = self._reactor.callLater(RESTART_DELAY, self._start, index)
            return
        self._workers[index] = worker
        self._worker_reports.came(worker.reporting)
        worker.ended.addCallback(self._ended, index, worker)

    def _spawn(self, worker: WorkerProcess) -> None:
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", REPORTS: "r"}
        identities: list[int] = []  # closed here once the worker has its copies
        try:
            inherited = self._inherited(descriptors, identities)
            self._reactor.spawnProcess(
                worker,
                sys.executable,
                [
                    sys.executable,
                    "-c",
                    "from twisted_upload.daemon.worker import main; main()",
                    *inherited,
                ],
                env=self._environment(),
                # Not the current directory: Python would look for modules there.
                path="/",
                childFDs=descriptors,
            )
        finally:
            for identity in identities:
                os.close(identity)

    def _inherited(self, descriptors: dict[int, Any], identities: list[int]) -> list[str]:
        """
        Return the arguments that describe the sockets of a worker, one for each listener.

        :param descriptors: the file descriptors for the worker are added to these.
        :param identities: the file descriptors to close in any case are added to these.
        """
        inherited: dict[str, list[str]] = {spec.name: [] for spec in self.specs}
        for bound in self.ports:
            number, identity = len(descriptors), None
            descriptors[number] = bound.port.fileno()
            if isinstance(bound.endpoint, TLSServerEndpoint):
                identities.append(bound.endpoint.identity.in_memory())
                identity = len(descriptors)
                descriptors[identity] = identities[-1]
            one = InheritedPort(bound.family, number, identity, bound.lasting)
            inherited[bound.spec.name].append(str(one))
        return [",".join(its_ports) for its_ports in inherited.values()]

    def _environment(self) -> dict[str, str]:
        """Return our environment for a worker; it names journald if priorities are wanted."""
        ours = {k: v for k, v in os.environ.items() if k != JOURNAL_STREAM}
        if self.observer is not None and self.observer.journald:
            ours[JOURNAL_STREAM] = "supervisor"
        return {**ours, "WATCHDOG_USEC": f"{self._watchdog * 1e6:.0f}"}

    def _copy_log(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if self.observer is not None:
            self.observer.write(text)
        else:
            for line in text.splitlines():
                _log.info("{line}", line=line)

    def _ended(self, reason: str, index: int, worker: WorkerProcess) -> None:
        del self._workers[index]
        self._stored += worker.counts.stored
        self._worker_reports.went(worker.reporting)
        if not self.running:
            return
        self._worker_reports.restarts += 1
        _log.error(
            "worker {pid} exited ({reason}); starting another",
            pid=worker.pid,
            reason=reason,
        )
        lived = self._reactor.seconds() - worker.since
        delay = 0.0 if lived > RESTART_DELAY else RESTART_DELAY
        self._restart_timers[index] = self._reactor.callLater(delay, self._start, index)


_log = Logger()
