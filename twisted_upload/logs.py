"""
The log: one line for each event, for people.

``2026-11-22T12:43:24Z kept 1795351404291.bin: ...``, in UTC.  Twisted's own text
observer spends as much on a line as the rest of the daemon on a small upload;
this one formats the time once a second and leaves the rest to `str.format_map`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.logfile import LogFile
from zope.interface import implementer

from twisted_upload.errors import CannotStart

__all__ = ["LineObserver", "observer_for", "unbuffered"]

LARGEST_LOG = 16 * 1024 * 1024
"""Bytes of a log file before another is begun."""

_LOUD = (LogLevel.warn, LogLevel.error, LogLevel.critical)


@implementer(ILogObserver)
class LineObserver:
    """
    Writes events to a stream, as they come.

    :param write: takes text; as of a line-buffered or unbuffered stream.
    :ivar write: the same, for lines that somebody else has finished.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self._second = 0
        self._time = ""

    def __call__(self, event: LogEvent) -> None:
        """
        Write one event, unless it is for debugging: whoever connects and says
        nothing makes one of those, and must not be able to fill a disk so.
        """
        if event.get("log_level") is LogLevel.debug:
            return
        text = _text(event)
        if text is None:
            return
        second = int(event.get("log_time", 0.0))
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        level = event.get("log_level")
        loud = f"{level.name.upper()} " if level in _LOUD else ""
        self.write(f"{self._time} {loud}{text}\n")


def observer_for(twistd: Mapping[str, Any]) -> LineObserver:
    """
    An observer that writes where twistd's ``--logfile`` and ``--nodaemon`` want
    it.  SIGUSR1 begins another log file, as it does with twistd's own.

    :raises CannotStart: the log file cannot be written.
    """
    name = twistd.get("logfile")
    nodaemon = twistd.get("nodaemon")
    if name == "-" and not nodaemon:
        raise CannotStart("--logfile: a daemon in the background has no standard output")
    if name == "-" or (nodaemon and not name):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        return LineObserver(unbuffered(sys.stdout))
    name = name or "twistd.log"
    try:
        file = LogFile.fromFullPath(name, rotateLength=LARGEST_LOG)
    except OSError as error:
        raise CannotStart(f"--logfile: cannot write {name}: {error.strerror}") from error
    signal.signal(signal.SIGUSR1, lambda *_: file.rotate())
    return LineObserver(file.write)


def unbuffered(stream: TextIO) -> Callable[[str], object]:
    """What writes text to a stream's descriptor at once."""
    stream.flush()
    descriptor = stream.fileno()

    def write(text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except OSError:
                return  # nobody reads any more: not a reason to stop serving

    return write


def _text(event: LogEvent) -> str | None:
    template = event.get("log_format")
    text = None
    if isinstance(template, str) and "()" not in template:
        try:
            text = template.format_map(event)
        except Exception:
            text = None
    if text is None:
        text = formatEvent(event)
    text = text.strip()
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}" if text else failure.getTraceback()
    if not text:
        return None
    return text.replace("\n", "\n\t")
