"""
One worker process, as its supervisor sees it.

Whatever a worker does, or does not do, is bounded here: what it says without end or
sense is thrown away, and what it has to be told is kept only once while it does not
listen.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import printable
from twisted_upload.daemon.notify import Counts
from twisted_upload.daemon.worker_protocol import CERTIFICATES, HEARD, REPORTS
from twisted_upload.observability.multiprocess import ReportingWorker

__all__ = ["WorkerProcess"]

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of a line of a worker; what is longer is none of ours."""


class _LineSplitter:
    """Cuts what comes into lines; those that are too long are thrown away."""

    def __init__(self) -> None:
        self._partial = b""
        self._skipping = False

    def take(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends."""
        *lines, partial = (self._partial + data).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if self._skipping or len(partial) > LONGEST_LINE:
            self._skipping, partial = True, b""
        self._partial = partial
        return lines

    def rest(self) -> list[bytes]:
        """What will not be completed any more, if there is anything."""
        return self.take(b"\n") if self._partial else []


class WorkerProcess(ProcessProtocol):
    """
    One worker process.

    :param clock: tells the time.
    :param configuration: told to it at once.
    :param log: takes whole lines of its log.
    :param became_ready: called when it serves.
    :ivar since: when it was started.
    :ivar ready: it serves.
    :ivar stuck: it says of itself that it does not work any more.
    :ivar killed: it was.
    :ivar counts: what it has to do, and has done.
    :ivar ended: fires with the reason, in words.
    :ivar reporting: by which it is asked for reports.
    """

    def __init__(
        self,
        clock: IReactorTime,
        configuration: str,
        log: Callable[[bytes], None],
        became_ready: Callable[[], None],
    ) -> None:
        self.since = self._alive = clock.seconds()
        self.ready = self.stuck = self.killed = False
        self.counts = Counts(0, 0)
        self._clock = clock
        self._configuration = configuration
        self._became_ready = became_ready
        self.pid = 0
        self.ended: Deferred[str] = Deferred()
        self.reporting = ReportingWorker(self._write)
        self._log = log
        self._log_lines = _LineSplitter()
        self._error_lines = _LineSplitter()
        self._report_lines = _LineSplitter()
        self._nonsense_logged = False
        self._listening = False  # it has done what it was told
        self._pending: dict[bool, str] = {}  # the last of each kind

    @property
    def silence(self) -> float:
        """Seconds for which it has shown no sign of life."""
        return self._clock.seconds() - self._alive

    def discount(self, seconds: float) -> None:
        """For so long it could not be heard, whatever it said."""
        self._alive = min(self._clock.seconds(), self._alive + max(0.0, seconds))

    def connectionMade(self) -> None:
        """It runs."""
        transport: Any = self.transport
        self.pid = transport.pid
        self._write(self._configuration.encode() + b"\n")

    def tell(self, line: str) -> None:
        """What is in force, or shown; when it has done what it was told before."""
        # Of each kind, the last one goes over those that it has not heard.
        self._pending[line.startswith(CERTIFICATES)] = line
        self._tell_next()

    def _tell_next(self) -> None:
        if self._listening and self._pending:
            self._listening = False
            line = self._pending.pop(next(iter(self._pending)))
            self._write(line.encode() + b"\n")

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803 - Twisted's
        """Some of what it has to say."""
        if childFD != REPORTS:
            super().childDataReceived(childFD, data)
            return
        self._alive = self._clock.seconds()
        for line in self._report_lines.take(data):
            try:
                self._understand(line)
            except Exception:
                if not self._nonsense_logged:
                    self._nonsense_logged = True
                    _log.error(
                        "invalid message from worker {pid}: {line}",
                        pid=self.pid,
                        line=printable(line[:80].decode("ascii", "replace")),
                    )

    def _understand(self, line: bytes) -> None:
        if line.startswith(b"["):
            self.reporting.received(line + b"\n")
            return
        name, _, value = line.decode("ascii").partition("=")
        if name == "READY":
            self.ready = self._listening = True
            self._became_ready()
            self._tell_next()
        elif line == HEARD.encode():
            self._listening = True
            self._tell_next()
        elif name == "COUNTS":
            self.counts = Counts(*map(int, value.split()))
        elif name == "WATCHDOG":
            self.stuck = value == "trigger"

    def outReceived(self, data: bytes) -> None:
        """Some of its log."""
        lines = self._log_lines.take(data)
        if lines:
            self._log(b"\n".join(lines) + b"\n")

    def errReceived(self, data: bytes) -> None:
        """What is no line of a log: of Python itself, or of a worker that cannot start."""
        self._log_errors(self._error_lines.take(data))

    def _log_errors(self, lines: list[bytes]) -> None:
        for line in lines:
            _log.error("worker {pid}: {line}", pid=self.pid, line=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and its log is complete."""
        self._log_errors(self._error_lines.rest())
        for line in self._log_lines.rest():
            self._log(line + b"\n")
        self.ended.callback(reason.getErrorMessage().rstrip("."))

    def _write(self, line: bytes) -> None:
        transport: Any = self.transport
        transport.write(line)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.killed = True
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        transport: Any = self.transport
        try:
            transport.signalProcess(number)
        except Exception:
            _log.debug("worker {pid} has just ended", pid=self.pid)


_log = Logger()
