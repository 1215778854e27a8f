"""
A record of the latest names, so that no name is given out twice.

A small file in ``.incoming/`` has an entry for each process that stores files in the
folder: a moment that is not earlier than any name that the process has given out.  The
entry is `AHEAD` of the names, and is therefore written only every few seconds while
uploads come; it is synced together with their files, before they are published.  A
process that starts gives out only names after the entry that it finds, regardless of the
clock.

Processes that share a folder have separate entries and separate serials
(`twisted_upload.core.names.SERIALS`), so that no process gives out a name of another, not
even if the file has been removed in the meantime.

A process that stops normally leaves the exact moment.  After a crash, names may be ahead
of the clock by `AHEAD`, for as long.  A damaged entry counts as written at the file's
last modification.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import weakref
from typing import NamedTuple

from twisted_upload.disk.files import Files

__all__ = ["AHEAD", "ENTRIES", "RECORD", "NameRecord", "NameReservation"]

RECORD = "latest-names"

AHEAD = 5000
"""Milliseconds by which a new entry is ahead of the names."""

ENTRIES = 64
"""Number of entries; if there are more processes, the rest share the last entry."""

_ENTRY = re.compile(rb"[0-9]{15}\n")
_WIDTH = 16
_FIRST_CLAIM = 1 << 61  # names of unfinished files are claimed by smaller numbers


class NameReservation(NamedTuple):
    """
    An entry that is to be synced before names are published.

    :ivar until: the latest moment that it covers.
    :ivar descriptor: file descriptor to sync.
    :ivar failed_syncs: number of failed syncs before the entry was written.
    """

    until: int
    descriptor: int
    failed_syncs: int


class NameRecord:
    """
    The entry of one process.

    :param incoming: file descriptor of ``.incoming/``; the entry is ours as long as it or
        a duplicate is open.
    :param durable: names must not be reused even after a crash of the machine.
    :ivar number: number of the entry.
    :ivar floor: milliseconds since the epoch; all new names must be later than this.
    :ivar damaged: the entry could not be read.
    :ivar covered: the latest moment for which names may be published.
    :raises OSError: the file cannot be used.
    """

    def __init__(self, files: Files, incoming: int, *, durable: bool) -> None:
        self.number, self._ours = _take_entry(files, incoming)
        self.floor = self.covered = 0
        self.damaged = False
        self._files = files
        self._incoming = incoming
        self._durable = durable
        self._written = 0
        self._failed_syncs = 0
        self._new = False  # the file has been created, and its folder not been synced since
        self._mutex = files.mutex()  # held while the disk is waited for
        self._descriptor: int | None = None
        with contextlib.suppress(FileNotFoundError):
            self._read(self._open(create=False))

    def write(self, latest: int) -> NameReservation:
        """
        Write an entry that covers a moment.  Call it in a disk thread.

        :param latest: milliseconds since the epoch.
        :return: the reservation, to be synced.  Then call `confirm` with it or, if the
            sync has failed, `sync_failed`.
        """
        with self._mutex:
            descriptor = self._descriptor
            if descriptor is None or not self._files.links(descriptor):  # it was removed
                descriptor = self._open(create=True)
                self._written = 0
            if self._new and self._durable:
                self._files.fsync(self._incoming)
            self._new = False
            if self._written < latest:
                self._write(descriptor, latest + AHEAD)
            return NameReservation(self._written, descriptor, self._failed_syncs)

    def confirm(self, cover: NameReservation) -> None:
        """
        Note that an entry has been synced: names that it covers may be published.

        :raises OSError: meanwhile another thread has failed to sync it.  The kernel
            reports an error only once, so our own fsync does not report it.
        """
        with self._mutex:
            if cover.failed_syncs != self._failed_syncs:
                raise OSError(errno.EIO, "the record of names could not be synced")
            self.covered = cover.until

    def sync_failed(self) -> None:
        """Note that an entry could not be synced: it must be written again."""
        with self._mutex:
            self._failed_syncs += 1
            self._written = 0

    def close(self, latest: int) -> None:
        """
        Write the exact moment of the last name, if the entry is known to be ours.

        No names may be given out afterwards.  The entry is not synced, because the one
        that remains after a crash covers the names as well.  Another process may then
        take the entry, even if a parent process has the folder open too.
        """
        with self._mutex:
            if self._ours and self._descriptor is not None and 0 < latest < self._written:
                self.covered = 0
                with contextlib.suppress(OSError):
                    self._write(self._descriptor, latest)
        self._files.unclaim(self._incoming, _FIRST_CLAIM + self.number)

    def _open(self, *, create: bool) -> int:
        descriptor = self._files.open_record(self._incoming, RECORD, create)
        self._descriptor = descriptor
        self._new = create
        weakref.finalize(self, self._files.release, descriptor)
        return descriptor

    def _read(self, descriptor: int) -> None:
        entry = self._files.read_at(descriptor, _WIDTH, self.number * _WIDTH)
        if _ENTRY.fullmatch(entry):
            self.floor = int(entry)
        elif entry.strip(b"\0"):
            self.damaged = True
            self.floor = int(self._files.status(descriptor).st_mtime * 1000) + AHEAD

    def _write(self, descriptor: int, moment: int) -> None:
        self._files.write_at(descriptor, b"%015d\n" % moment, self.number * _WIDTH)
        self._written = moment


def _take_entry(files: Files, incoming: int) -> tuple[int, bool]:
    """
    Claim the first free entry, or share the last one.

    :return: its number, and whether it is certain that no other process uses it.
    """
    number = ENTRIES - 1
    for number in range(ENTRIES):
        files.claim(incoming, _FIRST_CLAIM + number)
        if not files.is_claimed(incoming, _FIRST_CLAIM + number):
            break
        files.unclaim(incoming, _FIRST_CLAIM + number)
    else:
        return number, False
    # Not every file system supports claims.
    other = files.open(".", os.O_RDONLY | os.O_DIRECTORY, folder=incoming)
    try:
        return number, files.is_claimed(other, _FIRST_CLAIM + number)
    finally:
        files.close(other)
