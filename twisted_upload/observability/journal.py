"""
The journal of uploads: a line of JSON for each upload that was stored, refused or
aborted.

The reactor only collects lines.  A dedicated thread appends them, at most `INTERVAL`
after the first of them if the disk is fast.  If the disk is slow or full, lines may be
dropped and counted, but uploads are not affected.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.core.text import counted
from twisted_upload.disk.threads import IDisk
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.observability.records import GAP, Timestamps, encode, encode_outcome

__all__ = ["INTERVAL", "MOST_WAITING", "Journal"]

INTERVAL = 0.5
"""Seconds for which lines are collected, and between two attempts to write."""

MOST_WAITING = 8 * 1024 * 1024
"""Bytes of lines that may wait for the disk; further lines are dropped."""

REPORT_INTERVAL = 60.0
"""Seconds between two log lines about trouble."""


class Journal:
    """
    An observer of uploads that writes the journal.

    :param files: the files to write to.
    :param disk: a dedicated thread, as writing may stall for a long time.
    :param clock: schedules writes.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self, files: JournalFiles, disk: IDisk, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self._files = files
        self._disk = disk
        self._clock = clock
        self._now = now
        self._stamps = Timestamps()
        self._lines: list[str] = []
        self._taken: list[str] = []  # lines that are being written
        self._waiting = 0  # bytes of both
        self._dropped = 0  # lines dropped since the last successful write
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._trouble = _Trouble(f"journal {files.path}", clock)

    def open(self) -> None:
        """
        Check the journal's files.

        :raises CannotStart: the journal cannot be written.
        """
        self._files.check()

    def __call__(self, ended: UploadOutcome) -> None:
        """Add a line for an upload, to be written soon."""
        line = encode_outcome(self._moment(), ended) + "\n"
        if self._waiting + len(line) > MOST_WAITING:
            self._dropped += 1
            self._trouble.came("the disk is too slow", dropped=1)
            return
        self._lines.append(line)
        self._waiting += len(line)
        if self._timer is None and self._writing is None:
            self._timer = self._clock.callLater(INTERVAL, self._write)

    async def close(self) -> None:
        """
        Write all collected lines, in one attempt.

        The number of lines that are lost is logged.  Cancel this to stop waiting for
        the disk.
        """
        try:
            if self._writing is not None:
                await self._writing
            if self._timer is not None:
                self._timer.cancel()
                await self._write()
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._trouble.close(len(self._taken) + len(self._lines))

    def _moment(self) -> str:
        return self._stamps.milliseconds(self._now())

    def _write(self) -> Deferred[None]:
        self._timer = None
        self._taken, self._lines = self._lines, []
        dropped = self._dropped
        text = "".join(self._taken)
        if dropped:
            text += encode({"time": self._moment(), "event": GAP, "lines": dropped}) + "\n"
        data = text.encode("ascii")
        writing = self._writing = Deferred()
        self._disk.run(lambda: self._files.append(data)).addCallbacks(
            self._written, self._failed, (dropped,)
        ).addCallback(self._done)
        return writing

    def _written(self, not_synced: OSError | None, dropped: int) -> None:
        self._waiting -= sum(map(len, self._taken))
        self._dropped -= dropped
        self._taken = []
        if not_synced is not None:
            self._trouble.came(f"cannot sync: {not_synced.strerror}")

    def _failed(self, failure: Failure) -> None:
        self._lines = self._taken + self._lines
        self._taken = []
        error = failure.value
        self._trouble.came(f"cannot write: {getattr(error, 'strerror', None) or error}")

    def _done(self, _: object) -> None:
        if self._lines or self._dropped:
            self._timer = self._clock.callLater(INTERVAL, self._write)
        writing, self._writing = self._writing, None
        assert writing is not None
        writing.callback(None)


class _Trouble:
    """
    Logs trouble: at once, then at most every `REPORT_INTERVAL` seconds.

    :param what: what is in trouble, as in the log lines.
    """

    def __init__(self, what: str, clock: IReactorTime) -> None:
        self._what = what
        self._clock = clock
        self._why = ""
        self._dropped = 0
        self._timer: IDelayedCall | None = None

    def came(self, why: str, *, dropped: int = 0) -> None:
        """Note that something went wrong, and how many lines were dropped."""
        self._why = why
        self._dropped += dropped
        if self._timer is None:
            self._tell()

    def close(self, lost: int) -> None:
        """Log how many lines will never be written, and stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lost += self._dropped
        if lost:
            lines = counted(lost, "line")
            _log.error("{what}: {lines} could not be written", what=self._what, lines=lines)

    def _tell(self) -> None:
        if not self._why:
            self._timer = None
            _log.warn("{what}: writing again", what=self._what)
            return
        lines = f"; lines dropped: {self._dropped}" if self._dropped else ""
        _log.error(
            "{what}: {why}; uploads continue{lines}", what=self._what, why=self._why, lines=lines
        )
        self._why, self._dropped = "", 0
        self._timer = self._clock.callLater(REPORT_INTERVAL, self._tell)


_log = Logger()
