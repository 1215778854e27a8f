"""
The log: one line for each event, for people or, with ``--log-format json``, for
programs.

``2026-11-22T12:43:24Z stored 1795351404291.bin: ...``, in UTC.  Twisted's own text
observer takes as long for a line as the rest of the daemon for a small upload.  The
observers here format the time once a second, and use the text that the upload itself
provides.
"""

from __future__ import annotations

import os
import re
import select
import sys
import syslog
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO, cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer

from twisted_upload.core.log_format import LogFormat
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.core.text import counted
from twisted_upload.errors import CannotStart
from twisted_upload.observability.log_file import LogFile
from twisted_upload.observability.log_writer import LogWriter
from twisted_upload.observability.records import Timestamps, encode, encode_outcome
from twisted_upload.observability.symlinks import check_links

__all__ = [
    "JOURNAL_STREAM",
    "LineObserver",
    "is_journald",
    "is_loud",
    "observer_for",
    "to_syslog",
    "unbuffered",
]

JOURNAL_STREAM = "JOURNAL_STREAM"
"""The environment variable in which systemd names the stream to its journal."""

LARGEST_LOG = 16 * 1024 * 1024
"""Bytes of a log file after which a new one is begun."""

_LOUD = {"warn": "WARN ", "error": "ERROR ", "critical": "CRITICAL "}

_PRIORITIES = {
    "info": "<6>",
    "notice": "<5>",
    "warn": "<4>",
    "error": "<3>",
    "critical": "<2>",
}
"""The priorities of sd-daemon(3)."""

_PRIORITY = re.compile("<[0-7]>")

_SHOULD_BE_LOOKED_AT = re.compile(
    r"<[0-4]>"
    r"|[\d:T-]+Z (?:WARN|ERROR|CRITICAL) "
    r'|\{"time": ?"[^"]*", ?"level": ?"(?:warn|error|critical)"'
)


@implementer(ILogObserver)
class LineObserver:
    """
    Writes events to a stream in order.

    From `begin` on it writes in a thread, so that a stalled stream does not block anything
    else (see `twisted_upload.observability.log_writer`).

    :param write: writes text, to a line-buffered or unbuffered stream.
    :param form: the format of the log.
    :param journald: whether the stream goes to journald, or to another program that
        expects the priority of each line.
    :param clock: if given, the lines of uploads that end in the same iteration of the
        reactor are written together, at its end.  Writing lets another thread run, and
        the disk threads then delay the reactor for longer than the call itself takes.
    :param file: the log file, if the stream is one that can be rotated and reopened.
    :ivar write: writes complete lines that were formatted elsewhere.
    :ivar journald: the same as the parameter.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        form: LogFormat = LogFormat.TEXT,
        *,
        journald: bool = False,
        clock: IReactorTime | None = None,
        file: LogFile | None = None,
    ) -> None:
        # The thread has its own formatter, as it may format at any time.
        self._writer = LogWriter(write, _Lines(form, journald).dropped, is_loud)
        self.write = self._writer.write
        self.begin, self.finish = self._writer.begin, self._writer.finish
        self._file = file
        self.journald = journald
        self._lines = _Lines(form, journald)
        self._clock = clock
        self._held: list[_Held] = []

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event, or hold it back; ignore debug events.

        Every client that connects and sends nothing causes a debug event, and must not
        be able to fill the disk this way.
        """
        if event.get("log_level") is LogLevel.debug:
            return
        ended = event.get("upload")
        if isinstance(ended, UploadOutcome):
            alone = event["log_format"] == "{upload}"
            self._hold((event["log_time"], ended, "" if alone else _through(ended)))
            return
        text = self._held_back() + self._lines(event)
        if text:
            self.write(text)

    def ended(self, ended: UploadOutcome) -> None:
        """Write an upload's line, as `OutcomeLog.ended` does, but without creating an event."""
        self._hold((time.time(), ended, ""))

    def ended_with_listener(self, ended: UploadOutcome) -> None:
        """Write an upload's line, as `OutcomeLog.ended_with_listener` does."""
        self._hold((time.time(), ended, _through(ended)))

    def _hold(self, held: _Held) -> None:
        self._held.append(held)
        if self._clock is None:
            self.flush()
        elif len(self._held) == 1:
            self._clock.callLater(0, self.flush)

    def flush(self) -> None:
        """Write the lines that are held back."""
        if self._held:
            self.write(self._held_back())

    def _held_back(self) -> str:
        held, self._held = self._held, []
        return self._lines.of_ends(held)

    def rotate(self) -> None:
        """Begin a new log file, and keep the old one under another name."""
        if self._file is not None:
            self._writer.do(self._file.rotate)

    def reopen(self) -> None:
        """
        Open the log file by its name again, in case it was renamed or removed.

        If that fails, the old file is used further.
        """
        if self._file is not None:
            self._writer.do(self._file.reopen)


_Held = tuple[float, UploadOutcome, str]
"""When an upload ended, its outcome, and the text to append to its line."""


def _through(ended: UploadOutcome) -> str:
    return f", through {ended.listener}"


