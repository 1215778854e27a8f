"""
The files of a journal: the current one, to which lines are appended, and older ones.
``FILE.1`` is the most recent of those.

Several processes may append to a journal, and another program (logrotate) may rename it
at any time.  No file is therefore kept open: each append locks the file that has the
name at that moment.

Symbolic links and files that belong to anyone but our user and root are rejected: in a
folder where other users may create files, they could otherwise choose what is appended
to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from twisted_upload.disk.files import Files
from twisted_upload.errors import CannotStart
from twisted_upload.observability.symlinks import check_links

__all__ = ["JournalFiles"]

LOCK_TIMEOUT, _LOCK_PAUSE = 2.0, 0.002
"""Seconds to wait for a lock, and between two attempts to get it."""

_MODE = 0o640

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

_ATTEMPTS = 20

_SUFFIXES = ("", ".gz")


class JournalFiles:
    """
    A journal on disk.  Its methods block, so use a thread that may wait.

    :ivar path: path of the current file, with symbolic links resolved.
    :param files: the system calls.
    :param size: bytes after which a new file is begun; 0 for never.
    :param keep: number of older files to keep.
    :param wanted_by: the option that asks for the journal, for error messages.
    :param patience: seconds for which `append` waits for another process's lock; that
        process may be stalled.
    """

    def __init__(
        self,
        path: str,
        files: Files,
        size: int,
        keep: int,
        *,
        wanted_by: str = "--journal",
        patience: float = LOCK_TIMEOUT,
    ) -> None:
        self._given = os.path.abspath(path)
        self.path = os.path.realpath(path)
        self._files = files
        self._size = size
        self._keep = keep
        self._wanted_by = wanted_by
        self._patience = patience

    def check(self) -> None:
        """
        Check that the journal can be written; creates the file if necessary.

        :raises CannotStart: the file cannot be appended to, or cannot be rotated.
        """
        try:
            check_links(self._given)
            if os.path.realpath(self._given) != self.path:
                raise OSError(errno.EBUSY, "a symbolic link in the path has just changed")
            self.append(b"")
        except OSError as error:
            raise CannotStart(
                f"{self._wanted_by}: cannot write {self.path}: {error.strerror}"
            ) from error
        folder = os.path.dirname(self.path)
        if self._size and not self._files.can_write(folder):
            raise CannotStart(
                f"{self._wanted_by}: cannot rename files in {folder}; set journal-size to 0 if"
                " another program renames the journal"
            )

    def append(self, data: bytes) -> OSError | None:
        """
        Append whole lines, and sync them.

        Either all of them are in the file, without other lines in between, or none is.
        They begin on a new line, even if a crash has left an incomplete one.

        :return: why they could not be synced, or None; they are in the file either way.
        :raises OSError: the lines are not in the file.
        """
        files = self._files
        for _ in range(_ATTEMPTS):
            descriptor = files.open(self.path, _FLAGS, _MODE)
            try:
                self._check_file(descriptor)
                locked = self._lock(descriptor, 0.0 if not data else self._patience)
                if not self._is_current(descriptor):
                    continue
                size = files.status(descriptor).st_size
                if not data:
                    return None
                if not locked:
                    raise OSError(errno.ETIMEDOUT, "another process has locked it")
                if self._size and size and size + len(data) > self._size:
                    self._rotate()
                    continue
                self._append(descriptor, data, size)
                files.unlock(descriptor)
                return self._sync(descriptor)
            finally:
                # It is closed in any case, and the sync has told whether the lines are there:
                # they are not written again.
                with contextlib.suppress(OSError):
                    files.close(descriptor)
        raise OSError(errno.EBUSY, "it keeps being renamed")

    def _lock(self, descriptor: int, patience: float) -> bool:
        files = self._files
        end = files.monotonic() + patience
        while not files.lock(descriptor):
            if files.monotonic() >= end:
                return False
            files.pause(_LOCK_PAUSE)
        return True

    def _is_current(self, descriptor: int) -> bool:
        try:
            current = self._files.status_of(self.path, follow=True)
            return os.path.samestat(self._files.status(descriptor), current)
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        """Rename each file to the next number.  Call this while holding the lock."""
        files = self._files
        number = self._keep + 1
        while self._remove(f"{self.path}.{number}"):  # left from a larger `keep`
            number += 1
        for number in range(self._keep, 0, -1):
            younger = f"{self.path}.{number - 1}" if number > 1 else self.path
            for suffix in _SUFFIXES:
                with contextlib.suppress(FileNotFoundError):
                    files.move(younger + suffix, f"{self.path}.{number}{suffix}")
        if not self._keep:
            files.remove(self.path)

    def _remove(self, path: str) -> bool:
        """Remove a file, compressed or not; return whether there was one."""
        removed = False
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(path + suffix)
                removed = True
        return removed

    def _check_file(self, descriptor: int) -> None:
        status, user = self._files.status(descriptor), self._files.user()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_uid not in (0, user):
            raise PermissionError(
                errno.EPERM, f"it belongs to uid {status.st_uid}, not to uid {user}: chown it"
            )
        if status.st_nlink > 1:
            raise PermissionError(errno.EPERM, "it has a second hard link: remove one of them")

    def _append(self, descriptor: int, data: bytes, size: int) -> None:
        files = self._files
        if size and files.read_at(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                left = left[files.write(descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                files.truncate(descriptor, size)
            raise

    def _sync(self, descriptor: int) -> OSError | None:
        try:
            self._files.datasync(descriptor)
        except OSError as error:
            return error
        return None
