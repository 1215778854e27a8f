"""
The system calls of the write path, in one class.

`Files` is passed to all code that uses a disk, so that a test can make any single call
fail (`twisted_upload.disk.testing.FaultyFiles`), or replace the kernel as a whole.  Code
that has a `Files` asks nobody else about files, time, or random numbers.  All names are
relative to open directories: if a directory is renamed or replaced while the daemon runs,
no file ends up elsewhere.

The calls of everyday use are in `FileCalls`; here are those that write an upload.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket as _socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from twisted_upload.disk.aio import ParallelSync, sync_one_by_one
from twisted_upload.disk.file_calls import FileCalls

__all__ = ["PIPE_SIZE", "Files", "NoPipes", "Pipes"]

SHORTAGE_TIME, SHORTAGE_PAUSE = 2.0, 0.01
"""Seconds for which `Files.create` waits for a free file descriptor, and seconds between
two attempts."""

PIPE_SIZE = 1024 * 1024
"""Capacity of a pipe in bytes, if the system allows it."""

_CANNOT_COPY = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM)

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
    """Return a ``struct flock`` for a range; length 0 means to the end: fcntl_locking(2)."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def _raise_errno(*names: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), *names[:1])


class Files(FileCalls):
    """
    The real system calls.  Every method raises `OSError`; after `EINTR`, the call is
    repeated by Python (PEP 475) or here.
    """

    def __init__(self) -> None:
        self._idle_syncs: list[ParallelSync] = []  # one for each thread that syncs at a time
        self._short_since: float | None = None  # since when no file descriptor has been free

    def create(self, directory: int, name: str, mode: int) -> int:
        """
        Create a file and open it for writing and reading.

        If no file descriptor is free, wait for one, unless the shortage has lasted too
        long: an upload that has come this far should not fail because of a brief
        shortage, during which new connections wait longer than it does
        (`twisted_upload.net.ports`).

        :param mode: permissions, reduced by the umask.
        :raises FileExistsError: the file exists already.
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
        now = self.monotonic()
        since = self._short_since or now
        self._short_since = since
        if now - since > SHORTAGE_TIME:
            return False
        self.pause(SHORTAGE_PAUSE)
        return True

    def claim(self, folder: int, number: int) -> None:
        """
        Claim a number in a folder: `is_claimed` reports it until this file descriptor of
        the folder and its duplicates are closed, at the latest by the death of the process.

        :param number: less than 2**62.
        """
        # If a file system or sandbox does not support this, no claim is ever seen.
        with contextlib.suppress(OSError):
            fcntl.fcntl(folder, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, number))

    def unclaim(self, folder: int, number: int | None = None) -> None:
        """
        Release a claim, or all claims, even if duplicates of the file descriptor are open,
        such as those of a parent from before a fork.
        """
        everything = _lock(fcntl.F_UNLCK, 0, 0)
        lock = everything if number is None else _lock(fcntl.F_UNLCK, number)
        with contextlib.suppress(OSError):
            fcntl.fcntl(folder, fcntl.F_OFD_SETLK, lock)

    def is_claimed(self, folder: int, number: int | None = None) -> bool:
        """
        Return whether a number in a folder, or any number, is claimed through another file
        descriptor (not a duplicate of this one).

        This locks nothing and never waits.
        """
        question = _lock(fcntl.F_WRLCK, 0, 0) if number is None else _lock(fcntl.F_WRLCK, number)
        try:
            answer = fcntl.fcntl(folder, fcntl.F_OFD_GETLK, question)
        except OSError:
            return False
        kind: int = struct.unpack_from("h", answer)[0]
        return kind != fcntl.F_UNLCK

    def open_record(self, folder: int, name: str, create: bool) -> int:
        """
        Open one of our small files for reading and writing.

        :param create: create it if it does not exist.
        :raises FileNotFoundError: it does not exist, and is not to be created.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        return os.open(name, flags, 0o600, dir_fd=folder)

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        """Read from an offset in a file; the result is shorter at its end."""
        return os.pread(descriptor, length, offset)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write a few bytes at an offset in a file."""
        if os.pwrite(descriptor, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write at least part of the data; return the number of bytes written."""
        return os.write(descriptor, data)

    def writev(self, descriptor: int, chunks: Sequence[bytes | memoryview]) -> int:
        """Write at least part of several pieces; return the number of bytes written."""
        return os.writev(descriptor, chunks)

    def chmod(self, descriptor: int, mode: int) -> None:
        """Set permissions, regardless of the umask."""
        os.fchmod(descriptor, mode)

    def receive(self, socket: int, pipe: int, length: int) -> int:
        """
        Move bytes from a socket into a pipe, inside the kernel.

        :return: number of bytes; 0 at the end of the stream.
        :raises BlockingIOError: no bytes are available at the moment.
        """
        return os.splice(socket, pipe, length, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)

    def has_more(self, socket: int, seconds: float) -> bool:
        """Wait, at most so long, until a socket is readable or has ended; return whether it is."""
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def wake_for(self, socket: int, size: int) -> None:
        """Let `has_more` wait for so many bytes: SO_RCVLOWAT of socket(7)."""
        # It finds out the family, which does not matter here, and leaves the descriptor open.
        borrowed = _socket.socket(fileno=socket)
        try:
            borrowed.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, size)
        finally:
            borrowed.detach()

    def pipe(self) -> tuple[int, int]:
        """Create a pipe of `PIPE_SIZE`, if possible; return its read end and its write end."""
        ends = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # an unprivileged user's limit is reached
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        return ends

    def splice(self, pipe: int, descriptor: int, length: int) -> int:
        """Move bytes from a pipe into a file, inside the kernel; return how many."""
        return os.splice(pipe, descriptor, length, flags=os.SPLICE_F_MOVE)

    def fsync(self, descriptor: int) -> None:
        """Wait until a file or a directory is on the device."""
        os.fsync(descriptor)

    def datasync(self, descriptor: int) -> None:
        """Wait until the content of a file, and its size, are on the device."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Shorten a file."""
        os.ftruncate(descriptor, size)

    def copy(self, source: int, target: int, length: int) -> int:
        """
        Copy bytes from the position of one file to that of another, inside the kernel;
        where the file system can, it shares them.

        :return: number of bytes; 0 at the end of the source.
        """
        try:
            return os.copy_file_range(source, target, length)
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
            return os.write(target, os.read(source, min(length, PIPE_SIZE)))

    def syncs_in_parallel(self, descriptor: int) -> bool:
        """Return whether `fsync_all` syncs in parallel; syncs the file."""
        try:
            syncs = ParallelSync()
        except OSError:
            return False
        works = syncs.works(descriptor)
        # Keep it for later use: releasing one takes the kernel about 30 ms.
        self._idle_syncs.append(syncs)
        return works

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """
        Sync several files at once, and wait until they are on the device.

        :return: for each file, its error, if any.
        """
        try:
            syncs = self._idle_syncs.pop()
        except IndexError:
            try:
                syncs = ParallelSync()
            except OSError:  # the system has none left at the moment
                return sync_one_by_one(self.fsync, descriptors)
        try:
            results = syncs.sync(descriptors)
        except BaseException:
            syncs.close()
            raise
        self._idle_syncs.append(syncs)
        return results

    def start_write_back(self, descriptor: int, offset: int, length: int) -> None:
        """Have the kernel start to write a range to the device."""
        if _sync_file_range is not None:
            self._sync_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)

    def finish_write_back(self, descriptor: int, offset: int, length: int) -> None:
        """Wait until a range has been written to the device (but not flushed from its cache)."""
        if _sync_file_range is not None:
            flags = (
                _SYNC_FILE_RANGE_WAIT_BEFORE | _SYNC_FILE_RANGE_WRITE | _SYNC_FILE_RANGE_WAIT_AFTER
            )
            self._sync_range(descriptor, offset, length, flags)

    def _sync_range(self, descriptor: int, offset: int, length: int, flags: int) -> None:
        while _sync_file_range(descriptor, offset, length, flags) != 0:
            number = ctypes.get_errno()
            if number in (errno.ENOSYS, errno.ESPIPE, errno.EINVAL):
                return  # not supported by this file system; it is only a hint
            if number != errno.EINTR:
                _raise_errno()

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        """
        Move a file to a name that must be free, atomically.

        :raises FileExistsError: the name is taken; nothing has changed.
        :raises OSError: with ``EINVAL`` or ``ENOSYS`` if the file system or the kernel
            does not support this; then use `link` and `unlink`.
        """
        if _renameat2 is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        old, new = name.encode(), new_name.encode()  # ours, and so ASCII
        while _renameat2(source, old, target, new, _RENAME_NOREPLACE) != 0:
            if ctypes.get_errno() != errno.EINTR:
                _raise_errno(new_name)

    def replace(self, source: int, name: str, target: int, new_name: str) -> None:
        """Move a file to a name atomically, replacing any file of that name."""
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """Give a file a second name, which must be free."""
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)


class NoPipes(Exception):
    """There are no file descriptors for a pipe."""


class Pipes:
    """
    Pipes through which bytes move from a socket to a file inside the kernel.

    They are reused, each by one thread at a time.

    :param files: the system calls.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._idle: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[int, int]]:
        """
        Provide the read end and the write end of an empty pipe.

        The pipe must be empty again at the end of the block, unless an exception is
        raised there.

        :raises NoPipes: there are no file descriptors for a pipe.
        """
        try:
            ends = self._idle.pop()
        except IndexError:
            try:
                ends = self._files.pipe()
            except OSError as error:
                raise NoPipes(error.strerror) from error
        try:
            yield ends
        except BaseException:
            self._files.close(ends[0])
            self._files.close(ends[1])
            raise
        self._idle.append(ends)

    def close(self) -> None:
        """Close the pipes that are not in use."""
        while self._idle:
            for end in self._idle.pop():
                self._files.release(end)
