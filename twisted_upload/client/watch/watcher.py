"""
Store and forward: sends each file of a folder once it is complete, and deletes or moves it
only when the server has stored it.

**Nothing is deleted or moved that the server has not stored with the same SHA-256**, as its
receipt says and as the record on disk says (`twisted_upload.client.watch.record`).
**Nothing is sent twice**: what was interrupted is resumed, and a file that is in the record
is not sent again.  Whatever fails is tried again, for as long as it takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_upload.client.watch.after import IAfter
from twisted_upload.client.watch.folder import FolderScan, Found, WatchedFolder
from twisted_upload.client.watch.record import Same, SentFile, SentRecord, identity_of
from twisted_upload.errors import SourceFailed, UploadError, UploadRefused
from twisted_upload.interfaces import Receipt

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "FilePauses", "ISender", "IWatchReport", "Watcher"]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the server is tried again, at first and at most; the pause doubles."""

FILE_PAUSE, LONGEST_FILE_PAUSE = 60.0, 3600.0
"""Seconds before a file that the server has refused is tried again, at first and at most."""

SOON = 0.1
"""Seconds before a scan because something has come."""

T = TypeVar("T")


class ISender(Protocol):
    """Sends files."""

    def send(self, path: str, name: str) -> Deferred[Receipt]:
        """
        Send a file, or the rest of one that was interrupted.

        :param path: its path.
        :param name: its path relative to the folder.
        :return: fires with a receipt that has its name and the SHA-256 of the file; fails
            with an `UploadError`.  Cancel it to stop; the rest can be sent later.
        """

    def recorded(self, path: str) -> None:
        """Note that a file is in the record: it is not sent again.  Called in a thread."""


