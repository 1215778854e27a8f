"""
Group commit: uploads that end together are committed together.

Batches are formed without waiting.  While fewer than `BATCHES_AT_A_TIME` batches are in
progress, the uploads that end in one turn of the reactor form a batch; those that end
while more are in progress form the next one.  The commit of a batch is in
`twisted_upload.stores.directory.commit_batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk
from twisted_upload.stores.directory.commit_batch import CommitBatch, Upload
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile

__all__ = ["BATCHES_AT_A_TIME", "MOST_FILES", "GroupCommit", "ReactorYield", "Tell", "at_once"]

BATCHES_AT_A_TIME = 2
"""Maximum number of batches in progress: while one waits for the disk, another is written."""

MOST_FILES = 128
"""Maximum number of files in one batch."""

MOST_BYTES = 4 * 1024 * 1024
"""Maximum number of bytes in one batch, so that a small file does not wait for many
others."""

MOST_BATCHES = 4
"""Maximum number of batches that are started, and whose results are delivered, in one turn
of the reactor."""

PATIENCE, MOST_PATIENCE = 0.0001, 0.002
"""Seconds that writing a small file should take, and the maximum time for which the reactor
yields to a batch of them."""

AS_MUCH = 32 * 1024
"""Number of bytes whose writing should take no longer than all else for a small file."""

T = TypeVar("T")
Tell = Callable[["StoredFile | Failure"], object]


class ReactorYield:
    """
    Blocks the reactor while a disk thread runs a job that should not have to wait for the
    disk.

    Two threads that are both busy in Python exchange the interpreter lock at each system
    call, which costs a small upload more than all its system calls.  The reactor therefore
    yields for a moment, until the job is done or begins to wait.  If it is done, its
    result is delivered without another turn of the reactor.  The reactor does not wait
    longer for a job that takes too long, nor at all for those that follow, until one has
    been quick again: a stalled disk costs the reactor that moment only once.

    :param disk: runs the jobs.
    :param now: returns monotonic time in seconds; called in disk threads.
    """

    def __init__(self, disk: IDisk, now: Callable[[], float]) -> None:
        self._disk = disk
        self._now = now
        self._quick = True

    def run(self, job: Callable[[Callable[[], None]], T], patience: float) -> Deferred[T]:
        """
        Run a job: see `IDisk.run`.

        :param job: is passed a function, which it calls when it begins to wait.
        :param patience: seconds within which it should do so.
        """
        disk = self._disk
        if not self._quick:
            return disk.run(lambda: self._try(job, patience))
        done = disk.run(lambda: job(disk.resume_reactor))
        if not done.called:
            self._quick = disk.yield_reactor(patience)
        return done

    def _try(self, job: Callable[[Callable[[], None]], T], patience: float) -> T:
        """In a disk thread, while the reactor does not wait: see whether this job is quick."""
        began = self._now()
        first = True

        def waiting() -> None:
            nonlocal first
            if first:
                first, self._quick = False, self._now() - began < patience

        try:
            return job(waiting)
        finally:
            waiting()


def at_once(function: Callable[[], None]) -> None:
    """Call the function at once, so that each upload is committed separately."""
    function()


class GroupCommit:
    """
    Commits small files in batches.

    :param disk: runs the commits.
    :param now: returns monotonic time in seconds; called in disk threads.
    :param after_turn: calls a function when the reactor has handled all events of this
        turn.
    """

    def __init__(
        self,
        disk: IDisk,
        now: Callable[[], float],
        after_turn: Callable[[Callable[[], None]], object] = at_once,
    ) -> None:
        self._after_turn = after_turn
        self._forming = self._starting = False
        self._reactor_yield = ReactorYield(disk, now)
        self._queue: list[tuple[Tell, Folder, Upload, int]] = []
        self._unsynced: list[_Unsynced] = []
        self._busy = 0

    def commit(
        self,
        folder: Folder,
        part: PartialFile,
        pieces: Sequence[bytes],
        size: int,
        tell: Tell,
    ) -> None:
        """
        Commit a file of which nothing has been written yet.

        :param pieces: its content.
        :param size: total length of the pieces, in bytes.
        :param tell: called once, with the result.
        """
        self._queue.append((tell, folder, (part, pieces), size))
        if self._busy < BATCHES_AT_A_TIME:
            self._form()

    def _form(self) -> None:
        if not self._forming:
            self._forming = True
            try:
                self._after_turn(self._formed)
            except Exception:  # then start the batch now
                self._formed()

    def _formed(self) -> None:
        self._forming = False
        self._start()

    def _start(self) -> None:
        """
        Start as many batches as allowed, one after the other; they may end meanwhile.

        After `MOST_BATCHES`, other events of the reactor come first.
        """
        if self._starting:
            return
        self._starting = True
        try:
            for _ in range(MOST_BATCHES):
                if not self._may_start():
                    return
                self._start_one()
        finally:
            self._starting = False
        if self._may_start():
            self._form()

    def _may_start(self) -> bool:
        return bool(self._queue or self._unsynced) and self._busy < BATCHES_AT_A_TIME

    def _start_one(self) -> None:
        unsynced, self._unsynced = self._unsynced, []
        folder = self._queue[0][1] if self._queue else unsynced[0].together.folder
        number, size = 0, 0
        for _, its_folder, _, its_size in self._queue[:MOST_FILES]:
            if its_folder is not folder or (number and size + its_size > MOST_BYTES):
                break
            number += 1
            size += its_size
        batch, self._queue = self._queue[:number], self._queue[number:]
        ours = _Unsynced(
            CommitBatch(folder, [upload for _, _, upload, _ in batch]),
            [tell for tell, _, _, _ in batch],
        )
        self._busy += 1

        def job(waiting_now: Callable[[], None]) -> bool:
            ours.together.publish(waiting_now, [one.together for one in unsynced])
            if self._is_for_the_next(ours.together):
                return False
            ours.together.sync_folder()
            return True

        patience = min(PATIENCE * (2 + number + size / AS_MUCH), MOST_PATIENCE)
        try:
            running = self._reactor_yield.run(job, patience)
        except Exception:
            running = fail(Failure())
        running.addCallbacks(self._done, self._fail, (unsynced, ours), {}, (unsynced, ours))

    def _is_for_the_next(self, together: CommitBatch) -> bool:
        """In a disk thread: return whether to sync the folder with the next batch's files."""
        return bool(self._queue) and together.wants_sync

    def _done(self, synced: bool, unsynced: list[_Unsynced], ours: _Unsynced) -> None:
        if not synced:
            self._unsynced.append(ours)
        self._next()
        for one in [*unsynced, ours] if synced else unsynced:
            for tell, result in zip(one.waiting, one.together.results, strict=True):
                _tell_one(tell, Failure(result) if isinstance(result, Exception) else result)

    def _fail(self, failure: Failure, unsynced: list[_Unsynced], ours: _Unsynced) -> None:
        failed = [ours]
        if ours.waiting:
            self._unsynced[:0] = unsynced  # the next job syncs their folder
        else:
            failed += unsynced
        self._next()
        for one in failed:
            for tell in one.waiting:
                _tell_one(tell, failure)

    def _next(self) -> None:
        self._busy -= 1
        self._start()


class _Unsynced(NamedTuple):
    """
    A batch whose folder is not synced yet, and the functions to be called with its results.

    If there is a next batch, the folder is synced together with its files, in one commit
    of the file system's journal.
    """

    together: CommitBatch
    waiting: list[Tell]


def _tell_one(tell: Tell, result: StoredFile | Failure) -> None:
    try:
        tell(result)
    except Exception:  # must not prevent the delivery of the other results
        _log.failure("internal error: the outcome of an upload cannot be delivered")


_log = Logger()