class _Lines:
    """
    Formats events as lines.

    :param journald: see `LineObserver`.
    """

    def __init__(self, form: str, journald: bool) -> None:
        self._journald = journald
        self._line = self._json if form is LogFormat.JSON else self._text
        self._of_end = self._json_of_end if form is LogFormat.JSON else self._text_of_end
        self._stamps = Timestamps()

    def __call__(self, event: LogEvent) -> str:
        """Return the line or lines of an event; an empty string if it has no text."""
        level = _level(event)
        line = self._line(event, level)
        if line is None:
            return ""
        if self._journald:
            priority = _PRIORITIES[level]
            line = priority + line.replace("\n", f"\n{priority}")
        return f"{line}\n"

    def of_ends(self, held: Iterable[_Held]) -> str:
        """Return the lines of uploads that have ended; one call for all takes less time."""
        lines = []
        for moment, ended, more in held:
            # If it was not stored: a level between info and warn.
            level = "info" if ended.outcome == "stored" else "notice"
            line = self._of_end(moment, ended, more, level)
            lines.append(f"{_PRIORITIES[level]}{line}\n" if self._journald else f"{line}\n")
        return "".join(lines)

    def dropped(self, lines: int) -> str:
        """Return a line that tells how many lines are missing."""
        told: list[LogEvent] = []
        log = Logger(observer=cast(ILogObserver, told.append))
        log.error(
            "{lines} missing here: the log was stalled for too long",
            lines=counted(lines, "log line"),
        )
        return "".join(map(self, told))

    def _text(self, event: LogEvent, level: str) -> str | None:
        text = _message(event)
        if "log_failure" in event:
            text = "\n".join(filter(None, (text, _traceback(event))))
        if not text:
            return None
        text = text.replace("\n", "\n\t")
        moment = self._stamps.seconds(event.get("log_time", 0.0))
        return f"{moment}Z {_LOUD.get(level, '')}{text}"

    def _json(self, event: LogEvent, level: str) -> str | None:
        fields = {"time": self._stamps.milliseconds(event.get("log_time", 0.0)), "level": level}
        message = _message(event)
        if "log_failure" in event:
            fields["message"] = message or event["log_failure"].getErrorMessage()
            fields["traceback"] = _traceback(event)
        elif message:
            fields["message"] = message
        else:
            return None
        return encode(fields)

    def _text_of_end(self, moment: float, ended: UploadOutcome, more: str, level: str) -> str:
        return f"{self._stamps.seconds(moment)}Z {ended!s}{more}"

    def _json_of_end(self, moment: float, ended: UploadOutcome, more: str, level: str) -> str:
        return encode_outcome(self._stamps.milliseconds(moment), ended, level)


def observer_for(
    twistd: Mapping[str, Any],
    environment: Mapping[str, str],
    form: LogFormat = LogFormat.TEXT,
    clock: IReactorTime | None = None,
) -> LineObserver:
    """
    Return an observer for the destination that twistd's ``--syslog``, ``--logfile`` and
    ``--nodaemon`` select.

    :param environment: the environment variables, which tell whether standard output
        goes to journald.
    :param form: the format of the log.
    :param clock: see `LineObserver`.
    :raises CannotStart: the log file cannot be written.
    """
    if twistd.get("syslog"):
        sink = to_syslog(str(twistd.get("prefix", "twisted")), syslog.syslog)
        return LineObserver(sink, form, journald=True, clock=clock)
    name = twistd.get("logfile")
    nodaemon = twistd.get("nodaemon")
    if name == "-" and not nodaemon:
        raise CannotStart("--logfile: a daemon in the background has no standard output")
    if name == "-" or (nodaemon and not name):
        journald = is_journald(sys.stdout.fileno(), environment)
        return LineObserver(unbuffered(sys.stdout), form, journald=journald, clock=clock)
    name = name or "twistd.log"
    uid = twistd.get("uid")
    try:
        check_links(name, () if uid is None else (uid,))
        file = LogFile(name, LARGEST_LOG)
    except OSError as error:
        raise CannotStart(f"--logfile: cannot write {name}: {error.strerror}") from error
    return LineObserver(lambda text: file.write(_encoded(text)), form, clock=clock, file=file)


def is_journald(descriptor: int, environment: Mapping[str, str]) -> bool:
    """
    Return whether a descriptor is connected to systemd's journal: ``JOURNAL_STREAM``
    contains its device and inode numbers, systemd.exec(5).
    """
    stat = os.fstat(descriptor)
    return environment.get(JOURNAL_STREAM) == f"{stat.st_dev}:{stat.st_ino}"


def unbuffered(stream: TextIO) -> Callable[[str], object]:
    """
    Return a function that writes text directly to a stream's descriptor, and blocks until
    all of it is written.

    The function raises `OSError` if the other end is closed.
    """
    stream.flush()
    descriptor = stream.fileno()

    def write(text: str) -> None:
        data = _encoded(text)
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # made non-blocking by a process that shares it
                again = select.poll()
                again.register(descriptor, select.POLLOUT)
                again.poll()

    return write


def to_syslog(prefix: str, send: Callable[[int, str], object]) -> Callable[[str], object]:
    """
    Return a function that sends lines beginning with their priorities to the system log,
    which may block for a long time.

    A line without a priority is sent with LOG_INFO: it was printed in a worker process,
    or is incomplete.

    :param prefix: prefix of each line.
    :param send: a function like `syslog.syslog`.
    """
    syslog.openlog(prefix)

    def write(text: str) -> None:
        for line in _encoded(text).decode().replace("\0", "\\x00").rstrip("\n").split("\n"):
            if _PRIORITY.match(line):
                send(int(line[1]), line[3:])
            else:
                send(syslog.LOG_INFO, line)

    return write


def is_loud(line: str) -> bool:
    """Return whether a log line needs attention: a warning, an error or worse."""
    return _SHOULD_BE_LOOKED_AT.match(line) is not None


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _message(event: LogEvent) -> str:
    template = event.get("log_format")
    if isinstance(template, str) and "()" not in template:
        try:
            return template.format_map(event).strip()
        except Exception:
            return formatEvent(event).strip()
    return formatEvent(event).strip()


def _traceback(event: LogEvent) -> str:
    return str(event["log_failure"].getTraceback()).rstrip()