class Threads(Protocol):
    """Runs what waits for a disk, in order."""

    def __call__(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job."""


class IWatchReport(Protocol):
    """Is told what happens."""

    def scanned(self, scan: FolderScan, waiting: int) -> None:
        """Take what a scan has found; ``waiting``: files that are still to be sent."""

    def begun(self, found: Found) -> None:
        """Note that a file is being sent."""

    def stored(self, found: Found, sent: SentFile, done: str) -> None:
        """Note that a file was stored, and what was done with it after that."""

    def failed(self, found: Found, error: BaseException, pause: float, *, alone: bool) -> None:
        """
        Note that a file was not stored.

        :param pause: seconds until it is tried again.
        :param alone: whether that concerns this file only; otherwise all are tried again then.
        """

    def not_scanned(self, error: Exception) -> None:
        """Note that the folder cannot be read."""

    def ended(self, found: Found) -> None:
        """Note that a file is no longer being sent."""


@dataclass(slots=True)
class _Pause:
    until: float
    seconds: float


class FilePauses:
    """
    When each file that has failed is tried again.

    :param first: seconds of the first pause.
    :param longest: seconds of the longest; each is twice the one before.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._pauses: dict[str, _Pause] = {}

    def pauses(self, path: str, now: float) -> bool:
        """Return whether a file has to wait."""
        pause = self._pauses.get(path)
        return pause is not None and now < pause.until

    def failed(self, path: str, now: float) -> float:
        """Have a file wait; return how many seconds."""
        known = self._pauses.get(path)
        seconds = self._first if known is None else min(known.seconds * 2, self._longest)
        self._pauses[path] = _Pause(now + seconds, seconds)
        return seconds

    def keep(self, paths: set[str]) -> None:
        """Forget all other files."""
        self._pauses = {path: it for path, it in self._pauses.items() if path in paths}

    def forget(self, path: str) -> None:
        """Forget a file."""
        self._pauses.pop(path, None)


class _Gone(Exception):
    """The file was removed meanwhile."""


class Watcher:
    """
    Watches a folder.

    :param record: of the files that have been stored.
    :param sender: sends files.
    :param after: what becomes of a stored file.
    :param report: is told what happens.
    :param run: runs what waits for a disk, in another thread, in order.
    :param sha256: returns the SHA-256 of a file, in hexadecimal; runs in another thread.
    :param now: returns the time in seconds since the epoch.
    :param chance: returns a random number from 0 to 1.
    :param jobs: maximum number of files that are sent at a time.
    :param interval: seconds between two scans.
    """

    def __init__(
        self,
        folder: WatchedFolder,
        record: SentRecord,
        sender: ISender,
        after: IAfter,
        report: IWatchReport,
        *,
        run: Threads,
        sha256: Callable[[str], str],
        clock: IReactorTime,
        now: Callable[[], float],
        chance: Callable[[], float],
        jobs: int = 1,
        interval: float = 1.0,
    ) -> None:
        self._folder = folder
        self._record = record
        self._sender = sender
        self._after = after
        self._run = run
        self._sha256 = sha256
        self._clock = clock
        self._now = now
        self._report = report
        self._chance = chance
        self._jobs = jobs
        self._interval = interval
        self._busy: dict[str, Deferred[None]] = {}
        self._finishing: set[str] = set()  # those of them that have been stored
        self._files = FilePauses(FILE_PAUSE, LONGEST_FILE_PAUSE)
        self._server = _Pause(float("-inf"), 0.0)
        self._found: list[Found] = []
        self._timer: IDelayedCall | None = None
        self._scanning = False
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._look()

    def stop(self) -> Deferred[None]:
        """
        Stop: interrupt what is being sent; it is resumed after the next start.  What has been
        stored is finished.

        :return: fires when nothing is being done any more.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            for path, sending in [*self._busy.items()]:
                if path not in self._finishing:
                    sending.cancel()
            self._check_stopped()
        return self._stopped

    def look_soon(self) -> None:
        """Scan soon, because something has come; several such calls cause one scan."""
        timer = self._timer
        if timer is not None and timer.getTime() - self._clock.seconds() > SOON:
            timer.reset(SOON)

    def _look(self) -> None:
        """Scan now; the next scan follows by itself."""
        self._timer = None
        if self._stopped is None:
            self._scanning = True
            Deferred.fromCoroutine(self._scan())

    async def _scan(self) -> None:
        begun = self._clock.seconds()
        try:
            scan = await self._run(functools.partial(self._folder.scan, begun))
            self._found = await self._run(functools.partial(self._not_sent, scan.complete))
        except OSError as error:
            self._report.not_scanned(error)
        else:
            self._report.scanned(scan, len(self._found) + scan.settling)
            self._files.keep({found.path for found in scan.complete})
        self._scanning = False
        if self._stopped is not None:
            self._check_stopped()
            return
        self._timer = self._clock.callLater(self._interval, self._look)
        self._go_on()

    def _not_sent(self, complete: list[Found]) -> list[Found]:
        """Return the files for which something is left to do.  Runs in a thread."""
        if not self._after.keeps:
            return complete
        sent, left = self._record.sent, []
        for found in complete:
            known = sent.get(found.path)
            if known is not None:
                status = self._folder.status(found.path)
                if status is None or known.compare(status) is Same.YES:
                    continue
            left.append(found)
        return left

    def _go_on(self) -> None:
        now = self._clock.seconds()
        if self._stopped is not None:
            return
        for found in self._found:
            if len(self._busy) >= self._jobs or now < self._server.until:
                break
            if found.path not in self._busy and not self._files.pauses(found.path, now):
                self._begin(found)

    def _begin(self, found: Found) -> None:
        ended: Deferred[None] = Deferred.fromCoroutine(self._handle(found))
        if not ended.called:
            self._busy[found.path] = ended
        ended.addErrback(self._not_stored, found).addBoth(self._ended, found)

    async def _handle(self, found: Found) -> None:
        """Do for a file what is left to do."""
        sent = await self._run(functools.partial(self._sent_before, found))
        if sent is None:
            sent = await self._upload(found)
        else:
            self._finishing.add(found.path)
            self._report.begun(found)
        done = await self._run(functools.partial(self._finish, found, sent))
        self._files.forget(found.path)
        self._server.seconds = 0.0
        self._drop(found)
        self._report.stored(found, sent, done)

    async def _upload(self, found: Found) -> SentFile:
        self._report.begun(found)
        receipt = await self._sender.send(self._folder.absolute(found.path), found.path)
        if not receipt.name or receipt.sha256 is None:
            raise UploadError("the server gives no receipt with a name and a SHA-256")
        self._finishing.add(found.path)
        sent = SentFile(found.identity, receipt.sha256, receipt.name, self._now())
        await self._run(functools.partial(self._note, found, sent))
        return sent

    def _sent_before(self, found: Found) -> SentFile | None:
        """Return what the record says of a file; None if it is not there.  Runs in a thread."""
        known = self._record.sent.get(found.path)
        status = self._folder.status(found.path)
        if status is None:
            raise _Gone
        if known is None:
            return None
        same = known.compare(status)
        if same is Same.PERHAPS and self._sha256(self._folder.absolute(found.path)) == known.sha256:
            known = known._replace(identity=identity_of(status), stored=self._now())
            self._record.add(found.path, known)
            same = Same.YES
        return known if same is Same.YES else None

    def _note(self, found: Found, sent: SentFile) -> None:
        """Put a file into the record, if it is still the one that was sent.  In a thread."""
        status = self._folder.status(found.path)
        if status is None or identity_of(status) != found.identity:
            raise SourceFailed(f"it has changed since it was stored as {sent.name}")
        self._record.add(found.path, sent)
        self._sender.recorded(self._folder.absolute(found.path))

    def _finish(self, found: Found, sent: SentFile) -> str:
        """Delete or move a file that is in the record.  Runs in a thread."""
        status = self._folder.status(found.path)
        if status is None or identity_of(status) != sent.identity:
            return "changed since then: it is sent again"
        done = self._after(self._folder, found.path)
        if not self._after.keeps:
            self._record.forget(found.path)
        return done

    def _not_stored(self, failure: Failure, found: Found) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(_Gone):
            self._drop(found)
            return
        now, error = self._clock.seconds(), failure.value
        assert error is not None
        alone = isinstance(error, SourceFailed) or (
            isinstance(error, UploadRefused) and not error.safe_to_repeat
        )
        if alone:
            pause = self._files.failed(found.path, now)
        else:
            longer = min(max(self._server.seconds * 2, FIRST_PAUSE), LONGEST_PAUSE)
            pause = longer * (0.75 + self._chance() / 2)
            if now >= self._server.until:  # not once more for each one of several
                self._server = _Pause(now + pause, longer)
        self._report.failed(found, error, pause, alone=alone)

    def _drop(self, found: Found) -> None:
        """Begin it no more, until a scan finds it again."""
        self._found = [other for other in self._found if other.path != found.path]

    def _ended(self, _: object, found: Found) -> None:
        self._busy.pop(found.path, None)
        self._finishing.discard(found.path)
        self._report.ended(found)
        if self._stopped is not None:
            self._check_stopped()
        else:
            self._go_on()

    def _check_stopped(self) -> None:
        stopped = self._stopped
        if stopped is not None and not (stopped.called or self._busy or self._scanning):
            stopped.callback(None)
