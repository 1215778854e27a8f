"""
The file that the log goes to, until another takes its place.

Twisted's own sets the umask of the whole process while it opens one, and whatever
another thread makes at that moment is for nobody.  It also closes the old one
first: where there can be no new one, it is never written to again.
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
    A log file.  When it has become long it is kept as ``NAME.1``, what was that as
    ``NAME.2``, and so on.

    To be used by one thread at a time.

    :param path: of the file; it is made if there is none.
    :param length: bytes after which another is begun.
    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: str, length: int) -> None:
        self._path = os.path.abspath(path)
        self._length = length
        self._until = float("inf")
        self._torn = False  # its last line is not whole
        self._take(_open(self._path, None))

    def write(self, data: bytes) -> None:
        """
        Write whole lines, to another file if this one is long.

        :raises OSError: not all of that could be written; what comes later may be.
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
        """Begin another file, and keep the old one; where there can be none, go on with it."""
        try:
            self._rotate()
        except OSError as error:
            self._until = self._size + self._length // 16  # not with each line
            _log.error("cannot rotate the log file: {why}", why=error.strerror)

    def reopen(self) -> None:
        """Go on with the file of that name, wherever the old one is; or else with that."""
        try:
            self._replace()
        except OSError as error:
            _log.error("cannot reopen the log file, keeping the old one: {why}", why=error.strerror)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def _rotate(self) -> None:
        kept = f"{self._path}.1"
        moved = os.path.lexists(self._path)
        if moved:
            self._make_room(1)
            os.rename(self._path, kept)
        try:
            self._replace()
        except OSError:
            if moved:
                os.rename(kept, self._path)
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
        # A device has no length, and must stay where it is.
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._until = self._length if regular else float("inf")
        self._descriptor = descriptor


def _open(path: str, mode: int | None) -> int:
    """
    Open it; if there is none, make it.

    :param mode: permissions of one that is made; None for those that the umask leaves.
    """
    try:
        descriptor = os.open(path, _FLAGS | os.O_EXCL, 0o666 if mode is None else mode)
    except FileExistsError:
        return os.open(path, _FLAGS, 0o666)
    if mode is not None:
        with contextlib.suppress(OSError):  # then it has less
            os.fchmod(descriptor, mode)
    return descriptor


_log = Logger()
