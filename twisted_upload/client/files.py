"""
What the client asks of the kernel about files, in one class.

Code that has a `ClientFiles` asks nobody else, so that a test can replace the kernel.  The
names are those of `twisted_upload.disk.files.Files`; these calls are there on every system,
though, and take paths: Windows opens no folders.
"""

from __future__ import annotations

import errno
import io
import os
import select
from typing import Any

__all__ = ["ClientFiles", "OpenFile", "make_durable_folders", "read_file", "write_all"]

_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class ClientFiles:
    """The real system calls.  Every method raises `OSError`."""

    # Open and close

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """
        Open a file; it is closed on exec.

        :param flags: of open(2); those that the system does not have are left out by the
            caller.
        :param mode: permissions if it is created, reduced by the umask.
        """
        return os.open(path, flags | _ALWAYS, mode)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def duplicate(self, descriptor: int) -> int:
        """Return a second descriptor of the same open file or socket."""
        return os.dup(descriptor)

    # Look

    def status(self, descriptor: int) -> os.stat_result:
        """Return the attributes of an open file."""
        return os.fstat(descriptor)

    def status_of(self, path: str, *, follow: bool = False) -> os.stat_result:
        """
        Return the attributes of what has a path.

        :param follow: of what a symbolic link refers to, rather than of the link.
        """
        return os.stat(path) if follow else os.lstat(path)

    def names(self, folder: str) -> list[str]:
        """Return all names in a folder, in any order."""
        return os.listdir(folder)

    def real_path(self, path: str) -> str:
        """Return the absolute path without symbolic links."""
        return os.path.realpath(path)

    # Content

    def read(self, descriptor: int, length: int) -> bytes:
        """Read from the position of a file; nothing at its end."""
        return os.read(descriptor, length)

    @property
    def can_read_at(self) -> bool:
        """Whether the system has `read_at`."""
        return hasattr(os, "pread")

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        """Read from an offset, and leave the position alone: from any thread."""
        return os.pread(descriptor, length, offset)

    def seek(self, descriptor: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position of a file; return it."""
        return os.lseek(descriptor, offset, whence)

    def is_blocking(self, descriptor: int) -> bool:
        """Return whether reading waits for data; true if the system cannot tell."""
        return not hasattr(os, "get_blocking") or os.get_blocking(descriptor)

    def wait_for(self, file: Any) -> None:
        """Wait until a file that does not block can be read."""
        select.select([file], [], [])

    @property
    def has_pipes(self) -> bool:
        """Whether the system has `pipe`."""
        return hasattr(os, "pipe2")

    def pipe(self) -> tuple[int, int]:
        """Return the read end and the write end of a new pipe."""
        return os.pipe2(os.O_CLOEXEC)

    # Change

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write at least part of the data; return the number of bytes written."""
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Shorten a file."""
        os.ftruncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        """Wait until a file is on the device."""
        os.fsync(descriptor)

    def sync_folder(self, folder: str) -> None:
        """Wait until the names in a folder are on the device, where the system can do that."""
        if os.name != "posix":  # a folder cannot be opened there
            return
        descriptor = os.open(folder, os.O_RDONLY | _ALWAYS)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # this file system cannot
                raise
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def replace(self, path: str, new_path: str) -> None:
        """Move a file to another path atomically, replacing any file there."""
        os.replace(path, new_path)

    def make_folder(self, path: str, mode: int = 0o777) -> None:
        """Create a folder; its permissions are reduced by the umask."""
        os.mkdir(path, mode)

    def make_folders(self, path: str, mode: int = 0o777) -> None:
        """Create a folder, with those that it is in; harmless if it exists."""
        os.makedirs(path, mode, exist_ok=True)

    def lock(self, descriptor: int) -> bool:
        """
        Try to lock a file exclusively, wherever the system can; return whether this succeeded.

        :raises OSError: it cannot be locked here.
        """
        # Imported here, because each is there on some systems only.
        try:
            import fcntl  # noqa: PLC0415
        except ImportError:
            return self._lock_by_msvcrt(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_by_msvcrt(self, descriptor: int) -> bool:
        try:
            import msvcrt  # noqa: PLC0415
        except ImportError:
            return True
        lock = getattr(msvcrt, "locking", None)
        try:
            if lock is not None:
                lock(descriptor, getattr(msvcrt, "LK_NBLCK", 2), 1)
        except OSError:
            return False
        return True

    def random(self, size: int) -> bytes:
        """Return random bytes that nobody can guess."""
        return os.urandom(size)


class OpenFile(io.RawIOBase):
    """
    An open file as a binary file object.

    :param closes: whether the descriptor is closed with it.
    """

    def __init__(self, files: ClientFiles, descriptor: int, *, closes: bool = True) -> None:
        super().__init__()
        self._closes = closes
        self._files = files
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return its file descriptor."""
        if self.closed:
            raise ValueError("the file is closed")
        return self._descriptor

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return whether it is not a pipe."""
        try:
            self._files.seek(self.fileno(), 0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes, or all; none at the end."""
        if size is None or size < 0:
            return self.readall()
        return self._files.read(self.fileno(), size)

    def readinto(self, buffer: Any) -> int:
        """Fill at least a part of a buffer; return how much."""
        view = memoryview(buffer).cast("B")
        data = self._files.read(self.fileno(), len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Continue from another offset; return it."""
        return self._files.seek(self.fileno(), offset, whence)

    def tell(self) -> int:
        """Return the offset from which it is read next."""
        return self._files.seek(self.fileno(), 0, os.SEEK_CUR)

    def close(self) -> None:
        """Close it; harmless if that has been done."""
        if not self.closed:
            super().close()
            if self._closes:
                self._files.close(self._descriptor)


def make_durable_folders(files: ClientFiles, path: str, mode: int = 0o777) -> None:
    """
    Create a folder, with those that it is in; its name then survives a power failure.

    It is harmless if the folder exists: its name is synced then too.

    :param path: absolute.
    :param mode: permissions of the folder itself.
    """
    above = os.path.dirname(path)
    try:
        files.make_folder(path, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        if above == path:
            raise
        make_durable_folders(files, above)
        make_durable_folders(files, path, mode)
        return
    files.sync_folder(above)


def read_file(files: ClientFiles, path: str, longest: int) -> bytes:
    """Return the content of a small file, at most so many bytes of it."""
    descriptor = files.open(path, os.O_RDONLY)
    chunks: list[bytes] = []
    try:
        while longest > 0 and (chunk := files.read(descriptor, longest)):
            chunks.append(chunk)
            longest -= len(chunk)
    finally:
        files.close(descriptor)
    return b"".join(chunks)


def write_all(files: ClientFiles, descriptor: int, data: bytes) -> None:
    """Write all of the data."""
    left = memoryview(data)
    while left:
        moved = files.write(descriptor, left)
        if not moved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[moved:]
