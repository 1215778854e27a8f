"""
The log lines of the queues (`QueueLog`) and of ``--on-upload`` (`HookLog`), one method for
each.

Text that comes from a marker or a program is escaped here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import counted, format_duration, printable
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING
from twisted_upload.hooks.spool_scan import BadMarker

__all__ = ["MOST_LISTED", "HookLog", "QueueLog", "reason"]

MOST_LISTED = 10
"""Bad markers that are logged one by one for each scan; the rest are only counted."""


def reason(error: BaseException | None) -> str:
    """Return an error's text, without its number and file name."""
    return printable(getattr(error, "strerror", None) or str(error))


class QueueLog:
    """
    The log lines of a queue: those that all queues have, and what else there is to tell.

    :param path: returns the path of the drop folder.
    :param queue: name of the queue, without the dot.
    """

    def __init__(self, path: Callable[[], str], queue: str) -> None:
        self._path = path
        self._queue = queue

    # What each kind of queue words for itself

    def stopping(self, running: int) -> None:
        """Log that the daemon stops, and how many files are being worked on."""
        raise NotImplementedError

    def set_aside_before(self, count: int) -> None:
        """Log how many files were set aside before the start."""
        raise NotImplementedError

    def ended(self, name: str, end: HookEnd) -> None:
        """Log that the work on a file has ended, and that nothing follows for now."""
        raise NotImplementedError

    def waits(self, name: str) -> None:
        """Log that another process is still working on the file."""
        raise NotImplementedError

    def failed(self, name: str, end: HookEnd, attempt: int, attempts: int, pause: float) -> None:
        """Log that it has failed for a file, and will be tried again."""
        raise NotImplementedError

    def not_counted(self, name: str, end: HookEnd, pause: float, unlogged: int) -> None:
        """
        Log that an error of the system kept it from being tried, or its success from being
        recorded.

        :param unlogged: how often that has happened without a line since the last one.
        """
        raise NotImplementedError

    def set_aside(self, name: str, end: HookEnd, attempts: int) -> None:
        """Log that a file was set aside because it has failed too often."""
        raise NotImplementedError

    def cannot_set_aside(self, name: str, end: HookEnd, failure: Failure) -> None:
        """Log that a file should be set aside, but its marker cannot be moved."""
        raise NotImplementedError

    def all_fail(self, name: str, end: HookEnd, pause: float) -> None:
        """
        Log that it has failed for a file, and would for all.

        :param pause: seconds until the next try.
        """
        raise NotImplementedError

    def works_again(self, seconds: float) -> None:
        """
        Log that it works again.

        :param seconds: for how long it has failed.
        """
        raise NotImplementedError

    # What all queues have

    def bad(self, bad: Sequence[BadMarker]) -> None:
        """Log markers that are invalid."""
        for one in bad[:MOST_LISTED]:
            if one.aside:
                _log.error(
                    "{queue}: marker {name} is unusable: {why}; moved to {folder}",
                    queue=self._queue,
                    name=one.name,
                    why=printable(one.why),
                    folder=self._folder(FAILED),
                )
            else:
                _log.error(
                    "{queue}: marker {name} is unusable and cannot be moved: {why}; left in"
                    " {folder}",
                    queue=self._queue,
                    name=one.name,
                    why=printable(one.why),
                    folder=self._folder(WAITING),
                )
        if len(bad) > MOST_LISTED:
            more = counted(len(bad) - MOST_LISTED, "more marker")
            _log.error("{queue}: {more} cannot be used", queue=self._queue, more=more)

    def gone(self, count: int) -> None:
        """Log how many markers were removed because their files do not exist."""
        if count:
            _log.info(
                "{queue}: {files} removed, or never published",
                queue=self._queue,
                files=counted(count, "file"),
            )

    def not_read(self, error: OSError) -> None:
        """Log that some markers cannot be read at the moment."""
        _log.error(
            "{queue}: cannot read some of {folder}, will retry: {error}",
            queue=self._queue,
            folder=self._folder(),
            error=reason(error),
        )

    def cannot_look(self, failure: Failure) -> None:
        """Log that the queue cannot be read at all."""
        if not failure.check(OSError):
            self.defect(failure)
        _log.error(
            "{queue}: cannot read {folder}: {error}",
            queue=self._queue,
            folder=self._folder(),
            error=reason(failure.value),
        )

    def defect(self, failure: Failure) -> None:
        """Log an unexpected exception, with its traceback."""
        _log.failure("{queue}: internal error", failure, queue=self._queue)

    def _folder(self, *names: str) -> str:
        return os.path.join(self._path(), f".{self._queue}", *names)


class HookLog(QueueLog):
    """
    Writes the log lines of ``--on-upload``.

    :param path: returns the path of the drop folder.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        super().__init__(path, HOOKS[1:])

    def stopping(self, running: int) -> None:
        """See `QueueLog.stopping`."""
        if running:
            _log.info("stopping: waiting for {programs}", programs=counted(running, "program"))

    def set_aside_before(self, count: int) -> None:
        """See `QueueLog.set_aside_before`."""
        if count:
            _log.warn(
                "on-upload: the program was given up for {files}, see {folder}",
                files=counted(count, "file"),
                folder=self._folder(FAILED),
            )

    def ended(self, name: str, end: HookEnd) -> None:
        """See `QueueLog.ended`."""
        _log.info(
            "on-upload {name}: {end} ({took})",
            name=name,
            end=end.what,
            took=format_duration(end.seconds),
        )

    def waits(self, name: str) -> None:
        """See `QueueLog.waits`."""
        _log.warn("on-upload {name}: waiting for the program of a killed daemon to exit", name=name)

    def failed(self, name: str, end: HookEnd, attempt: int, attempts: int, pause: float) -> None:
        """See `QueueLog.failed`."""
        _log.warn(
            "on-upload {name}: {failed}, attempt {attempt} of {attempts}; retrying in"
            " {pause}{said}",
            name=name,
            failed=_failed(end),
            attempt=attempt,
            attempts=attempts,
            pause=format_duration(pause),
            said=_said(end),
        )

    def not_counted(self, name: str, end: HookEnd, pause: float, unlogged: int) -> None:
        """See `QueueLog.not_counted`."""
        more = f"; and {counted(unlogged, 'more time')} since the last such line"
        _log.warn(
            "on-upload {name}: {failed}; no attempt used, retrying in {pause}{more}",
            name=name,
            failed=_failed(end),
            pause=format_duration(pause),
            more=more if unlogged else "",
        )

    def set_aside(self, name: str, end: HookEnd, attempts: int) -> None:
        """See `QueueLog.set_aside`."""
        _log.critical(
            "on-upload {name}: {failed}, attempt {attempts} of {attempts}; GIVEN UP, see"
            " {folder}{said}",
            name=name,
            failed=_failed(end),
            attempts=attempts,
            folder=self._folder(FAILED),
            said=_said(end),
        )

    def cannot_set_aside(self, name: str, end: HookEnd, failure: Failure) -> None:
        """See `QueueLog.cannot_set_aside`."""
        _log.critical(
            "on-upload {name}: {failed}, given up, but its marker cannot be moved to {folder}:"
            " {error}{said}",
            name=name,
            failed=_failed(end),
            folder=self._folder(FAILED),
            error=reason(failure.value),
            said=_said(end),
        )


def _failed(end: HookEnd) -> str:
    return f"{end.what} ({format_duration(end.seconds)})"


def _said(end: HookEnd) -> str:
    return f"; output: {end.said}" if end.said else ""


_log = Logger()
