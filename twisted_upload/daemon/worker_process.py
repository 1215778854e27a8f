"""
One worker process, as its supervisor sees it.

Whatever a worker does or fails to do, its cost is bounded: endless or invalid output is
discarded, and of the messages that a busy worker has not read, only the last of each
kind is kept.
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
from twisted_upload.daemon.worker_protocol import APPLIED, CERTIFICATES, REPORTS
from twisted_upload.observability.multiprocess import ReportingWorker

__all__ = ["WorkerProcess"]

LONGEST_LINE = 4 * 1024 * 1024
"""Maximum length of a line of a worker, in bytes; longer ones are discarded."""


class _LineSplitter:
    """Splits data into lines; discards those that are too long."""

    def __init__(self) -> None:
        self._partial = b""
        self._skipping = False

    def take(self, data: bytes) -> list[bytes]:
        """Return the lines that are now complete, without their newlines."""
        *lines, partial = (self._partial + data).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if self._skipping or len(partial) > LONGEST_LINE:
            self._skipping, partial = True, b""
        self._partial = partial
        return lines

    def rest(self) -> list[bytes]:
        """Return the incomplete last line, if there is one."""
        return self.take(b"\n") if self._partial else []


class WorkerProcess(ProcessProtocol):
    """
    One worker process.

    :param clock: tells the time.
    :param configuration: sent to it at once.
    :param log: called with whole lines of its log.
    :param became_ready: called when it serves.
    :ivar since: when it was started, by the clock.
    :ivar ready: it serves.
    :ivar stuck: it has reported that it no longer works.
    :ivar killed: it has been killed.
    :ivar counts: its uploads in flight and stored.
    :ivar ended: fires with the reason, in words.
    :ivar reporting: asks it for reports.
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
        self._invalid_logged = False
        self._idle = False  # it has applied the last message
        self._pending: dict[bool, str] = {}  # the last message of each kind

    @property
    def silence(self) -> float:
        """Seconds for which it has shown no sign of life."""
        return self._clock.seconds() - self._alive

    def discount(self, seconds: float) -> None:
        """Do not count this time, during which nothing could be received from it."""
        self._alive = min(self._clock.seconds(), self._alive + max(0.0, seconds))

    def connectionMade(self) -> None:
        """Send the configuration: the process runs."""
        transport: Any = self.transport
        self.pid = transport.pid
        self._write(self._configuration.encode() + b"\n")

    def tell(self, line: str) -> None:
        """Send a configuration or certificates once it has applied the previous message."""
        # The last of each kind replaces those that were not sent yet.
        self._pending[line.startswith(CERTIFICATES)] = line
        self._send_next()

    def _send_next(self) -> None:
        if self._idle and self._pending:
            self._idle = False
            line = self._pending.pop(next(iter(self._pending)))
            self._write(line.encode() + b"\n")

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803 - Twisted's
        """Handle a part of its output."""
        if childFD != REPORTS:
            super().childDataReceived(childFD, data)
            return
        self._alive = self._clock.seconds()
        for line in self._report_lines.take(data):
            try:
                self._parse(line)
            except Exception:
                if not self._invalid_logged:
                    self._invalid_logged = True
                    _log.error(
                        "invalid message from worker {pid}: {line}",
                        pid=self.pid,
                        line=printable(line[:80].decode("ascii", "replace")),
                    )

    def _parse(self, line: bytes) -> None:
        if line.startswith(b"["):
            self.reporting.received(line + b"\n")
            return
        name, _, value = line.decode("ascii").partition("=")
        if name == "READY":
            self.ready = self._idle = True
            self._became_ready()
            self._send_next()
        elif line == APPLIED.encode():
            self._idle = True
            self._send_next()
        elif name == "COUNTS":
            self.counts = Counts(*map(int, value.split()))
        elif name == "WATCHDOG":
            self.stuck = value == "trigger"

    def outReceived(self, data: bytes) -> None:
        """Copy a part of its log."""
        lines = self._log_lines.take(data)
        if lines:
            self._log(b"\n".join(lines) + b"\n")

    def errReceived(self, data: bytes) -> None:
        """Log its standard error: from Python itself, or a worker that cannot start."""
        self._log_errors(self._error_lines.take(data))

    def _log_errors(self, lines: list[bytes]) -> None:
        for line in lines:
            _log.error("worker {pid}: {line}", pid=self.pid, line=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        """Flush incomplete lines: the process is gone, and its log is complete."""
        self._log_errors(self._error_lines.rest())
        for line in self._log_lines.rest():
            self._log(line + b"\n")
        self.ended.callback(reason.getErrorMessage().rstrip("."))

    def _write(self, line: bytes) -> None:
        transport: Any = self.transport
        transport.write(line)

    def kill(self) -> None:
        """Kill it, whatever it is doing."""
        self.killed = True
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still running."""
        transport: Any = self.transport
        try:
            transport.signalProcess(number)
        except Exception:
            _log.debug("worker {pid} has just exited", pid=self.pid)


_log = Logger()
