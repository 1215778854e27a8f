"""
A watched folder: which of its files are complete.

A file is complete if its writer has closed it or has moved it here, as the system tells;
or if its size and its times have not changed for a while.  Hidden files, those that an
option excludes, and whatever is not a regular file are left alone.  Symbolic links are not
followed, neither to files nor to folders.

Everything here waits for the disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from twisted_upload.client.files import ClientFiles
from twisted_upload.client.system import SYSTEM
from twisted_upload.client.watch.record import Identity, identity_of

__all__ = ["FolderScan", "Found", "IWanted", "WatchedFolder"]

MOST_FILES = 100_000
"""Maximum number of files that one scan looks at; the others come when these are gone."""


@dataclass(frozen=True, slots=True)
class Found:
    """
    A complete file.

    :ivar path: relative to the folder, with ``/``.
    :ivar identity: as it was found.
    :ivar since: when it was first seen so, by the clock of the scans.
    """

    path: str
    identity: Identity
    since: float


@dataclass(frozen=True, slots=True)
class FolderScan:
    """
    What a scan has found.

    :ivar complete: the complete files, the oldest first.
    :ivar settling: number of files that may still be written.
    :ivar size: bytes of both.
    :ivar others: what is neither a file nor a folder: paths.
    :ivar unreadable: folders that could not be read, each with the reason.
    :ivar more: whether there are more files than a scan looks at.
    """

    complete: list[Found]
    settling: int
    size: int
    others: list[str]
    unreadable: dict[str, str]
    more: bool


class IWanted(Protocol):
    """Decides what is looked at."""

    def __call__(self, path: str, *, is_folder: bool) -> bool:
        """
        Return whether to look at something.

        :param path: relative to the folder, with ``/``.
        """


@dataclass(slots=True)
class _Seen:
    identity: Identity
    since: float  # unchanged since then


class WatchedFolder:
    """
    A folder, scanned again and again.

    :param path: its path.
    :param settle: seconds for which a file must not have changed.
    :param wanted: returns whether a file, or a folder with what is in it, is to be looked at.
    :param files: the system calls.
    :ivar files: the same.
    """

    def __init__(
        self, path: str, settle: float, wanted: IWanted, files: ClientFiles | None = None
    ) -> None:
        self.files = files or SYSTEM.files
        self.path = path
        self._settle = settle
        self._wanted = wanted
        self._seen: dict[str, _Seen] = {}
        self._closed: dict[str, Identity] = {}

    def closed(self, path: str) -> None:
        """Note that a file was closed by its writer, or moved here; path relative to this one."""
        status = self.status(path)
        if status is not None and len(self._closed) < MOST_FILES:
            self._closed[path] = identity_of(status)

    def absolute(self, path: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.path, path)

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of a file; None if it is not there, or not a regular file."""
        try:
            status = self.files.status_of(self.absolute(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def scan(self, now: float) -> FolderScan:
        """
        Look at all files.

        :param now: seconds of a clock that never goes back.
        :raises OSError: the folder itself cannot be read.
        """
        scan = FolderScan([], 0, 0, [], {}, more=False)
        seen: dict[str, _Seen] = {}
        settling, size, more = 0, 0, False
        for path, status in self._files("", scan):
            if len(seen) >= MOST_FILES:
                more = True
                break
            identity = identity_of(status)
            known = self._seen.get(path)
            if known is None or known.identity != identity:
                known = _Seen(identity, now)
            seen[path] = known
            size += status.st_size
            # If it is being written again, it has changed since it was closed.
            if self._closed.get(path) == identity or now - known.since >= self._settle:
                scan.complete.append(Found(path, identity, known.since))
            else:
                settling += 1
        self._seen = seen
        self._closed = {path: it for path, it in self._closed.items() if path in seen}
        scan.complete.sort(key=lambda found: (found.identity.modified, found.path))
        return FolderScan(scan.complete, settling, size, scan.others, scan.unreadable, more)

    def _files(self, folder: str, scan: FolderScan) -> Iterator[tuple[str, os.stat_result]]:
        try:
            names = self.files.names(self.absolute(folder))
        except OSError as error:
            if not folder:
                raise
            scan.unreadable[folder] = error.strerror or str(error)
            return
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if name.startswith("."):
                continue
            try:
                status = self.files.status_of(self.absolute(path))
            except OSError:  # it has gone meanwhile
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if not self._wanted(path, is_folder=is_folder):
                continue
            if is_folder:
                yield from self._files(path, scan)
            elif stat.S_ISREG(status.st_mode):
                yield path, status
            else:
                scan.others.append(path)
