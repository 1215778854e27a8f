"""
Several processes on one port: ``--workers``.

The supervisor (this service, in twistd's process) binds the ports, and hands
them to workers that it starts, watches and, when it stops, drains.  A worker is
`twisted_upload.worker`; it is told what is in force by a line on its standard
input, so that a configuration file which changes cannot make two of them
differ, and writes its log to a pipe that the supervisor copies into its own.
Through another pipe it answers what it is asked (`twisted_upload.gathering`).

A worker that dies is replaced; its unfinished uploads are lost as in any crash,
and what it leaves behind is removed by the one that replaces it.  When the
supervisor dies, the workers see the end of their standard input, give up the
port at once, and drain.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.binding import Doorway, Listening
from twisted_upload.directory import DirectoryStore
from twisted_upload.gathering import Gathering, Respondent
from twisted_upload.journal_files import JournalFiles
from twisted_upload.logs import JOURNAL_STREAM
from twisted_upload.ports import close_ours
from twisted_upload.tls_endpoints import TLSServerEndpoint

__all__ = ["REPORTS", "Supervisor"]

RESTART_DELAY = 1.0
"""Seconds between a worker's death and its successor, where it lived no longer
than that."""

REPORTS = 3
"""The descriptor on which a worker answers what it is asked; the sockets follow."""


class Supervisor(Listening):
    """
    The workers of one daemon.

    :param number: of workers.
    :param configuration: what is in force, in one line, for the workers.
    :param stores: opened once, to learn early what is wrong with them.
    :param reactor: starts processes and calls later.
    :param patience: seconds after which a worker that was told to stop is
        killed.
    :param gathering: is told which workers there are, to ask them.
    :param journal: looked at once, for the same reason.
    """

    def __init__(
        self,
        doorways: Sequence[Doorway],
        number: int,
        configuration: str,
        stores: Sequence[DirectoryStore],
        reactor: Any,
        *,
        patience: float,
        gathering: Gathering | None = None,
        journal: JournalFiles | None = None,
    ) -> None:
        super().__init__(doorways)
        self._gathering = gathering
        self._number = number
        self._configuration = configuration
        self._stores = stores
        self._reactor = reactor
        self._patience = patience
        self._journal = journal
        self._workers: dict[int, _Worker] = {}
        self._waiting: dict[int, IDelayedCall] = {}

    def bind(self) -> None:
        """See `Listening.bind`; nobody accepts here."""
        super().bind()
        for port in self.ports:
            port.stopReading()  # type: ignore[attr-defined]

    def open(self) -> None:
        """See `Listening.open`."""
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

    def stopService(self) -> Deferred[None]:
        """Have the workers drain; fires when all have ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._gathering is not None:
            self._gathering.draining = True
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ended = [worker.ended for worker in self._workers.values()]
        for worker in self._workers.values():
            worker.signal("TERM")
        killing = self._reactor.callLater(self._patience, self._kill)
        # Ours would keep connections that no worker takes any more.
        tcp = [port for port in self.ports if _family(port) != socket.AF_UNIX]
        await DeferredList([close_ours(port) for port in tcp])
        self.ports = [port for port in self.ports if port not in tcp]
        await DeferredList(ended)
        if killing.active():
            killing.cancel()
        await DeferredList([maybeDeferred(port.stopListening) for port in self.ports])
        self.ports = []
        await self.stop_companions()

    def _kill(self) -> None:
        for worker in self._workers.values():
            _log.warn("worker {pid} does not end; killing it", pid=worker.pid)
            worker.signal("KILL")

    def _start(self, index: int) -> None:
        self._waiting.pop(index, None)
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", REPORTS: "r"}
        inherited = []
        identities: list[int] = []  # closed here when the worker has its own
        ports = iter(self.ports)
        for doorway in self.doorways:
            names = []
            for (_, endpoint), port in zip(doorway.endpoints, ports, strict=False):
                numbers = [len(descriptors)]
                descriptors[numbers[0]] = port.fileno()  # type: ignore[attr-defined]
                if isinstance(endpoint, TLSServerEndpoint):
                    identities.append(endpoint.identity.in_memory())
                    numbers.append(numbers[0] + 1)
                    descriptors[numbers[1]] = identities[-1]
                family = socket.AddressFamily(_family(port)).name
                names.append(":".join(map(str, [family, *numbers])))
            inherited.append(",".join(names))
        worker = _Worker(self._reactor.seconds(), self._configuration, self._copy)
        self._workers[index] = worker
        worker.ended.addCallback(self._ended, index, worker)
        if self._gathering is not None:
            self._gathering.came(worker.respondent)
        self._reactor.spawnProcess(
            worker,
            sys.executable,
            [
                sys.executable,
                "-c",
                "from twisted_upload.worker import main; main()",
                *inherited,
            ],
            env=self._environment(),
            # Not where we are: Python would look for modules there.
            path="/",
            childFDs=descriptors,
        )
        for identity in identities:
            os.close(identity)

    def _environment(self) -> dict[str, str]:
        """Ours; in that of a worker, journald is named where its lines end up there."""
        journald = self.observer is not None and self.observer.journald
        return {k: v for k, v in os.environ.items() if journald or k != JOURNAL_STREAM}

    def _copy(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if self.observer is not None:
            self.observer.write(text)
        else:
            for line in text.splitlines():
                _log.info("{line}", line=line)

    def _ended(self, reason: str, index: int, worker: _Worker) -> None:
        del self._workers[index]
        if self._gathering is not None:
            self._gathering.went(worker.respondent)
        if not self.running:
            return
        if self._gathering is not None:
            self._gathering.restarts += 1
        _log.error(
            "worker {pid} has ended ({reason}); starting another",
            pid=worker.pid,
            reason=reason,
        )
        lived = self._reactor.seconds() - worker.since
        delay = 0.0 if lived > RESTART_DELAY else RESTART_DELAY
        self._waiting[index] = self._reactor.callLater(delay, self._start, index)


class _Worker(ProcessProtocol):
    """
    One worker process.

    :param since: when it was started.
    :param configuration: told to it at once.
    :param log: takes whole lines of its log.
    :ivar ended: fires with the reason, in words.
    :ivar respondent: by which it is asked.
    """

    def __init__(self, since: float, configuration: str, log: Callable[[bytes], None]) -> None:
        self.since = since
        self._configuration = configuration
        self.pid = 0
        self.ended: Deferred[str] = Deferred()
        self.respondent = Respondent(self._say)
        self._log = log
        self._partial = b""
        self._said = b""

    def connectionMade(self) -> None:
        """It runs."""
        transport: Any = self.transport
        self.pid = transport.pid
        self._say(self._configuration.encode() + b"\n")

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803 - Twisted's
        """Some of what it has to say."""
        if childFD == REPORTS:
            self.respondent.received(data)
        else:
            super().childDataReceived(childFD, data)

    def outReceived(self, data: bytes) -> None:
        """Some of its log."""
        lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if newline:
            self._log(lines + newline)

    def errReceived(self, data: bytes) -> None:
        """What is no line of a log: of Python itself, or of a worker that cannot start."""
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            _log.error("worker {pid}: {line}", pid=self.pid, line=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and its log is complete."""
        if self._said:
            self.errReceived(b"\n")
        if self._partial:
            self._log(self._partial + b"\n")
        self.ended.callback(reason.getErrorMessage().rstrip("."))

    def _say(self, line: bytes) -> None:
        transport: Any = self.transport
        transport.write(line)

    def signal(self, name: str) -> None:
        """Send it a signal, if it still runs."""
        transport: Any = self.transport
        try:
            transport.signalProcess(name)
        except Exception:
            _log.debug("worker {pid} has just ended", pid=self.pid)


def _family(port: Any) -> int:
    family: int = port.addressFamily if hasattr(port, "addressFamily") else socket.AF_UNIX
    return family


_log = Logger()
