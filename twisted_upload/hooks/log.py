"""
What ``--on-upload`` tells an operator: a line for each thing.

What comes from a marker, or from a program, is escaped here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import format_duration, printable
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING
from twisted_upload.hooks.spool_scan import BadMarker

__all__ = ["MOST_LISTED", "HookLog", "reason"]

MOST_LISTED = 10
"""Bad markers that are named one by one, each time the queue is looked at."""


def reason(error: BaseException | None) -> str:
    """What an error is, without numbers and names of files."""
    return printable(getattr(error, "strerror", None) or str(error))


class HookLog:
    """
    The lines.

    :param path: tells the drop folder.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        self._path = path

    def stopping(self, running: int) -> None:
        """It was told to stop, and programs run."""
        if running:
            _log.info("stopping: {running} programs may go on", running=running)

    # The queue

    def set_aside_before(self, count: int) -> None:
        """At the start, so many files have been set aside."""
        if count:
            _log.warn(
                "on-upload: {count} files are set aside in {folder}",
                count=count,
                folder=self._folder(FAILED),
            )

    def bad(self, bad: Sequence[BadMarker]) -> None:
        """Markers are not what we write."""
        for one in bad[:MOST_LISTED]:
            if one.aside:
                _log.error(
                    "on-upload: the marker {name} cannot be used: {why}; set aside in {folder}",
                    name=one.name,
                    why=printable(one.why),
                    folder=self._folder(FAILED),
                )
            else:
                _log.error(
                    "on-upload: the marker {name} can neither be used nor set aside: {why};"
                    " left in {folder}",
                    name=one.name,
                    why=printable(one.why),
                    folder=self._folder(WAITING),
                )
        if len(bad) > MOST_LISTED:
            _log.error(
                "on-upload: {count} more markers cannot be used", count=len(bad) - MOST_LISTED
            )

    def gone(self, count: int) -> None:
        """So many markers were removed, because they have no files."""
        if count:
            _log.info("on-upload: {count} files are gone, or never came", count=count)

    def not_read(self, error: OSError) -> None:
        """Some markers cannot be read just now."""
        _log.error(
            "on-upload: cannot read some of {folder} just now: {error}",
            folder=self._folder(),
            error=reason(error),
        )

    def cannot_look(self, failure: Failure) -> None:
        """Nothing of the queue can be read."""
        if not failure.check(OSError):
            self.defect(failure)
        _log.error(
            "on-upload: cannot read {folder}: {error}",
            folder=self._folder(),
            error=reason(failure.value),
        )

    # One file

    def ended(self, name: str, end: HookEnd) -> None:
        """Its program has ended, and nothing else is to be done just now."""
        _log.info(
            "on-upload {name}: {end} ({took})",
            name=name,
            end=end.what,
            took=format_duration(end.seconds),
        )

    def waits(self, name: str) -> None:
        """A program that somebody else has started for it still runs."""
        _log.warn(
            "on-upload {name}: waiting for the program of a daemon that was killed", name=name
        )

    def failed(self, name: str, end: HookEnd, attempt: int, attempts: int, pause: float) -> None:
        """Its program has failed, and is started again."""
        _log.warn(
            "on-upload {name}: {failed}, attempt {attempt} of {attempts}; again in {pause}{said}",
            name=name,
            failed=_failed(end),
            attempt=attempt,
            attempts=attempts,
            pause=format_duration(pause),
            said=_said(end),
        )

    def set_aside(self, name: str, end: HookEnd, attempts: int) -> None:
        """Its program has failed too often."""
        _log.critical(
            "on-upload {name}: {failed}, attempt {attempts} of {attempts};"
            " SET ASIDE in {folder}{said}",
            name=name,
            failed=_failed(end),
            attempts=attempts,
            folder=self._folder(FAILED),
            said=_said(end),
        )

    def cannot_set_aside(self, name: str, end: HookEnd, failure: Failure) -> None:
        """The same, but its marker cannot be moved."""
        _log.critical(
            "on-upload {name}: {failed}, and cannot be set aside in {folder}: {error}{said}",
            name=name,
            failed=_failed(end),
            folder=self._folder(FAILED),
            error=reason(failure.value),
            said=_said(end),
        )

    def defect(self, failure: Failure) -> None:
        """What should not be."""
        _log.failure("on-upload: a defect", failure)

    def _folder(self, *names: str) -> str:
        return os.path.join(self._path(), HOOKS, *names)


def _failed(end: HookEnd) -> str:
    return f"{end.what} ({format_duration(end.seconds)})"


def _said(end: HookEnd) -> str:
    return f"; it said: {end.said}" if end.said else ""


_log = Logger()
