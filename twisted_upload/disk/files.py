"""
The system calls of the write path, in one seam.

`Files` is handed to whoever touches a disk, so that a test can make any single
call fail (`twisted_upload.disk.testing.FaultyFiles`).  Everything is relative to
directory descriptors: a directory that is renamed or replaced under a running
daemon cannot send a file elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from twisted_upload.disk.aio import ParallelSync, sync_one_by_one

__all__ = ["PIPE_SIZE", "Files", "NoPipes", "Pipes", "Space"]

SHORTAGE_TIME, SHORTAGE_PAUSE = 2.0, 0.01
"""Seconds for which files wait for descriptors, and seconds between two tries."""

PIPE_SIZE = 1024 * 1024
"""Bytes that a pipe holds, where the system allows it."""

_libc = ctypes.CDLL(None, use_errno=True)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_RENAME_NOREPLACE = 1  # linux/fs.h
_SYNC_FILE_RANGE_WAIT_BEFORE, _SYNC_FILE_RANGE_WRITE, _SYNC_FILE_RANGE_WAIT_AFTER = 1, 2, 4

_renameat2: Any
_sync_file_range: Any
try:
    _renameat2 = _libc.renameat2
    _renameat2.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    ]
except AttributeError:  # a C library without it; the fallback is link and unlink
    _renameat2 = None

try:
    _sync_file_range = _libc.sync_file_range
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
except AttributeError:
    _sync_file_range = None


def _lock(kind: int, start: int, length: int = 1) -> bytes:
    """A ``struct flock`` for some bytes, or for all from there: fcntl_locking(2)."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def _raise_errno(*names: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), *names[:1])


class Space(NamedTuple):
    """
    What is free on a file system.

    :ivar free: bytes that this process may still write.
    :ivar total: bytes of the file system.
    :ivar inodes: files that may still be created.
    :ivar all_inodes: inodes of the file system; 0 where they are not counted.
    """

    free: int
    total: int
    inodes: int = 0
    all_inodes: int = 0


