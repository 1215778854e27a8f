"""
The steps that commit a batch of files.

**Their order is defined here, and only here: write, fsync, close, publish, fsync the
folder, answer.**  With ``--on-upload`` or ``--forward``, the
markers of each file (`twisted_upload.hooks.spool`) are written after the file, and are
synced with it.

`CommitBatch` commits a batch of files in one disk thread.  The files are synced at the
same time, so that they share the disk's flushes and the commits of the file system's
journal.  The folder is synced once for all of them; if there is a next batch, together
with its files.  Each file has its own errors: one that cannot be written or synced, or
has been abandoned, is discarded; the others continue.

`twisted_upload.stores.directory.group_commit` decides which files form a batch.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.name_record import NameRecord, NameReservation
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile

__all__ = ["CommitBatch", "Result", "Upload", "commit_all", "commit_one"]

_SWEPT_AT_MOST = 5


Result = StoredFile | Exception
Upload = tuple[PartialFile, Sequence[bytes]]


class CommitBatch:
    """
    Uploads that are committed together.

    In a disk thread, call `publish`, then `sync_folder`, unless the folder is synced
    together with the files of the next batch.

    :param uploads: the files, each with the last bytes to be written to it.
    :ivar results: in the end, for each the stored file, or the error; after an error,
        nothing is left of the file.
    """

    def __init__(self, folder: Folder, uploads: Sequence[Upload]) -> None:
        self.folder = folder
        self._sync_errors = len(folder.sync_errors)
        self._uploads = uploads
        self.results: list[Result] = [OSError(errno.ENOENT, "unfinished files keep disappearing")]
        self.results *= len(uploads)

    @property
    def wants_sync(self) -> bool:
        """Whether the folder must be synced before the batch has succeeded."""
        folder = self.folder
        return folder.durable and folder.sync_folder and any(map(_is_stored, self.results))

    def publish(
        self,
        waiting: Callable[[], None] = lambda: None,
        earlier: Sequence[CommitBatch] = (),
    ) -> None:
        """
        Take all steps until the files have their final names.

        :param waiting: called when nothing remains but waiting for the disk.
        :param earlier: batches whose folders are to be synced together with these files.
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
                    # The file was removed between creation and publishing, for example by
                    # a daemon on another machine, to which the claim is not visible.  All
                    # bytes are still in memory, so create it again.
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
        """Sync the folder, so that the names of the files are durable."""
        if self.wants_sync:
            _sync_folders([self])

    def has_been_synced(self, error: Exception | None) -> None:
        """
        Note that the folder has been synced, or could not be.

        :param error: why it could not be.
        """
        sync_errors = self.folder.sync_errors
        if error is None and len(sync_errors) > self._sync_errors:
            # Another thread's sync has failed since the first of these files was published.
            # The kernel reports an error only once, so our own fsync does not report it.
            error = sync_errors[-1]
        if error is None:
            return
        # None of the files is stored then.
        for index, ((part, _), result) in enumerate(zip(self._uploads, self.results, strict=True)):
            if _is_stored(result):
                self.results[index] = _discard(part, error)

    def _can_be_repeated(self, index: int) -> bool:
        return self._uploads[index][0].repeatable


def _is_stored(result: Result) -> bool:
    return not isinstance(result, Exception)


def _discard(part: PartialFile, error: Exception) -> Exception:
    """
    Discard a file.

    :return: the error; if discarding fails, the internal error instead, so that it is
        reported.
    """
    try:
        part.discard()
    except Exception as defect:
        return defect
    return error


def commit_all(folder: Folder, uploads: Sequence[Upload]) -> list[Result]:
    """
    Commit a batch of files.  Call it in a disk thread.

    :return: see `CommitBatch.results`.
    """
    together = CommitBatch(folder, uploads)
    together.publish()
    together.sync_folder()
    return together.results


def commit_one(folder: Folder, part: PartialFile, last: Sequence[bytes]) -> StoredFile:
    """Commit one file, or raise its error.  Call it in a disk thread."""
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
        Take all steps until the files have their final names.

        :param unsynced: batches whose folders are to be synced with the files; emptied when
            that is done.
        """
        try:
            self._publish(unsynced)
        except Exception as error:  # of a step for all files
            self._drop_all(error)
        return [
            error or part.stored_file()
            for part, error in zip(self._parts, self._errors, strict=True)
        ]

    def _publish(self, unsynced: list[CommitBatch]) -> None:
        folder = self._folder
        self._each(_finish, self._lasts)
        if self._none_is_left():
            return
        if folder.queues:
            self._each(_mark)
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
        self._each(_publish)

    def _none_is_left(self) -> bool:
        return None not in self._errors

    def _cover(self, record: NameRecord | None) -> NameReservation | None:
        """Record that these names are given out, unless the record covers them already."""
        latest = max(part.milliseconds for part in self._parts)
        if record is None or latest <= record.covered:
            return None
        return record.write(latest)

    def _each(self, step: Callable[..., object], *more: Sequence[Any]) -> None:
        """
        Take a step with each file that has not failed.

        :param more: further arguments of the step, one sequence for each, with an item
            for each file.
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
        others: dict[int, None] = {}
        if self._folder.queues:
            others = {spool.waiting: None for part in self._parts for spool, _ in part.marks}
        last = [] if cover is None else [cover.descriptor]
        first = [*files, *others, *dict.fromkeys(one.folder.final for one in unsynced)]
        errors = dict(zip(first + last, self._sync(first, last), strict=True))
        for descriptor, index in files.items():
            error = errors[descriptor]
            if error is not None and self._errors[index] is None:
                self._drop(index, error)
        _have_been_synced(unsynced, errors)
        # An error of a folder that is no longer in use does not concern these files.
        for descriptor in (*others, self._folder.final, *last):
            error = errors.get(descriptor)
            if error is not None:
                raise error

    def _sync(self, descriptors: list[int], last: list[int]) -> list[OSError | None]:
        if len(descriptors) > 1:
            return self._folder.sync_files(descriptors + last)
        # For two files, parallel syncs are not worth their system calls.
        return self._folder.sync_files(descriptors) + self._folder.sync_files(last)

    def _drop_all(self, error: Exception) -> None:
        for index, failed in enumerate(self._errors):
            if failed is None:
                self._drop(index, error)

    def _drop(self, index: int, error: Exception) -> None:
        self._errors[index] = _discard(self._parts[index], error)


# Not `PartialFile.finish` and so on: a kind of file may have its own steps.


def _finish(part: PartialFile, last: Sequence[bytes]) -> None:
    part.finish(last)


def _mark(part: PartialFile) -> None:
    part.mark()


def _publish(part: PartialFile) -> None:
    part.publish()


def _sync_folders(unsynced: list[CommitBatch]) -> None:
    """Sync their folders, each only once, because the kernel reports an error only once."""
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
    """
    Note for each batch that its folder has been synced, or could not be.

    :param errors: the error, if any, for the file descriptor of each folder.
    """
    told = set()
    for one in unsynced:
        error = errors[one.folder.final]
        if error is not None and one.folder.final not in told:
            told.add(one.folder.final)
            one.folder.sync_errors.append(error)
    for one in unsynced:
        one.has_been_synced(errors[one.folder.final])
    unsynced.clear()
