"""
The system calls of everyday use: open, look, list, lock; time, and random numbers.

`twisted_upload.disk.files.Files` adds those that write an upload.  Names are relative to an
open folder; without one (`None`), they are paths.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

__all__ = ["FileCalls", "IEvent", "Space"]


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Space(NamedTuple):
    """
    The free space of a file system.

    :ivar free: bytes that this process may still write.
    :ivar total: size of the file system in bytes.
    :ivar inodes: number of files that may still be created.
    :ivar all_inodes: number of inodes of the file system; 0 if it does not count them.
    :ivar read_only: whether nothing can be written.
    """

    free: int
    total: int
    inodes: int = 0
    all_inodes: int = 0
    read_only: bool = False


class IEvent(Protocol):
    """One thread tells others that something has happened."""

    def set(self) -> None:
        """Tell them, for good."""

    def is_set(self) -> bool:
        """Return whether they have been told."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until told, at most so many seconds; return whether we were."""


class FileCalls:
    """The real system calls.  Every method raises `OSError`."""

    # Open and close

    def open(self, name: str, flags: int, mode: int = 0o600, *, folder: int | None = None) -> int:
        """
        Open a file or a folder; it is closed on exec.

        :param flags: of open(2).
        :param mode: permissions if it is created, reduced by the umask.
        """
        return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=folder)

    def close(self, descriptor: int) -> None:
        """Close a file; network file systems report failed writes here."""
        try:  # noqa: SIM105 - runs for each upload, and `suppress` takes as long as closing
            os.close(descriptor)
        except InterruptedError:  # Linux closes the file nevertheless: close(2)
            pass

    def release(self, descriptor: int) -> None:
        """
        Close a file whose user is garbage, whatever it takes: for finalizers, which may run
        at any moment, even after the end of the process that they belong to.
        """
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def give_up(self, descriptor: int) -> None:
        """Close a file; that it could not be written does not matter any more."""
        with contextlib.suppress(OSError):
            self.close(descriptor)

    def duplicate(self, descriptor: int) -> int:
        """Return a second descriptor of the same open file."""
        return os.dup(descriptor)

    def duplicate_to(self, descriptor: int, other: int) -> None:
        """Make ``other``, which is closed first, a second descriptor of the same open file."""
        os.dup2(descriptor, other, inheritable=False)

    # Look

    def status(self, descriptor: int) -> os.stat_result:
        """Return the attributes of an open file."""
        return os.fstat(descriptor)

    def status_of(
        self, name: str, *, folder: int | None = None, follow: bool = False
    ) -> os.stat_result:
        """
        Return the attributes of what has a name.

        :param follow: of what a symbolic link refers to, rather than of the link.
        """
        return os.stat(name, dir_fd=folder, follow_symlinks=follow)

    def links(self, descriptor: int) -> int:
        """Return the number of names (hard links) of a file."""
        return os.fstat(descriptor).st_nlink

    def names(self, folder: int) -> list[str]:
        """Return all names in a folder, in any order."""
        with self._anew(folder) as anew:
            return os.listdir(anew)

    @contextlib.contextmanager
    def scan(self, folder: int) -> Iterator[Iterator[str]]:
        """Provide the names in a folder, in any order, a few at a time: for large folders."""
        with self._anew(folder) as anew, os.scandir(anew) as entries:
            yield (entry.name for entry in entries)

    @contextlib.contextmanager
    def _anew(self, folder: int) -> Iterator[int]:
        """
        Open a folder once more, to list it.

        The position in a listing belongs to the open folder: of two threads that list it at
        once, one misses names.  And on btrfs (since Linux 6.5), what has been created since
        the folder was opened, or was last listed, is missing.
        """
        anew = os.open(".", _FOLDER, dir_fd=folder)
        try:
            yield anew
        finally:
            os.close(anew)

    def can_write(self, name: str, *, folder: int | None = None) -> bool:
        """Return whether we may create files in a folder (access(2), effective ids)."""
        return os.access(name, os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)

    def attribute(self, descriptor: int, name: str) -> bytes:
        """Return an extended attribute."""
        return os.getxattr(descriptor, name)

    def free(self, directory: int) -> Space:
        """Return the free space of a file system."""
        free = os.fstatvfs(directory)
        return Space(
            free.f_bavail * free.f_frsize,
            free.f_blocks * free.f_frsize,
            free.f_favail,
            free.f_files,
            bool(free.f_flag & os.ST_RDONLY),
        )

    # Content

    def read(self, descriptor: int, length: int) -> bytes:
        """Read from the position of a file, or from a pipe; nothing at its end."""
        return os.read(descriptor, length)

    def seek(self, descriptor: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position of a file; return it."""
        return os.lseek(descriptor, offset, whence)

    # Change

    def unlink(self, directory: int, name: str) -> None:
        """Remove a name."""
        os.unlink(name, dir_fd=directory)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def move(self, path: str, new_path: str) -> None:
        """Move a file, replacing any file that is there."""
        os.rename(path, new_path)

    def make_folder(self, name: str, mode: int, *, folder: int | None = None) -> None:
        """Create a folder; its permissions are reduced by the umask."""
        os.mkdir(name, mode, dir_fd=folder)

    def remove_folder(self, name: str, *, folder: int | None = None) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=folder)

    def set_times(self, descriptor: int, seconds: float | None = None) -> None:
        """Set the times of access and modification, in seconds since the epoch; or to now."""
        os.utime(descriptor, None if seconds is None else (seconds, seconds))

    def set_owner(self, descriptor: int, user: int, group: int) -> None:
        """Set user and group; -1 leaves one as it is."""
        os.fchown(descriptor, user, group)

    def set_attribute(self, descriptor: int, name: str, value: bytes | None) -> None:
        """Set an extended attribute, or remove it."""
        if value is None:
            os.removexattr(descriptor, name)
        else:
            os.setxattr(descriptor, name, value)

    # Locks

    def lock(self, descriptor: int) -> bool:
        """Try to lock a file exclusively (flock); return whether this succeeded."""
        return self._lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def lock_shared(self, descriptor: int) -> bool:
        """Try to lock a file together with others that do; return whether this succeeded."""
        return self._lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def wait_for_lock(self, descriptor: int) -> None:
        """Lock a file exclusively, as soon as it is free."""
        self._lock(descriptor, fcntl.LOCK_EX)

    def _lock(self, descriptor: int, operation: int) -> bool:
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            return False
        return True

    def unlock(self, descriptor: int) -> None:
        """Release the lock of a file (flock)."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    # This process

    def user(self) -> int:
        """Return our effective user id."""
        return os.geteuid()

    def now(self) -> float:
        """Return the time of day, in seconds since the epoch; it can be set."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary starting point; nobody can set them."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Block this thread for some time."""
        time.sleep(seconds)

    def random(self, size: int) -> bytes:
        """Return random bytes that nobody can guess."""
        return secrets.token_bytes(size)

    def mutex(self) -> AbstractContextManager[object]:
        """Return a new lock between the threads of this process."""
        return threading.Lock()

    def event(self) -> IEvent:
        """Return a new event."""
        return threading.Event()
