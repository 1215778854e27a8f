"""
The log lines of ``--forward``, one method for each.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.text import counted, format_duration, printable
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.folders import FAILED, FORWARD
from twisted_upload.hooks.log import QueueLog, reason

__all__ = ["TELL_INTERVAL", "ForwardLog"]

TELL_INTERVAL = 600.0
"""Minimum seconds between log lines about an object store that is away."""


class ForwardLog(QueueLog):
    """
    Writes the log lines.  That a file was forwarded has none.

    :param path: returns the path of the drop folder.
    :param clock: tells the time.
    """

    def __init__(self, path: Callable[[], str], clock: IReactorTime) -> None:
        super().__init__(path, FORWARD[1:])
        self._clock = clock
        self._told = float("-inf")
        self._tells = False  # that it works again

    def stopping(self, running: int) -> None:
        """See `QueueLog.stopping`."""
        if running:
            _log.info(
                "stopping: waiting for {files} being forwarded", files=counted(running, "file")
            )

    def set_aside_before(self, count: int) -> None:
        """See `QueueLog.set_aside_before`."""
        if count:
            _log.warn(
                "forward: {files} rejected by the object store, or with an unusable marker, see"
                " {folder}",
                files=counted(count, "file"),
                folder=self._folder(FAILED),
            )

    def ended(self, name: str, end: HookEnd) -> None:
        """See `QueueLog.ended`."""
        if not end.ran:
            _log.warn("forward {name}: {end}", name=name, end=end.what)

    def waits(self, name: str) -> None:
        """See `QueueLog.waits`."""
        _log.info("forward {name}: another process is forwarding it", name=name)

    def failed(self, name: str, end: HookEnd, attempt: int, attempts: int, pause: float) -> None:
        """See `QueueLog.failed`."""
        _log.warn(
            "forward {name}: {failed}, attempt {attempt} of {attempts}; retrying in {pause}",
            name=name,
            failed=printable(end.what),
            attempt=attempt,
            attempts=attempts,
            pause=format_duration(pause),
        )

    def not_counted(self, name: str, end: HookEnd, pause: float, unlogged: int) -> None:
        """See `QueueLog.not_counted`."""
        more = f"; and {counted(unlogged, 'more time')} since the last such line"
        _log.warn(
            "forward {name}: {failed}; retrying in {pause}{more}",
            name=name,
            failed=printable(end.what),
            pause=format_duration(pause),
            more=more if unlogged else "",
        )

    def set_aside(self, name: str, end: HookEnd, attempts: int) -> None:
        """See `QueueLog.set_aside`."""
        _log.error(
            "forward {name}: {failed}, attempt {attempts} of {attempts}; retrying every hour, see"
            " {folder}",
            name=name,
            failed=printable(end.what),
            attempts=attempts,
            folder=self._folder(FAILED),
        )

    def cannot_set_aside(self, name: str, end: HookEnd, failure: Failure) -> None:
        """See `QueueLog.cannot_set_aside`."""
        _log.error(
            "forward {name}: {failed}, and its marker cannot be moved to {folder}: {error}",
            name=name,
            failed=printable(end.what),
            folder=self._folder(FAILED),
            error=reason(failure.value),
        )

    def all_fail(self, name: str, end: HookEnd, pause: float) -> None:
        """See `QueueLog.all_fail`."""
        now = self._clock.seconds()
        if now - self._told < TELL_INTERVAL:
            return
        self._told, self._tells = now, True
        _log.error(
            "forward {name}: {failed}; files wait in {path}, retrying in {pause}",
            name=name,
            failed=printable(end.what),
            path=self._path(),
            pause=format_duration(pause),
        )

    def works_again(self, seconds: float) -> None:
        """See `QueueLog.works_again`."""
        if self._tells:
            self._tells = False
            _log.info(
                "forward: the object store works again, after {time}", time=format_duration(seconds)
            )


_log = Logger()
