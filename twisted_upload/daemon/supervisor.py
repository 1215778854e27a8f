"""
Several processes on one port: ``--workers``.

The supervisor (this service, in twistd's process) binds the ports, and hands
them to workers that it starts, watches and, when it stops, drains.  A worker is
`twisted_upload.daemon.worker`; it is told what is in force, so that a configuration
file which changes cannot make two of them differ, and writes its log to a pipe that
the supervisor copies into its own.  All that is said between them is in
`twisted_upload.daemon.worker_protocol`.

A worker that dies is replaced; its unfinished uploads are lost as in any crash,
and what it leaves behind is removed by the one that replaces it.  One that shows
no sign of life for as long as the service manager's watchdog waits is killed, so
that the others can go on.  When the supervisor dies, the workers see the end of
their standard input, give up the port at once, and drain.
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
from twisted_upload.daemon.worker_process import WorkerProcess
from twisted_upload.daemon.worker_protocol import CERTIFICATES, REPORTS, InheritedPort
from twisted_upload.disk.threads import IDisk
from twisted_upload.net.ports import close_own
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.observability.log import JOURNAL_STREAM
from twisted_upload.observability.multiprocess import WorkerReports
from twisted_upload.stores.directory.store import DirectoryStore, undone_on_failure

__all__ = ["KILL_TIMEOUT", "Supervisor"]

RESTART_DELAY = 1.0
"""Seconds between a worker's death and its successor, where it lived no longer
than that."""

END_NOW_TIMEOUT = 2.0
"""Seconds after which a worker that was told to end at once is killed."""

KILL_TIMEOUT = 5.0
"""Seconds after which a worker that was killed and has not ended, on a dead disk
perhaps, is waited for no longer."""


class Supervisor(ListenerService[Factory]):
    """
    The workers of one daemon.

    :param number: of workers.
    :param configuration: what is in force, in one line, for the workers.
    :param stores: opened once, to learn early what is wrong with them.
    :param reactor: starts processes and calls later.
    :param stop_timeout: seconds after which a worker that was told to stop is
        killed.
    :param worker_reports: is told which workers there are, to ask them.
    :param journal: looked at once, for the same reason.
    :param watchdog: seconds after which a worker that shows no sign of life is
        killed; 0 for never.
    """

    disks: Sequence[IDisk] = ()

    def __init__(
        self,
        specs: Sequence[ListenerSpec[Factory]],
        number: int,
        configuration: str,
        stores: Sequence[DirectoryStore],
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
        self._due = 0.0  # when to watch next
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
        """Fires when all workers serve."""
        ready: Deferred[None] = Deferred()
        self._when_ready.append(ready)
        self._check_ready()
        return ready

    def counts(self) -> Counts:
        """What all workers have to do, and have done, as they have told some seconds ago."""
        return total([Counts(0, self._stored), *(it.counts for it in self._workers.values())])

    def reconfigure(self, configuration: str, stop_timeout: float) -> None:
        """
        Have workers apply another configuration to new connections.

        :param stop_timeout: see above.
        """
        self._configuration = configuration
        self._stop_timeout = stop_timeout
        for worker in self._workers.values():
            worker.tell(configuration)

    def certificates_changed(self) -> None:
        """Have workers show what the endpoints show now."""
        shown = [endpoint.identity.pem.decode("latin-1") for endpoint in self.tls_endpoints]
        for worker in self._workers.values():
            worker.tell(CERTIFICATES + json.dumps(shown))

    def end_now(self) -> None:
        """While it stops: have the workers refuse what is in flight, and hardly wait for them."""
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
        # Ours would keep connections that no worker takes any more.
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
        # While we stood still, no worker was heard; and what they have said meanwhile
        # is read after the timers of this turn.
        late = self._reactor.seconds() - self._due
        for worker in self._workers.values():
            worker.discount(late)
        self._watch_timer = self._reactor.callLater(0, self._kill_stuck)

    def _kill_stuck(self) -> None:
        for worker in self._workers.values():
            # One that starts may have to wait for a disk until it is ready.
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
            # There is no process to be asked, told or waited for.
            why = getattr(error, "strerror", None) or "no memory"
            _log.error("cannot start a worker, will retry: {why}", why=why)
            self._restart_timers[index] = self._reactor.callLater(RESTART_DELAY, self._start, index)
            return
        self._workers[index] = worker
        self._worker_reports.came(worker.reporting)
        worker.ended.addCallback(self._ended, index, worker)

    def _spawn(self, worker: WorkerProcess) -> None:
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", REPORTS: "r"}
        identities: list[int] = []  # closed here when the worker has its own
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
                # Not where we are: Python would look for modules there.
                path="/",
                childFDs=descriptors,
            )
        finally:
            for identity in identities:
                os.close(identity)

    def _inherited(self, descriptors: dict[int, Any], identities: list[int]) -> list[str]:
        """
        What a worker is told of the sockets that it gets.

        :param descriptors: they are added to these.
        :param identities: here is added what has to be closed, in any case.
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
        """Ours; in that of a worker, journald is named where priorities are wanted."""
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
