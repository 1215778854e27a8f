"""
The journal of uploads: a line of JSON for each upload that was kept, refused or
lost.

The reactor only collects lines.  A thread of the journal's own appends them,
`INTERVAL` after the first of them at the latest where the disk is quick.  A
disk that is slow or full costs lines, which are counted, and never an upload.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.disk.threads import IDisk
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.observability.records import GAP, Timestamps, encode, encode_outcome

__all__ = ["INTERVAL", "MOST_WAITING", "Journal"]

INTERVAL = 0.5
"""Seconds for which lines are collected; and between two attempts."""

MOST_WAITING = 8 * 1024 * 1024
"""Bytes of lines that wait for the disk; what comes beyond is dropped."""

COMPLAIN = 60.0
"""Seconds between two complaints in the log."""


class Journal:
    """
    An observer of uploads that writes a journal.

    :param files: where lines go.
    :param disk: a thread of its own for that: it may stand still for long.
    :param clock: calls later.
    :param now: tells seconds since the epoch.
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
        self._taken: list[str] = []  # those of them that are being written
        self._waiting = 0  # bytes of both
        self._dropped = 0  # lines, since some were written
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._trouble = _Trouble(f"journal {files.path}", clock)

    def open(self) -> None:
        """
        Learn early what is wrong.

        :raises CannotStart: it cannot be written.
        """
        self._files.check()

    def __call__(self, ended: UploadOutcome) -> None:
        """Write it down, some time soon."""
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
        Write all that there is, in one attempt; lines that are lost then are
        counted in the log.  Cancel it to stop waiting for the disk.
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
    Complains in the log, at once and then once in `COMPLAIN`.

    :param what: is in trouble.
    """

    def __init__(self, what: str, clock: IReactorTime) -> None:
        self._what = what
        self._clock = clock
        self._why = ""
        self._dropped = 0
        self._timer: IDelayedCall | None = None

    def came(self, why: str, *, dropped: int = 0) -> None:
        """Something went wrong, and cost so many lines."""
        self._why = why
        self._dropped += dropped
        if self._timer is None:
            self._tell()

    def close(self, lost: int) -> None:
        """Have the last word: so many lines are never written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lost += self._dropped
        if lost:
            _log.error("{what}: {lost} lines could not be written", what=self._what, lost=lost)

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
        self._timer = self._clock.callLater(COMPLAIN, self._tell)


_log = Logger()