class Files:
    """
    The real system calls.  Every method raises `OSError`, and an `EINTR` is
    tried again by Python or here (PEP 475).
    """

    def __init__(self) -> None:
        self._idle_syncs: list[ParallelSync] = []  # one for each thread that syncs at a time
        self._short_since: float | None = None  # since when there is no descriptor for a file

    def create(self, directory: int, name: str, mode: int) -> int:
        """
        Open a new file for writing and reading, with these permissions less the
        umask; `FileExistsError` if it is not new.

        Where there is no descriptor for it, wait for one, unless they have been
        short for too long: an upload that has come so far is not to fail for a
        moment's shortage, in which new connections wait longer than it does
        (`twisted_upload.net.ports`).
        """
        while True:
            try:
                descriptor = os.open(name, _NEW, mode, dir_fd=directory)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._wait():
                    raise
            else:
                self._short_since = None
                return descriptor

    def _wait(self) -> bool:
        now = time.monotonic()
        since = self._short_since or now
        self._short_since = since
        if now - since > SHORTAGE_TIME:
            return False
        time.sleep(SHORTAGE_PAUSE)
        return True

    def lock(self, descriptor: int) -> bool:
        """Try to become the only holder of a file; whether that worked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def claim(self, folder: int, number: int) -> None:
        """
        Be seen by `is_claimed` until this descriptor of a folder, and its
        duplicates, are closed; whoever dies has closed them.

        :param number: below 2**62.
        """
        # A file system or sandbox that cannot: then nobody is seen to claim anything.
        with contextlib.suppress(OSError):
            fcntl.fcntl(folder, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, number))

    def unclaim(self, folder: int, number: int | None = None) -> None:
        """
        Be seen no more, with that number or with any, though duplicates of the
        descriptor are open, such as those of a parent from before a fork.
        """
        everything = _lock(fcntl.F_UNLCK, 0, 0)
        lock = everything if number is None else _lock(fcntl.F_UNLCK, number)
        with contextlib.suppress(OSError):
            fcntl.fcntl(folder, fcntl.F_OFD_SETLK, lock)

    def is_claimed(self, folder: int, number: int | None = None) -> bool:
        """
        Whether somebody with another descriptor of a folder claims a number in it,
        or any.

        Asking locks nothing, and waits for nobody.
        """
        question = _lock(fcntl.F_WRLCK, 0, 0) if number is None else _lock(fcntl.F_WRLCK, number)
        try:
            answer = fcntl.fcntl(folder, fcntl.F_OFD_GETLK, question)
        except OSError:
            return False
        kind: int = struct.unpack_from("h", answer)[0]
        return kind != fcntl.F_UNLCK

    def open_record(self, folder: int, name: str, create: bool) -> int:
        """Open a small file of ours for reading and writing; `FileNotFoundError` if not there."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        return os.open(name, flags, 0o600, dir_fd=folder)

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        """Read from an offset in a file; shorter at its end."""
        return os.pread(descriptor, length, offset)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write a few bytes at an offset in a file."""
        if os.pwrite(descriptor, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def links(self, descriptor: int) -> int:
        """How many names a file has."""
        return os.fstat(descriptor).st_nlink

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write some of it; how many bytes."""
        return os.write(descriptor, data)

    def writev(self, descriptor: int, chunks: Sequence[bytes | memoryview]) -> int:
        """Write some of several pieces in a row; how many bytes."""
        return os.writev(descriptor, chunks)

    def chmod(self, descriptor: int, mode: int) -> None:
        """Set permissions, whatever the umask."""
        os.fchmod(descriptor, mode)

    def receive(self, socket: int, pipe: int, length: int) -> int:
        """
        Move bytes from a socket into a pipe, inside the kernel: `BlockingIOError`
        where there are none just now, 0 at the end.
        """
        return os.splice(socket, pipe, length, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)

    def has_more(self, socket: int, seconds: float) -> bool:
        """Wait a little for a socket to have something to read, or to have ended."""
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def splice(self, pipe: int, descriptor: int, length: int) -> int:
        """Move bytes from a pipe into a file, inside the kernel; how many."""
        return os.splice(pipe, descriptor, length, flags=os.SPLICE_F_MOVE)

    def fsync(self, descriptor: int) -> None:
        """Wait until a file, or a directory, is on the device."""
        os.fsync(descriptor)

    def syncs_in_parallel(self, descriptor: int) -> bool:
        """Whether `fsync_all` is more than one fsync after the other; syncs the descriptor."""
        try:
            syncs = ParallelSync()
        except OSError:
            return False
        works = syncs.works(descriptor)
        # To be used later: giving one back takes the kernel some 30 ms.
        self._idle_syncs.append(syncs)
        return works

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """
        Wait until several files are on the device, all at once.

        :return: for each what went wrong with it, if anything.
        """
        try:
            syncs = self._idle_syncs.pop()
        except IndexError:
            try:
                syncs = ParallelSync()
            except OSError:  # the system has no more of them just now
                return sync_one_by_one(self.fsync, descriptors)
        try:
            results = syncs.sync(descriptors)
        except BaseException:
            syncs.close()
            raise
        self._idle_syncs.append(syncs)
        return results

    def start_write_back(self, descriptor: int, offset: int, length: int) -> None:
        """Let the kernel begin to write a range to the device."""
        if _sync_file_range is not None:
            self._sync_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)

    def finish_write_back(self, descriptor: int, offset: int, length: int) -> None:
        """Wait until a range has been written to the device (not flushed from its cache)."""
        if _sync_file_range is not None:
            flags = (
                _SYNC_FILE_RANGE_WAIT_BEFORE | _SYNC_FILE_RANGE_WRITE | _SYNC_FILE_RANGE_WAIT_AFTER
            )
            self._sync_range(descriptor, offset, length, flags)

    def _sync_range(self, descriptor: int, offset: int, length: int, flags: int) -> None:
        while _sync_file_range(descriptor, offset, length, flags) != 0:
            number = ctypes.get_errno()
            if number in (errno.ENOSYS, errno.ESPIPE, errno.EINVAL):
                return  # a file system that cannot: it is only a hint
            if number != errno.EINTR:
                _raise_errno()

    def close(self, descriptor: int) -> None:
        """Close; network file systems tell here what they could not write."""
        try:  # noqa: SIM105 - for each upload, and `suppress` takes as long as closing
            os.close(descriptor)
        except InterruptedError:  # Linux closes all the same: close(2)
            pass

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        """
        Move a file to a name that must be free, in one step.

        :raises FileExistsError: the name is taken; nothing has changed.
        :raises OSError: with ``EINVAL`` or ``ENOSYS`` where the file system
            or the kernel cannot (then: `link` and `unlink`).
        """
        if _renameat2 is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        old, new = name.encode(), new_name.encode()  # ours, and so ASCII
        while _renameat2(source, old, target, new, _RENAME_NOREPLACE) != 0:
            if ctypes.get_errno() != errno.EINTR:
                _raise_errno(new_name)

    def replace(self, source: int, name: str, target: int, new_name: str) -> None:
        """Move a file to a name, whatever had it, in one step."""
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """Give a file a second name, which must be free."""
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def unlink(self, directory: int, name: str) -> None:
        """Take a name away."""
        os.unlink(name, dir_fd=directory)

    def free(self, directory: int) -> Space:
        """What is free on a file system."""
        free = os.fstatvfs(directory)
        return Space(
            free.f_bavail * free.f_frsize,
            free.f_blocks * free.f_frsize,
            free.f_favail,
            free.f_files,
        )


class NoPipes(Exception):
    """There are no descriptors for a pipe."""


class Pipes:
    """
    Pipes through which bytes go from a socket to a file inside the kernel; used
    again, each by one thread at a time.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[int, int]]:
        """
        The reading and the writing end of an empty pipe.

        Leave it empty, or leave with an exception.

        :raises NoPipes: there are no descriptors for one.
        """
        try:
            ends = self._idle.pop()
        except IndexError:
            try:
                ends = os.pipe2(os.O_CLOEXEC)
            except OSError as error:
                raise NoPipes(error.strerror) from error
            with contextlib.suppress(OSError):  # an unprivileged user has had his share
                fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        try:
            yield ends
        except BaseException:
            os.close(ends[0])
            os.close(ends[1])
            raise
        self._idle.append(ends)

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            for end in self._idle.pop():
                os.close(end)
