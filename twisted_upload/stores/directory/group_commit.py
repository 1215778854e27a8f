"""
Group commit: uploads that end together are kept together.

Batches are formed without waiting: what ends in one turn of the reactor goes together
while fewer than `BATCHES_AT_A_TIME` are in work; what ends meanwhile goes together in the
next.
What is done with a batch is in `twisted_upload.stores.directory.commit_batch`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk
from twisted_upload.stores.directory.commit_batch import CommitBatch, Upload
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.partial_file import PartialFile, StoredFile

__all__ = ["BATCHES_AT_A_TIME", "MOST_FILES", "GroupCommit", "ReactorYield", "Tell", "at_once"]

BATCHES_AT_A_TIME = 2
"""Batches in work at a time: while one waits for the disk, one is written."""

MOST_FILES = 128
"""Files in one batch."""

MOST_BYTES = 4 * 1024 * 1024
"""Bytes in one batch, so that a small file does not wait for many others."""

MOST_BATCHES = 4
"""Batches that are started, and told of, in one turn of the reactor."""

PATIENCE, MOST_PATIENCE = 0.0001, 0.002
"""Seconds that writing a small file should take, and that the reactor steps
aside for a batch of them at the most."""

AS_MUCH = 32 * 1024
"""Bytes that should take no longer to write than a small file takes without them."""

T = TypeVar("T")
Tell = Callable[["StoredFile | Failure"], object]


class ReactorYield:
    """
    Lets a disk thread do what should not have to wait for the disk, while the
    reactor holds still.

    Two threads that are both busy in Python pass the interpreter lock to and
    fro at each system call, and that costs a small upload more than all its
    system calls.  So the reactor steps aside for a moment, until the job is
    done, or begins to wait; where it is done, its result is there without a
    turn of the reactor between.  A job that takes longer after all is not
    waited for, and neither are those that follow, until one has been quick
    again: a disk that stands still costs the reactor that moment, once.

    :param disk: where the jobs are done.
    """

    def __init__(self, disk: IDisk) -> None:
        self._disk = disk
        self._quick = True

    def run(self, job: Callable[[Callable[[], None]], T], patience: float) -> Deferred[T]:
        """
        See `IDisk.run`.

        :param job: is given what it calls when it begins to wait.
        :param patience: seconds in which that should be.
        """
        disk = self._disk
        if not self._quick:
            return disk.run(lambda: self._try(job, patience))
        done = disk.run(lambda: job(disk.resume_reactor))
        if not done.called:
            self._quick = disk.yield_reactor(patience)
        return done

    def _try(self, job: Callable[[Callable[[], None]], T], patience: float) -> T:
        """In a disk thread, while nobody waits: find out whether this one is quick."""
        began = time.monotonic()
        first = True

        def waiting() -> None:
            nonlocal first
            if first:
                first, self._quick = False, time.monotonic() - began < patience

        try:
            return job(waiting)
        finally:
            waiting()


def at_once(function: Callable[[], None]) -> None:
    """Each upload is a turn of its own."""
    function()


class GroupCommit:
    """
    Has small files kept, in batches.

    :param disk: where that is done.
    :param after_turn: calls a function when the reactor has seen to all that it
        was told of in this turn.
    """

    def __init__(
        self,
        disk: IDisk,
        after_turn: Callable[[Callable[[], None]], object] = at_once,
    ) -> None:
        self._after_turn = after_turn
        self._forming = self._starting = False
        self._reactor_yield = ReactorYield(disk)
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
        Keep a file of which nothing has been written yet.

        :param size: bytes of the pieces.
        :param tell: called with what has come of it, once.
        """
        self._queue.append((tell, folder, (part, pieces), size))
        if self._busy < BATCHES_AT_A_TIME:
            self._form()

    def _form(self) -> None:
        if not self._forming:
            self._forming = True
            try:
                self._after_turn(self._formed)
            except Exception:  # then this one goes by itself
                self._formed()

    def _formed(self) -> None:
        self._forming = False
        self._start()

    def _start(self) -> None:
        """
        Start as many batches as may be, one after the other: they may end meanwhile.
        After some it is the turn of others.
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
        """In a disk thread: whether the folder is synced with the files of those who wait."""
        return bool(self._queue) and together.wants_sync

    def _done(self, synced: bool, unsynced: list[_Unsynced], ours: _Unsynced) -> None:
        if not synced:
            self._unsynced.append(ours)
        self._next()
        for one in [*unsynced, ours] if synced else unsynced:
            for tell, result in zip(one.waiting, one.together.results, strict=True):
                _tell_one(tell, Failure(result) if isinstance(result, Exception) else result)

    def _fail(self, failure: Failure, unsynced: list[_Unsynced], ours: _Unsynced) -> None:
        lost = [ours]
        if ours.waiting:
            self._unsynced[:0] = unsynced  # the next job sees to their folder
        else:
            lost += unsynced
        self._next()
        for one in lost:
            for tell in one.waiting:
                _tell_one(tell, failure)

    def _next(self) -> None:
        self._busy -= 1
        self._start()


class _Unsynced(NamedTuple):
    """
    Those who are kept together, and who waits for it: their folder is synced with the
    files of those who come next, in one commit of the journal, where there are any.
    """

    together: CommitBatch
    waiting: list[Tell]


def _tell_one(tell: Tell, result: StoredFile | Failure) -> None:
    try:
        tell(result)
    except Exception:  # one that cannot be told is not to keep it from the others
        _log.failure("internal error: the outcome of an upload cannot be delivered")


_log = Logger()
