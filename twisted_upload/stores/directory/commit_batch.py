"""
Files that are kept together, step by step.

**The order is here, and only here: write, fsync, close, publish, fsync the
folder, answer.**  With ``--on-upload``, the marker of each file
(`twisted_upload.hooks.spool`) is written after the file, and is synced with it.

`CommitBatch` does it for a batch of files in one disk thread: the files are
synced at once, so that they share the flushes of the disk and the commits of
the journal, and the folder is synced once for all of them: with the files of the
next batch, where there is one.  Each file has its own errors: one that cannot be
written or synced drops out, and so does one that nobody waits for any more; the
others go on.

Who goes together is for `twisted_upload.stores.directory.group_commit` to say.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.name_record import NameRecord, NameReservation
from twisted_upload.stores.directory.partial_file import PartialFile, StoredFile

__all__ = ["CommitBatch", "Result", "Upload", "commit_all", "commit_one"]

_SWEPT_AT_MOST = 5


Result = StoredFile | Exception
Upload = tuple[PartialFile, Sequence[bytes]]


class CommitBatch:
    """
    Uploads that are kept together.  In a disk thread: `publish`, then `sync_folder`,
    unless the folder is synced with the files of those who are kept next.

    :param uploads: each with the last bytes that are to be written to it.
    :ivar results: in the end, for each what is kept, or why it is not; then nothing
        is left of it.
    """

    def __init__(self, folder: Folder, uploads: Sequence[Upload]) -> None:
        self.folder = folder
        self._sync_errors = len(folder.sync_errors)
        self._uploads = uploads
        self.results: list[Result] = [OSError(errno.ENOENT, "unfinished files keep disappearing")]
        self.results *= len(uploads)

    @property
    def wants_sync(self) -> bool:
        """Whether there is success only when the folder has been synced."""
        folder = self.folder
        return folder.durable and folder.sync_folder and any(map(_is_stored, self.results))

    def publish(
        self,
        waiting: Callable[[], None] = lambda: None,
        earlier: Sequence[CommitBatch] = (),
    ) -> None:
        """
        Take all steps until they have their names.

        :param waiting: called when all that follows is to wait for the disk.
        :param earlier: whose folders are synced together with these files.
        """
        unsynced = [*earlier]
        left = list(range(len(self._uploads)))
        try:
            for _ in range(_SWEPT_AT_MOST):
                if not left:
                    break
                batch = _Attempt(self.folder, [self._uploads[index] for index in left], waiting)
                again = []
                for index, result in zip(left, batch.publish(unsynced), strict=True):
                    # Somebody has removed it between creating and publishing, such as a
                    # daemon on another machine, which does not see that it is claimed:
                    # the bytes are all here, and the file is made again.
                    if isinstance(result, FileNotFoundError) and self._can_be_repeated(index):
                        again.append(index)
                    else:
                        self.results[index] = result
                left = again
        finally:
            if unsynced:
                waiting()
                _sync_folders(unsynced)

    def sync_folder(self) -> None:
        """See to it that their names are on the device."""
        if self.wants_sync:
            _sync_folders([self])

    def has_been_synced(self, error: Exception | None) -> None:
        """The folder has been, or could not be."""
        sync_errors = self.folder.sync_errors
        if error is None and len(sync_errors) > self._sync_errors:
            # Another thread could not, between the first of these names and now.  The
            # kernel tells an error once, so that our own fsync says nothing.
            error = sync_errors[-1]
        if error is None:
            return
        # There is no success then, and no file.
        for index, ((part, _), result) in enumerate(zip(self._uploads, self.results, strict=True)):
            if _is_stored(result):
                self.results[index] = _discard(part, error)

    def _can_be_repeated(self, index: int) -> bool:
        return self._uploads[index][0].repeatable


def _is_stored(result: Result) -> bool:
    return not isinstance(result, Exception)


def _discard(part: PartialFile, error: Exception) -> Exception:
    """Give a file up; why: a defect in that comes first, so that somebody hears of it."""
    try:
        part.discard()
    except Exception as defect:
        return defect
    return error


def commit_all(folder: Folder, uploads: Sequence[Upload]) -> list[Result]:
    """
    Commit a batch of files.  In a disk thread.

    :return: see `CommitBatch.results`.
    """
    together = CommitBatch(folder, uploads)
    together.publish()
    together.sync_folder()
    return together.results


def commit_one(folder: Folder, part: PartialFile, last: Sequence[bytes]) -> StoredFile:
    """Commit one file; raises why that failed.  In a disk thread."""
    (result,) = commit_all(folder, [(part, last)])
    if isinstance(result, Exception):
        raise result
    return result


class _Attempt:
    def __init__(
        self, folder: Folder, uploads: Sequence[Upload], waiting: Callable[[], None]
    ) -> None:
        self._waiting = waiting
        self._folder = folder
        self._parts = [part for part, _ in uploads]
        self._lasts = [last for _, last in uploads]
        self._errors: list[Exception | None] = [None] * len(uploads)

    def publish(self, unsynced: list[CommitBatch]) -> list[Result]:
        """
        Take all steps until the files have their names.

        :param unsynced: whose folders are to be synced with the files; emptied when that
            is done.
        """
        try:
            self._publish(unsynced)
        except Exception as error:  # not of one file, but of the step for all
            self._drop_all(error)
        return [
            error or part.stored_file()
            for part, error in zip(self._parts, self._errors, strict=True)
        ]

    def _publish(self, unsynced: list[CommitBatch]) -> None:
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
                self._sync_files(cover, unsynced)
            except BaseException:
                if record is not None:
                    record.sync_failed()
                raise
        if record is not None and cover is not None:
            record.confirm(cover)
        self._each(PartialFile.publish)

    def _none_is_left(self) -> bool:
        return None not in self._errors

    def _cover(self, record: NameRecord | None) -> NameReservation | None:
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

    def _sync_files(self, cover: NameReservation | None, unsynced: list[CommitBatch]) -> None:
        files = {
            descriptor: index
            for index, part in enumerate(self._parts)
            if self._errors[index] is None
            for descriptor in part.descriptors
        }
        others = [] if self._folder.hooks is None else [self._folder.hooks.waiting]
        last = [] if cover is None else [cover.descriptor]
        first = [*files, *others, *dict.fromkeys(one.folder.final for one in unsynced)]
        errors = dict(zip(first + last, self._sync(first, last), strict=True))
        for descriptor, index in files.items():
            error = errors[descriptor]
            if error is not None and self._errors[index] is None:
                self._drop(index, error)
        _have_been_synced(unsynced, errors)
        # What failed of a folder that is not in use any more is none of these files'.
        for descriptor in (*others, self._folder.final, *last):
            error = errors.get(descriptor)
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


def _sync_folders(unsynced: list[CommitBatch]) -> None:
    """Sync their folders, each once, because the kernel tells an error once."""
    errors: dict[int, Exception | None] = {}
    for one in unsynced:
        folder = one.folder
        if folder.final not in errors:
            try:
                folder.files.fsync(folder.final)
            except Exception as error:
                errors[folder.final] = error
            else:
                errors[folder.final] = None
    _have_been_synced(unsynced, errors)


def _have_been_synced(unsynced: list[CommitBatch], errors: Mapping[int, Exception | None]) -> None:
    """Their folders have, or could not be: the errors are those of the folders."""
    told = set()
    for one in unsynced:
        error = errors[one.folder.final]
        if error is not None and one.folder.final not in told:
            told.add(one.folder.final)
            one.folder.sync_errors.append(error)
    for one in unsynced:
        one.has_been_synced(errors[one.folder.final])
    unsynced.clear()
