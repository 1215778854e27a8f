"""
Looks through the folder of partial uploads: which there are, which have expired, and
which have to give way when space is short.

Everything here runs in a disk thread, and touches no upload that is in use.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial as bound
from typing import NamedTuple

from twisted_upload.stores.directory.partial_folder import (
    COPY,
    DATA,
    RECORD,
    InUse,
    Missing,
    PartialFolder,
)
from twisted_upload.stores.directory.partial_record import (
    COPYING,
    PUBLISHING,
    STORED,
    PartialRecord,
    due,
)
from twisted_upload.stores.directory.resumable_open import open_locked, settle

__all__ = ["Entry", "Freed", "forget", "free_idle", "list_records", "read_entries"]

UNREADABLE_FOR = 60.0
"""Seconds after which a record that cannot be read is not being created any more."""


class Entry(NamedTuple):
    """
    What counts of an upload.

    :ivar group: see `PartialTerms.group`.
    :ivar size: committed bytes; 0 once it is stored.
    :ivar due: when it expires, or is forgotten: seconds since the epoch.
    :ivar stored: whether it is stored.
    :ivar modified: modification time of the record, in nanoseconds since the epoch.
    :ivar synced: see `PartialRecord`.
    """

    group: str | None
    size: int
    due: float
    stored: bool
    modified: int = 0
    synced: int = -1


class Freed(NamedTuple):
    """
    The uploads that have given way.

    :ivar keys: their keys.
    :ivar size: bytes that they took.
    """

    keys: list[str]
    size: int


def list_records(at: PartialFolder) -> dict[str, int]:
    """
    List the uploads; remove data that has no record.

    :return: for the key of each, the modification time of its record in nanoseconds.
    """
    found: dict[str, int] = {}
    data = []
    for name in at.files.names(at.descriptor):
        key, dot, suffix = name.partition(".")
        if dot + suffix == RECORD:
            with contextlib.suppress(FileNotFoundError):
                found[key] = _status(at, name).st_mtime_ns
        elif dot + suffix in {COPY, DATA}:
            data.append((key, name))
    for key, name in data:
        # The record is created first, and removed first.
        if key not in found and not at.has(key + RECORD):
            with contextlib.suppress(OSError):
                at.files.unlink(at.descriptor, name)
    return found


def read_entry(at: PartialFolder, key: str, now: float) -> Entry | None:
    """
    Read what counts of an upload; remove it if it has expired, is to be forgotten, or was
    never completely created.  If a crash has left both names of its data, that is settled
    before others take the published file away.

    :param now: seconds since the epoch.
    :return: `None` if there is no such upload, or none any more.
    """

    def is_still_over(record: int) -> bool:
        return _is_over(at, key, _load(at, record), record, now)

    try:
        descriptor = at.files.open_record(at.descriptor, key + RECORD, create=False)
    except FileNotFoundError:
        return None
    try:
        modified = at.files.status(descriptor).st_mtime_ns
        log = _load(at, descriptor)
        if log is not None and log.state.phase == PUBLISHING and settle(at, key):
            log = _load(at, descriptor)
        ends = _is_over(at, key, log, descriptor, now)
    finally:
        at.files.close(descriptor)
    if (ends and forget(at, key, is_still_over)) or log is None:
        return None
    state = log.state
    stored = state.phase == STORED
    size = 0 if stored else state.offset
    return Entry(log.origin.terms.group, size, due(log), stored, modified)


def _load(at: PartialFolder, descriptor: int) -> PartialRecord | None:
    try:
        return PartialRecord.load(at.files, descriptor)
    except ValueError:
        return None


def _is_over(
    at: PartialFolder, key: str, log: PartialRecord | None, descriptor: int, now: float
) -> bool:
    """
    Return whether an upload is to be removed.

    :param log: its record, which may change until it is locked; `None` if it is invalid.
    :param descriptor: of the record.
    """
    if log is not None:
        return log.state.phase == COPYING or due(log) <= now
    # If it was not created completely, it has no bytes.  With bytes, it may be that of
    # another version: only a lack of space removes it.
    is_old = now - at.files.status(descriptor).st_mtime > UNREADABLE_FOR
    return is_old and not _has_bytes(at, key)


def _has_bytes(at: PartialFolder, key: str) -> bool:
    try:
        return _status(at, key + DATA).st_size > 0
    except FileNotFoundError:
        return False


def forget(
    at: PartialFolder, key: str, is_over: Callable[[int], bool] = lambda descriptor: True
) -> bool:
    """
    Remove an upload, unless it is in use.

    :param is_over: whether it is still to be removed, now that no one can use it: called
        with the file descriptor of its record.
    :return: whether it is gone.
    """
    try:
        descriptor = open_locked(at, key)
    except Missing:
        return True
    except InUse:
        return False
    try:
        if not is_over(descriptor):
            return False
        at.remove(key)
    finally:
        at.files.close(descriptor)
    return True


def free_idle(
    at: PartialFolder, missing: int, before: float = float("inf"), pinned: Container[str] = ()
) -> Freed:
    """
    Remove uploads that are not in use, those that have been idle the longest first, until
    enough space is free.

    :param missing: number of bytes.
    :param before: only those that have been idle since before then: seconds since the epoch.
    :param pinned: keys of others that stay.
    """
    keys, freed = [], 0
    for modified, key, size in sorted(_idle(at)):
        if freed >= missing or modified >= before * 1e9:
            break
        if key not in pinned and forget(at, key, bound(_is_idle_since, at, modified)):
            keys.append(key)
            freed += size
    return Freed(keys, freed)


def _is_idle_since(at: PartialFolder, modified: int, descriptor: int) -> bool:
    return at.files.status(descriptor).st_mtime_ns == modified


def _idle(at: PartialFolder) -> Iterator[tuple[int, str, int]]:
    for key, modified in list_records(at).items():
        with contextlib.suppress(FileNotFoundError):  # it is stored
            size = _status(at, key + DATA).st_blocks * 512
            if size:
                yield modified, key, size


def _status(at: PartialFolder, name: str) -> os.stat_result:
    return at.files.status_of(name, folder=at.descriptor)


def read_entries(at: PartialFolder, keys: Iterable[str], now: float) -> dict[str, Entry | None]:
    """Read what counts of several uploads; see `read_entry`."""
    found = {}
    for key in keys:
        with contextlib.suppress(OSError):  # it is tried again later
            found[key] = read_entry(at, key, now)
    return found
