"""
What a watched folder reports: a line for each file that was stored, lines about trouble, and
the status.

Trouble that lasts is reported when it begins, from time to time, and when it ends; not at
each attempt.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_upload.client.watch.folder import FolderScan, Found
from twisted_upload.client.watch.record import SentFile
from twisted_upload.client.watch.status import WatchStatus
from twisted_upload.core.text import counted, format_duration, format_size, printable

__all__ = ["STILL_LINE", "WatchReport"]

STILL_LINE = 600.0
"""Minimum seconds between lines about the same trouble."""

STATUS_INTERVAL = 1.0
"""Minimum seconds between two writes of the status."""

_MOST_REFUSED = 100


class WatchReport:
    """
    Reports what happens.

    :param status: updated.
    :param say: called with each line.
    :param write: writes the status.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        status: WatchStatus,
        say: Callable[[str], object],
        write: Callable[[WatchStatus], object],
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._status = status
        self._say = say
        self._write = write
        self._clock = clock
        self._now = now
        self._told = 0.0
        self._strange: set[str] = set()
        self._timer: IDelayedCall | None = None

    def scanned(self, scan: FolderScan, waiting: int) -> None:
        """See `IWatchReport`."""
        status = self._status
        status.waiting, status.waiting_bytes = waiting, scan.size
        refused = {found.path for found in scan.complete}
        status.refused = {path: it for path, it in status.refused.items() if path in refused}
        strange = dict.fromkeys(scan.others, "not a regular file: left alone")
        strange |= {path: f"cannot be read: {why}" for path, why in scan.unreadable.items()}
        for path, why in strange.items():
            if path not in self._strange:
                self._line(path, why)
        self._strange = set(strange)
        if status.trouble.startswith("the folder"):
            self._works_again("the folder can be read again")
        self._changed()

    def begun(self, found: Found) -> None:
        """See `IWatchReport`."""
        self._status.sending[found.path] = [0, found.identity.size]
        self._changed()

    def progress(self, path: str, sent: int, total: int | None) -> None:
        """Note how much of a file was sent."""
        if path in self._status.sending:
            self._status.sending[path] = [sent, total]
            self._changed()

    def stored(self, found: Found, sent: SentFile, done: str) -> None:
        """See `IWatchReport`."""
        status, size = self._status, sent.identity.size
        status.stored += 1
        status.stored_bytes += size
        status.last_stored, status.last_stored_at = found.path, self._now()
        status.refused.pop(found.path, None)
        if status.trouble:
            self._works_again("files are stored again")
        then = f"; {done}" if done else ""
        self._line(found.path, f"stored as {sent.name}, {format_size(size)}{then}")

    def failed(self, found: Found, error: BaseException, pause: float, *, alone: bool) -> None:
        """See `IWatchReport`."""
        again = f"next attempt in {format_duration(pause)}"
        if alone:
            refused = self._status.refused
            if found.path not in refused or refused[found.path] != str(error):
                self._line(found.path, f"{error}; {again}")
            if found.path in refused or len(refused) < _MOST_REFUSED:
                refused[found.path] = str(error)
            self._changed()
        else:
            self._trouble(f"{error}", again)

    def not_scanned(self, error: Exception) -> None:
        """See `IWatchReport`."""
        self._trouble(f"the folder cannot be read: {getattr(error, 'strerror', error)}", "")

    def ended(self, found: Found) -> None:
        """See `IWatchReport`."""
        self._status.sending.pop(found.path, None)
        self._changed()

    def close(self) -> None:
        """Write the status for the last time."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._write_now()

    def _trouble(self, what: str, again: str) -> None:
        status, now = self._status, self._now()
        is_new = not status.trouble
        if is_new:
            status.trouble_since = now
        if is_new or now - self._told >= STILL_LINE:
            self._told = now
            for_long = f" (for {format_duration(now - status.trouble_since)})" if not is_new else ""
            waiting = counted(status.waiting, "file")
            self._say(printable(f"{what}{for_long}; {waiting} waiting{again and '; ' + again}"))
        status.trouble = what
        self._changed()

    def _works_again(self, what: str) -> None:
        status = self._status
        lasted = format_duration(max(0.0, self._now() - status.trouble_since))
        self._say(f"{what}, after {lasted}")
        status.trouble, status.trouble_since = "", 0.0

    def _line(self, path: str, what: str) -> None:
        self._say(printable(f"{path}: {what}"))
        self._changed()

    def _changed(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(STATUS_INTERVAL, self._write_now)

    def _write_now(self) -> None:
        self._timer = None
        self._status.updated = self._now()
        self._write(self._status)
