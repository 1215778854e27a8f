"""
The outcomes of uploads, for observers: the log, and anything else that counts,
records or acts.

A front end creates one `UploadOutcome` for each upload and passes it to its
observers, in the reactor thread, after the answer has been sent.  An observer is
fast, delays nothing, and never raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from twisted.logger import Logger, LogLevel, globalLogPublisher

from twisted_upload.core.text import counted, format_duration, format_size, printable
from twisted_upload.interfaces import NO_METADATA, Metadata

__all__ = ["OutcomeLog", "UploadObserver", "UploadOutcome", "log_outcome"]


class UploadOutcome(NamedTuple):
    """
    The outcome of one upload; as a text, one line for people.

    :ivar outcome: ``stored``, ``refused`` or ``aborted``.
    :ivar listener: the name of the listener that accepted it.
    :ivar peer: the sender, for people: ``192.0.2.7:50123``.
    :ivar size: bytes received.
    :ivar seconds: from the connection to the end.
    :ivar name: of the stored file.
    :ivar code: why it was refused: one of `twisted_upload.core.answers.CODES`.
    :ivar sha256: of the stored file, if requested.
    :ivar ended_by_idle: whether an idle timeout ended it, not a half-close.
    :ivar answered: false if the sender had disconnected before the answer.
    :ivar metadata: what the sender said about its file.
    """

    outcome: str
    listener: str
    peer: str
    size: int
    seconds: float
    name: str | None = None
    code: str | None = None
    sha256: str | None = None
    ended_by_idle: bool = False
    answered: bool = True
    metadata: Metadata = NO_METADATA

    def __str__(self) -> str:
        outcome, _, peer, size, seconds, name, code, _, ended_by_idle, answered, metadata = self
        # The exact size too: people search for it.
        came = counted(size, "byte") if size < 1024 else f"{format_size(size)} ({size} bytes)"
        rate = format_size(size / (seconds or 1e-3))
        what = f"{came} in {format_duration(seconds)}, {rate}/s, from {peer}"
        if metadata is not NO_METADATA:
            what += _said(metadata)
        if outcome == "refused":
            return f"refused ({code}) after {what}"
        if outcome == "aborted":
            return f"aborted by sender after {what}"
        notes = ", ended by idle timeout" if ended_by_idle else ""
        if not answered:
            notes += ", sender disconnected before the answer"
        return f"stored {name}: {what}{notes}"


def _said(metadata: Metadata) -> str:
    """Return what the sender said, quoted so that it cannot pass for anything else."""
    said = ""
    if metadata.original_name:
        path = f"{metadata.folder}/" if metadata.folder else ""
        said += f", original name {_quoted(path + metadata.original_name)}"
    if metadata.label:
        said += f", label {_quoted(metadata.label)}"
    return said


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


_INFO = LogLevel.info

UploadObserver = Callable[[UploadOutcome], object]


class OutcomeLog:
    """
    Logs outcomes; what the sender said is quoted and escaped.

    :param now: returns the time in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._log = _Log(now)

    def ended(self, ended: UploadOutcome) -> None:
        """Log an outcome."""
        log = self._log
        log.info("{upload}", ended)  # noqa: PLE1205 - it is not of `logging`

    def ended_with_listener(self, ended: UploadOutcome) -> None:
        """Log an outcome and its listener, if there are several listeners."""
        log = self._log
        log.info("{upload}, through {listener}", ended)  # noqa: PLE1205 - the same


class _Log:
    """
    Publishes what `Logger.info` would, with the fields of an outcome.

    `Logger.info` sorts all levels to check that this is one of them.  That took six
    times as long as everything else on a line's way to an observer.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._logger = Logger(namespace=__name__)

    def info(self, template: str, ended: UploadOutcome) -> None:
        # The observer that writes the line formats it; without one, it is never formatted.
        outcome, listener, peer, size, seconds, name, code, sha256, *_, metadata = ended
        globalLogPublisher(
            {
                "log_logger": self._logger,
                "log_level": _INFO,
                "log_namespace": __name__,
                "log_source": None,
                "log_format": template,
                "log_time": self._now(),
                "upload": ended,
                "outcome": outcome,
                "listener": listener,
                "peer": peer,
                "size": size,
                "seconds": seconds,
                "name": name,
                "code": code,
                "sha256": sha256,
                "ended_by_idle": ended.ended_by_idle,
                "answered": ended.answered,
                "metadata": metadata,
            }
        )


log_outcome = OutcomeLog(time.time).ended
"""Logs outcomes, for front ends that are told nothing else."""
