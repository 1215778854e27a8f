"""
Group commit: uploads that end together are kept together.

**The order is here, and only here: write, fsync, close, publish, fsync the
folder, answer.**  With ``--on-upload``, the marker of each file
(`twisted_upload.hook_queue`) is written after the file, and is synced with it.

`keep_together` does it for a bunch of files in one disk thread: the files are
synced at once, so that they share the flushes of the disk and the commits of
the journal, and the folder is synced once for all of them: with the files of the
next bunch, where there is one.  Each file has its own errors: one that cannot be
written or synced drops out, and so does one that nobody waits for any more; the
others go on.

`GroupCommit` forms the bunches, without waiting: what ends in one turn of the
reactor goes together while a lane is free; what ends while all lanes are busy
goes together in the next.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk import IDisk
from twisted_upload.folder import Folder
from twisted_upload.name_record import Cover, NameRecord
from twisted_upload.partial import KeptFile, PartialFile

__all__ = [
    "LANES",
    "MOST_FILES",
    "Courtesy",
    "GroupCommit",
    "Together",
    "at_once",
    "keep_alone",
    "keep_together",
]

LANES = 2
"""Bunches in work at a time: while one waits for the disk, one is written."""

MOST_FILES = 128
"""Files in one bunch."""

MOST_BYTES = 4 * 1024 * 1024
"""Bytes in one bunch, so that a small file does not wait for many others."""

PATIENCE, MOST_PATIENCE = 0.0001, 0.002
"""Seconds that writing a small file should take, and that the reactor steps
aside for a bunch of them at the most."""

AS_MUCH = 32 * 1024
"""Bytes that should take no longer to write than a small file takes without them."""

_SWEPT_AT_MOST = 5


T = TypeVar("T")
Result = KeptFile | Exception
Upload = tuple[PartialFile, Sequence[bytes]]
Tell = Callable[["KeptFile | Failure"], object]


class Together:
    """
    Uploads that are kept together.  In a disk thread: `publish`, then `sync_folder`,
    unless the folder is synced with the files of those who are kept next.

    :param uploads: each with the last bytes that are to be written to it.
    :ivar results: in the end, for each what is kept, or why it is not; then nothing
        is left of it.
    """

    def __init__(self, folder: Folder, uploads: Sequence[Upload]) -> None:
        self.folder = folder
        self._uploads = uploads
        self.results: list[Result] = [OSError(errno.ENOENT, "unfinished files keep disappearing")]
        self.results *= len(uploads)

    @property
    def wants_sync(self) -> bool:
        """Whether there is success only when the folder has been synced."""
        folder = self.folder
        return folder.durable and folder.sync_folder and any(map(_is_kept, self.results))

    def publish(
        self,
        waiting: Callable[[], None] = lambda: None,
        earlier: Sequence[Together] = (),
    ) -> None:
        """
        Take all steps until they have their names.

        :param waiting: called when all that follows is to wait for the disk.
        :param earlier: whose folders are synced together with these files.
        """
        owed = [*earlier]
        left = list(range(len(self._uploads)))
        try:
            for _ in range(_SWEPT_AT_MOST):
                if not left:
                    break
                bunch = _Bunch(self.folder, [self._uploads[index] for index in left], waiting)
                again = []
                for index, result in zip(left, bunch.publish(owed), strict=True):
                    # Somebody has removed it between creating and publishing, such as a
                    # daemon on another machine, which does not see that it is claimed:
                    # the bytes are all here, and the file is made again.
                    if isinstance(result, FileNotFoundError) and self._can_be_repeated(index):
                        again.append(index)
                    else:
                        self.results[index] = result
                left = again
        finally:
            if owed:
                waiting()
            for one in owed:
                one.sync_folder()

    def sync_folder(self) -> None:
        """See to it that their names are on the device."""
        if self.wants_sync:
            try:
                self.folder.files.fsync(self.folder.final)
            except Exception as error:
                self.take_back(error)

    def take_back(self, error: Exception) -> None:
        """The folder could not be synced: there is no success, and no file."""
        for index, ((part, _), result) in enumerate(zip(self._uploads, self.results, strict=True)):
            if _is_kept(result):
                self.results[index] = _discard(part, error)

    def _can_be_repeated(self, index: int) -> bool:
        return self._uploads[index][0].repeatable


def _is_kept(result: Result) -> bool:
    return not isinstance(result, Exception)


def _discard(part: PartialFile, error: Exception) -> Exception:
    """Give a file up; why: a defect in that comes first, so that somebody hears of it."""
    try:
        part.discard()
    except Exception as defect:
        return defect
    return error


def keep_together(folder: Folder, uploads: Sequence[Upload]) -> list[Result]:
    """
    Keep a bunch of files.  In a disk thread.

    :return: see `Together.results`.
    """
    together = Together(folder, uploads)
    together.publish()
    together.sync_folder()
    return together.results


def keep_alone(folder: Folder, part: PartialFile, last: Sequence[bytes]) -> KeptFile:
    """Keep one file; raises why it is not kept.  In a disk thread."""
    (result,) = keep_together(folder, [(part, last)])
    if isinstance(result, Exception):
        raise result
    return result


class _Bunch:
    def __init__(
        self, folder: Folder, uploads: Sequence[Upload], waiting: Callable[[], None]
    ) -> None:
        self._waiting = waiting
        self._folder = folder
        self._parts = [part for part, _ in uploads]
        self._lasts = [last for _, last in uploads]
        self._errors: list[Exception | None] = [None] * len(uploads)

    def publish(self, owed: list[Together]) -> list[Result]:
        """
        Take all steps until the files have their names.

        :param owed: whose folders are to be synced with the files; emptied when that
            is done.
        """
        try:
            self._publish(owed)
        except Exception as error:  # not of one file, but of the step for all
            self._drop_all(error)
        return [
            error or part.kept_file() for part, error in zip(self._parts, self._errors, strict=True)
        ]

    def _publish(self, owed: list[Together]) -> None:
        folder = self._folder
        self._each(PartialFile.finish, self._lasts)
        if self._none_is_left():
            return
        if folder.hooks is not None:
            self._each(PartialFile.mark)
        record = self._parts[0].record
        cover = self._cover(record)
        if folder.durable:
            self._waiting()
            try:
                self._sync_files(cover, owed)
            except BaseException:
                if record is not None:
                    record.doubt()
                raise
        if record is not None and cover is not None:
            record.confirm(cover)
        self._each(PartialFile.publish)

    def _none_is_left(self) -> bool:
        return None not in self._errors

    def _cover(self, record: NameRecord | None) -> Cover | None:
        """Write down that these names are given out, where that is not written yet."""
        latest = max(part.milliseconds for part in self._parts)
        if record is None or latest <= record.covered:
            return None
        return record.write(latest)

    def _each(self, step: Callable[..., object], *more: Sequence[Any]) -> None:
        """
        Take a step with every file that has come so far.

        :param more: what else the step is given, for each of the files.
        """
        errors = self._errors
        for index, arguments in enumerate(zip(self._parts, *more, strict=True)):
            if errors[index] is None:
                try:
                    step(*arguments)
                except Exception as error:
                    self._drop(index, error)

    def _sync_files(self, cover: Cover | None, owed: list[Together]) -> None:
        whose, descriptors = [], []
        for index, part in enumerate(self._parts):
            if self._errors[index] is None:
                for descriptor in part.descriptors:
                    whose.append(index)
                    descriptors.append(descriptor)
        others = [] if self._folder.hooks is None else [self._folder.hooks.waiting]
        folders = [*dict.fromkeys(one.folder.final for one in owed)]
        errors = self._sync(
            descriptors + others + folders, [] if cover is None else [cover.descriptor]
        )
        for index, error in zip(whose, errors, strict=False):
            if error is not None and self._errors[index] is None:
                self._drop(index, error)
        _have_been_synced(owed, dict(zip(folders, errors[len(whose + others) :], strict=False)))
        for error in errors[len(whose) :]:
            if error is not None:
                raise error

    def _sync(self, descriptors: list[int], last: list[int]) -> list[OSError | None]:
        if len(descriptors) > 1:
            return self._folder.sync_files(descriptors + last)
        # Parallel syncs are not worth their calls for two.
        return self._folder.sync_files(descriptors) + self._folder.sync_files(last)

    def _drop_all(self, error: Exception) -> None:
        for index, failed in enumerate(self._errors):
            if failed is None:
                self._drop(index, error)

    def _drop(self, index: int, error: Exception) -> None:
        self._errors[index] = _discard(self._parts[index], error)


def _have_been_synced(owed: list[Together], errors: Mapping[int, OSError | None]) -> None:
    """Their folders have, or could not be: the errors are those of the folders."""
    for one in owed:
        error = errors[one.folder.final]
        if error is not None:
            one.take_back(error)
    owed.clear()


class Courtesy:
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
        done = disk.run(lambda: job(disk.go_on))
        if not done.called:
            self._quick = disk.step_aside(patience)
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
    Has small files kept, in bunches.

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
        self._courtesy = Courtesy(disk)
        self._queue: list[tuple[Tell, Folder, Upload, int]] = []
        self._owed: list[_Owed] = []
        self._busy = 0

    def keep(
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
        if not self._forming and self._busy < LANES:
            self._forming = True
            try:
                self._after_turn(self._formed)
            except Exception:  # then this one goes by itself
                self._formed()

    def _formed(self) -> None:
        self._forming = False
        self._start()

    def _start(self) -> None:
        """Start as many bunches as may be, one after the other: they may end meanwhile."""
        if self._starting:
            return
        self._starting = True
        try:
            while (self._queue or self._owed) and self._busy < LANES:
                self._start_one()
        finally:
            self._starting = False

    def _start_one(self) -> None:
        owed, self._owed = self._owed, []
        folder = self._queue[0][1] if self._queue else owed[0].together.folder
        number, size = 0, 0
        for _, its_folder, _, its_size in self._queue[:MOST_FILES]:
            if its_folder is not folder or (number and size + its_size > MOST_BYTES):
                break
            number += 1
            size += its_size
        bunch, self._queue = self._queue[:number], self._queue[number:]
        ours = _Owed(
            Together(folder, [upload for _, _, upload, _ in bunch]),
            [tell for tell, _, _, _ in bunch],
        )
        self._busy += 1

        def job(waiting_now: Callable[[], None]) -> bool:
            ours.together.publish(waiting_now, [one.together for one in owed])
            if self._queue and ours.together.wants_sync:
                return False
            ours.together.sync_folder()
            return True

        patience = min(PATIENCE * (2 + number + size / AS_MUCH), MOST_PATIENCE)
        try:
            running = self._courtesy.run(job, patience)
        except Exception:
            running = fail(Failure())
        running.addCallbacks(self._done, self._fail, (owed, ours), {}, ([*owed, ours],))

    def _done(self, synced: bool, owed: list[_Owed], ours: _Owed) -> None:
        if not synced:
            self._owed.append(ours)
        self._next()
        for one in [*owed, ours] if synced else owed:
            for tell, result in zip(one.waiting, one.together.results, strict=True):
                _tell_one(tell, Failure(result) if isinstance(result, Exception) else result)

    def _fail(self, failure: Failure, all_of_them: list[_Owed]) -> None:
        self._next()
        for one in all_of_them:
            for tell in one.waiting:
                _tell_one(tell, failure)

    def _next(self) -> None:
        self._busy -= 1
        self._start()


class _Owed(NamedTuple):
    """
    Those who are kept together, and who waits for it: their folder is synced with the
    files of those who come next, in one commit of the journal, where there are any.
    """

    together: Together
    waiting: list[Tell]


def _tell_one(tell: Tell, result: KeptFile | Failure) -> None:
    try:
        tell(result)
    except Exception:  # one that cannot be told is not to keep it from the others
        _log.failure("the end of an upload cannot be delivered")


_log = Logger()
