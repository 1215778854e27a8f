"""
Creates and opens partial uploads; puts right what a crash has left of them.

The tables of the steps are in `twisted_upload.stores.directory.resumable_file`.
Everything here runs in a disk thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from twisted_upload.core.names import name_after
from twisted_upload.disk.files import Files
from twisted_upload.errors import Busy, UploadRefused
from twisted_upload.interfaces import PartialTerms
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.partial_folder import (
    COPY,
    DATA,
    RECORD,
    DataLost,
    InUse,
    Missing,
    PartialFolder,
)
from twisted_upload.stores.directory.partial_record import (
    COPYING,
    OPEN,
    PUBLISHING,
    STORED,
    PartialOrigin,
    PartialRecord,
    due,
)
from twisted_upload.stores.directory.resumable_file import ResumableFile
from twisted_upload.stores.directory.space_budget import SpaceBudget

__all__ = ["create_resumable", "open_locked", "open_part", "open_resumable", "settle"]

_CHUNK = 64 * 1024 * 1024

_NAMES = 20
"""Names that are tried to find the one that a file was published under."""


def create_resumable(
    at: PartialFolder,
    key: str,
    terms: PartialTerms,
    created: float,
    *,
    until: Callable[[], float] | None = None,
    copying: bool = False,
    budget: SpaceBudget | None = None,
) -> ResumableFile:
    """
    Create an upload, durably.

    :param created: seconds since the epoch.
    :param until: see `PartialRecord`.
    :param copying: it is to be filled from others first, and nobody knows its id.
    :raises OSError: it cannot be created; nothing of it is left.
    """
    files, folder = at.files, at.folder
    opened: list[int] = []
    try:
        opened.append(files.create(at.descriptor, key + RECORD, 0o600))
        # Before it is locked, another process may take it for one of a dead daemon.
        if not files.lock(opened[0]) or files.links(opened[0]) != 1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        opened.append(files.create(at.descriptor, key + DATA, folder.mode))
        origin, phase = PartialOrigin(terms, created), COPYING if copying else OPEN
        log = PartialRecord.create(files, opened[0], origin, phase)
        if folder.durable:
            for error in folder.sync_files(opened):
                if error is not None:
                    raise error
            log.synced = log.number
        at.sync()
        log.until = until
        log.renew(durable=folder.durable)
    except BaseException:
        with contextlib.suppress(OSError):
            at.remove(key)
        for descriptor in opened:
            with contextlib.suppress(OSError):
                files.close(descriptor)
        raise
    return ResumableFile(at, key, log, opened[1], budget=budget)


def open_locked(at: PartialFolder, key: str) -> int:
    """
    Open the record of an upload, and lock it.

    :return: its file descriptor.
    :raises Missing: there is none.
    :raises InUse: it is in use.
    """
    files = at.files
    try:
        descriptor = at.open_own(key + RECORD)
    except FileNotFoundError:
        raise Missing from None
    with _closed_on_error(files, descriptor):
        if not files.lock(descriptor):
            raise InUse
        if files.links(descriptor) == 0:  # removed in the meantime
            raise Missing
    return descriptor


def open_resumable(
    at: PartialFolder,
    key: str,
    now: float,
    *,
    synced: int = -1,
    budget: SpaceBudget | None = None,
) -> ResumableFile:
    """
    Open an upload.

    :param now: seconds since the epoch.
    :param synced: the number of the state that is known to be durable: another one is
        synced first.  A process may have been killed after it had written it.
    :raises Missing: there is none, or it has expired.
    :raises InUse: it is in use.
    :raises DataLost: the disk has lost committed bytes of it; it has been removed.
    :raises OSError: it cannot be opened.
    """
    files = at.files
    descriptor = open_locked(at, key)
    with _closed_on_error(files, descriptor):
        try:
            log = PartialRecord.load(files, descriptor)
        except ValueError:
            raise Missing from None  # its creation was cut off, so its id was not told
        if log.state.phase == COPYING:
            raise Missing
        # Other states tell no offset that has not been told before.
        if log.state.phase == OPEN and log.number != synced and at.folder.durable:
            log.sync()
        log.synced = log.number
        data = None if log.state.phase == STORED else _open_data(at, key, log)
        if due(log) <= now:  # also if it has just been found to be stored, long ago
            if data is not None:
                files.close(data)
            raise Missing
    return ResumableFile(at, key, log, data, budget=budget)


def open_part(at: PartialFolder, key: str, owner: str, now: float) -> tuple[int, int]:
    """
    Open the data of a complete part for reading; it is not locked, as it does not change.

    :return: its file descriptor, and its length.
    :raises Missing: there is none.
    :raises ValueError: it is not a complete part of that owner.
    """
    files = at.files
    try:
        descriptor = at.open_own(key + RECORD)
    except FileNotFoundError:
        raise Missing from None
    try:
        log = PartialRecord.load(files, descriptor)
        files.set_times(descriptor)  # so that it is not idle for other processes
    except ValueError:
        raise Missing from None
    finally:
        files.close(descriptor)
    state, terms = log.state, log.origin.terms
    if state.expires <= now:
        raise Missing
    if not terms.is_part or terms.owner != owner or state.offset != state.length:
        raise ValueError("it is not a complete part of this owner")
    try:
        return at.open_own(key + DATA), state.offset
    except FileNotFoundError:
        raise Missing from None


def _open_data(at: PartialFolder, key: str, log: PartialRecord) -> int | None:
    """Open the data at the committed offset; return `None` if it turns out to be stored."""
    files, state = at.files, log.state
    try:
        data = at.open_own(key + DATA)
    except FileNotFoundError:
        if state.phase != PUBLISHING:
            raise _lost(at, key, "its data is missing") from None
        _found_published(at, key, log)
        return None
    with _closed_on_error(files, data):
        status = files.status(data)
        size, own = status.st_size, None
        if state.phase == PUBLISHING and _is_published(at.folder, data, log):
            _found_published(at, key, log)
            _remove_data(at, key)
        elif size < state.offset:
            raise _lost(at, key, f"{size} of {state.offset} committed bytes are left")
        elif status.st_nlink > 1:
            own = _copied(at, key, state.offset, data)
        else:
            if size > state.offset:
                if state.phase == PUBLISHING:  # it may have been taken back a moment ago
                    at.sync_unpublished()
                files.truncate(data, state.offset)
            files.seek(data, state.offset)
            return data
    with contextlib.suppress(OSError):  # nothing was written to it
        files.close(data)
    return own


def settle(at: PartialFolder, key: str) -> bool:
    """
    Note that an upload has been published whose data a crash has left its first name, and
    remove that name; do nothing if it is in use.

    :return: whether that was so.
    :raises OSError: this failed.
    """
    files = at.files
    if not at.has(key + DATA):
        return False
    try:
        descriptor = open_locked(at, key)
    except (Missing, InUse, UploadRefused):
        return False
    opened = [descriptor]
    try:
        log = PartialRecord.load(files, descriptor)
        opened.append(at.open_own(key + DATA))
        if log.state.phase != PUBLISHING or not _is_published(at.folder, opened[-1], log):
            return False
        _found_published(at, key, log)
        _remove_data(at, key)
        at.sync()
    except (ValueError, FileNotFoundError, UploadRefused):
        return False
    finally:
        for one in opened:
            with contextlib.suppress(OSError):
                files.close(one)
    return True


def _remove_data(at: PartialFolder, key: str) -> None:
    # Another process may be removing the file: see `forget_first_name`.
    with contextlib.suppress(FileNotFoundError):
        at.files.unlink(at.descriptor, key + DATA)


def _is_published(folder: Folder, data: int, log: PartialRecord) -> bool:
    """Return whether data that was there has its final name, too, or had it a moment ago."""
    # A rename, too, may leave both names in a crash.
    if _is_its_name(folder, _published_name(folder, log), log):
        return True
    links = folder.files.links(data)
    # If both have just been removed, it was; if files are renamed, any other link is a backup.
    return links == 0 or (links > 1 and not folder.by_rename)


def _copied(at: PartialFolder, key: str, size: int, data: int) -> int:
    """
    Copy the committed bytes of an upload to new data, which has no other name.

    The other name may be that of a visible file, which a crash has left or brought back, or
    of a backup: these are not written to, or cut off.

    :param size: how many bytes are committed.
    :param data: the data that it has.
    :return: the descriptor of its new data, at its end.
    :raises OSError: it cannot be copied; the upload is as it was.
    """
    files, folder, left = at.files, at.folder, size
    with contextlib.suppress(FileNotFoundError):  # a crash has left it
        files.unlink(at.descriptor, key + COPY)
    copy = files.create(at.descriptor, key + COPY, folder.mode)
    try:
        while left:
            copied = files.copy(data, copy, min(left, _CHUNK))
            if not copied:
                raise OSError("the file has become shorter")
            left -= copied
        if folder.durable:
            files.fsync(copy)
        files.replace(at.descriptor, key + COPY, at.descriptor, key + DATA)
        at.sync()
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink(at.descriptor, key + COPY)
        files.give_up(copy)
        raise
    return copy


def _lost(at: PartialFolder, key: str, what: str) -> DataLost:
    at.remove(key)
    return DataLost(f"{at.path}/{key}: {what}")


def _found_published(at: PartialFolder, key: str, log: PartialRecord) -> None:
    """
    Note that an upload has been published; first make that durable.

    If that fails, it is not taken back: its client may know that it is stored, and only the
    note of that was lost.

    :raises OSError: it cannot be made durable.
    :raises Busy: the same, as an earlier sync of this process has failed: another one could
        succeed although the name has been lost.
    """
    folder, state = at.folder, log.state
    name = _published_name(folder, log)
    if folder.durable and key not in at.acknowledged:
        if folder.sync_errors and _is_its_name(folder, name, log):
            raise Busy
        try:
            folder.files.fsync(folder.final)
        except OSError as error:
            folder.sync_errors.append(error)
            raise
    assert state.length is not None
    state = state._replace(phase=STORED, offset=state.length, name=name)
    try:
        log.write(state)
    except OSError:  # that its data has gone tells it too
        log.state = state
        at.could_not_note(key)
    else:
        at.acknowledged.discard(key)


def _published_name(folder: Folder, log: PartialRecord) -> str:
    """Return the name that the data has; the intended one if it has been taken away."""
    intended = log.state.name
    name = intended
    with contextlib.suppress(ValueError):
        for _ in range(_NAMES):
            if _is_its_name(folder, name, log):
                return name
            name = name_after(name)
    return intended


def _is_its_name(folder: Folder, name: str, log: PartialRecord) -> bool:
    try:
        status = folder.files.status_of(name, folder=folder.final)
    except OSError:
        return False
    return status.st_ino == log.state.inode


@contextlib.contextmanager
def _closed_on_error(files: Files, descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            files.close(descriptor)
        raise
