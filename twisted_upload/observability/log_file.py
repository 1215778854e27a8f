"""
The log file and its rotation.

Twisted's own log file changes the umask of the whole process while it opens a file, so a
file that another thread creates at that moment has no permissions for anyone.  It also
closes the old file first: if the new one cannot be opened, nothing is logged any more.
"""

from __future__ import annotations

import contextlib
import os
import stat

from twisted.logger import Logger

__all__ = ["LogFile"]

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class LogFile:
    """
    A log file.  When it is long enough, it is renamed to ``NAME.1``, the former ``NAME.1``
    to ``NAME.2``, and so on.

    Use it from one thread at a time.

    :param path: path of the file; it is created if necessary.
    :param length: bytes after which a new file is begun.
    :raises OSError: the file cannot be opened.
    """

    def __init__(self, path: str, length: int) -> None:
        self._path = os.path.abspath(path)
        self._length = length
        self._until = float("inf")
        self._torn = False  # whether the last line is incomplete
        self._take(_open(self._path, None))

    def write(self, data: bytes) -> None:
        """
        Write whole lines, to a new file if the current one is long enough.

        :raises OSError: not all of the data could be written; later writes may succeed.
        """
        if self._size >= self._until:
            self.rotate()
        if self._torn:
            data = b"\n" + data
        while data:
            written = os.write(self._descriptor, data)
            self._torn = written < len(data)
            self._size += written
            data = data[written:]

    def rotate(self) -> None:
        """Rename the file and begin a new one; if this fails, continue with the old one."""
        try:
            self._rotate()
        except OSError as error:
            self._until = self._size + self._length // 16  # do not retry at each line
            _log.error("cannot rotate the log file: {why}", why=error.strerror)

    def reopen(self) -> None:
        """Open the file by its name again; if this fails, continue with the old one."""
        try:
            self._replace()
        except OSError as error:
            _log.error("cannot reopen the log file, keeping the old one: {why}", why=error.strerror)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _rotate(self) -> None:
        old_path = f"{self._path}.1"
        moved = os.path.lexists(self._path)
        if moved:
            self._make_room(1)
            os.rename(self._path, old_path)
        try:
            self._replace()
        except OSError:
            if moved:
                os.rename(old_path, self._path)
            raise

    def _make_room(self, number: int) -> None:
        last = number
        while os.path.lexists(f"{self._path}.{last}"):
            last += 1
        for one in range(last, number, -1):
            os.rename(f"{self._path}.{one - 1}", f"{self._path}.{one}")

    def _replace(self) -> None:
        old = self._descriptor
        self._take(_open(self._path, stat.S_IMODE(os.fstat(old).st_mode)))
        self._torn = self._torn and self._size > 0
        os.close(old)

    def _take(self, descriptor: int) -> None:
        try:
            self._size = os.lseek(descriptor, 0, os.SEEK_END)
        except OSError:
            os.close(descriptor)
            raise
        # A device has no length, and must not be renamed.
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._until = self._length if regular else float("inf")
        self._descriptor = descriptor


def _open(path: str, mode: int | None) -> int:
    """
    Open the file; create it if necessary.

    :param mode: permissions of a new file; None for those that the umask allows.
    """
    try:
        descriptor = os.open(path, _FLAGS | os.O_EXCL, 0o666 if mode is None else mode)
    except FileExistsError:
        return os.open(path, _FLAGS, 0o666)
    if mode is not None:
        with contextlib.suppress(OSError):  # then it has fewer permissions
            os.fchmod(descriptor, mode)
    return descriptor


_log = Logger()
