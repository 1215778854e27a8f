"""
A record of the latest names, so that none is given out twice.

In ``.incoming/`` lies one small file with an entry for each process that keeps
files in the folder: a moment that none of the names it has given out is after.
It is written ahead of the names, by `AHEAD`, and so once in a few seconds while
uploads come; its fsync goes with theirs, before they are published.  A process
that starts begins after the entry that it finds, whatever the clock says.

Processes that share a folder have entries of their own, and serials of their
own (`twisted_upload.core.names.SERIALS`), so that none of them gives out a name of
another, not even where the file has been taken away between the two.

A process that ends in good order leaves the exact moment; after a crash, names
may be ahead of the clock by `AHEAD` for so long.  Damaged entries count as
written when the file was changed last.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import weakref
from typing import NamedTuple

from twisted_upload.disk.files import Files

__all__ = ["AHEAD", "ENTRIES", "RECORD", "NameRecord", "NameReservation"]

RECORD = "latest-names"

AHEAD = 5000
"""Milliseconds by which an entry is ahead of the names."""

ENTRIES = 64
"""Processes that can have an entry of their own; further ones share the last."""

_ENTRY = re.compile(rb"[0-9]{15}\n")
_WIDTH = 16
_FIRST_CLAIM = 1 << 61  # names of unfinished files are claimed by smaller numbers


class NameReservation(NamedTuple):
    """
    An entry that is to be synced before names are published.

    :ivar until: the latest moment that it covers.
    :ivar descriptor: what to sync.
    :ivar failed_syncs: how often an entry could not be synced before it was written.
    """

    until: int
    descriptor: int
    failed_syncs: int


class NameRecord:
    """
    The entry of one process.

    :param incoming: descriptor of ``.incoming/``; the entry is ours as long as
        it, or a duplicate, is open.
    :param durable: names must not come again after a crash of the machine either.
    :ivar number: of the entry.
    :ivar floor: milliseconds since the epoch; no name may be of then, or before.
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
        self._new = False  # the file, and its folder has not been synced since
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        with contextlib.suppress(FileNotFoundError):
            self._read(self._open(create=False))

    def write(self, latest: int) -> NameReservation:
        """
        Write an entry that covers a moment.  In a disk thread.

        :param latest: milliseconds since the epoch.
        :return: to be synced, and then given to `confirm`, or else to `sync_failed`.
        """
        with self._mutex:
            descriptor = self._descriptor
            if descriptor is None:
                descriptor = self._open(create=True)
            if self._new and self._durable:
                self._files.fsync(self._incoming)
            self._new = False
            if self._written < latest:
                self._write(descriptor, latest + AHEAD)
            return NameReservation(self._written, descriptor, self._failed_syncs)

    def confirm(self, cover: NameReservation) -> None:
        """
        An entry has been synced: names that it covers may be published.

        :raises OSError: another thread could not sync it meanwhile.  The kernel
            tells an error once, so that our own fsync says nothing.
        """
        with self._mutex:
            if cover.failed_syncs != self._failed_syncs:
                raise OSError(errno.EIO, "the record of names could not be synced")
            self.covered = cover.until

    def sync_failed(self) -> None:
        """An entry could not be synced: what the kernel has of it counts for nothing any more."""
        with self._mutex:
            self._failed_syncs += 1
            self._written = 0

    def close(self, latest: int) -> None:
        """
        No more names: write down the last one's moment, where it is known to be ours.

        Not synced: the entry that is there after a crash covers it as well.  The
        entry is anybody's then, even if a parent has the folder open, too.
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
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _read(self, descriptor: int) -> None:
        entry = self._files.read_at(descriptor, _WIDTH, self.number * _WIDTH)
        if _ENTRY.fullmatch(entry):
            self.floor = int(entry)
        elif entry.strip(b"\0"):
            self.damaged = True
            self.floor = int(os.fstat(descriptor).st_mtime * 1000) + AHEAD

    def _write(self, descriptor: int, moment: int) -> None:
        self._files.write_at(descriptor, b"%015d\n" % moment, self.number * _WIDTH)
        self._written = moment


def _take_entry(files: Files, incoming: int) -> tuple[int, bool]:
    """The first entry that nobody has, and whether it is certain that nobody else has it."""
    number = ENTRIES - 1
    for number in range(ENTRIES):
        files.claim(incoming, _FIRST_CLAIM + number)
        if not files.is_claimed(incoming, _FIRST_CLAIM + number):
            break
        files.unclaim(incoming, _FIRST_CLAIM + number)
    else:
        return number, False
    # Not every file system has claims.
    other = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=incoming)
    try:
        return number, files.is_claimed(other, _FIRST_CLAIM + number)
    finally:
        os.close(other)
