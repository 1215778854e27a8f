"""
Many fsyncs with two system calls.

The kernel's asynchronous I/O (io_submit(2), with ``IOCB_CMD_FSYNC`` since Linux 4.18)
syncs a batch of files in its own workers while one of our threads waits for all of
them.  The syncs share the journal's flushes, as they would if each were made by its own
thread.  But that many threads would contend for Python's interpreter lock, which costs
small uploads more than the disk does.

Errors are reported for each file separately, as by fsync(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable, Sequence

__all__ = ["ParallelSync", "sync_one_by_one"]

# io_setup, io_destroy, io_getevents, io_submit: asm/unistd.h
_CALLS = {
    "x86_64": (206, 207, 208, 209),
    "aarch64": (0, 1, 4, 2),
    "riscv64": (0, 1, 4, 2),
}
_FSYNC = 2  # IOCB_CMD_FSYNC, linux/aio_abi.h
_MOST = 320
"""Maximum number of files in one request: a full batch
(`twisted_upload.stores.directory.group_commit`), its markers, and what is synced with it."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def sync_one_by_one(
    fsync: Callable[[int], None], descriptors: Sequence[int]
) -> list[OSError | None]:
    """
    Sync files one after the other.

    :return: for each file, its error, if any.
    """
    results: list[OSError | None] = []
    for descriptor in descriptors:
        try:
            fsync(descriptor)
        except OSError as error:
            results.append(error)
        else:
            results.append(None)
    return results


class _Request(ctypes.Structure):
    """struct iocb, little-endian"""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """struct io_event"""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class ParallelSync:
    """
    A context of the kernel's asynchronous I/O, for use by one thread at a time.

    :raises OSError: the system cannot provide one.
    """

    def __init__(self) -> None:
        self._context = ctypes.c_ulong(0)
        calls = _CALLS.get(platform.machine())
        if calls is None or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._setup, self._destroy, self._events, self._submit = calls
        self._call(self._setup, ctypes.c_uint(_MOST), ctypes.byref(self._context))

    def sync(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """
        Sync files, and wait for all of them.

        :return: for each file, its error, if any.
        """
        results: list[OSError | None] = []
        for start in range(0, len(descriptors), _MOST):
            results += self._sync(descriptors[start : start + _MOST])
        return results

    def close(self) -> None:
        """Release the context; a system has a limited number of them."""
        context, self._context = self._context, ctypes.c_ulong(0)
        if context.value:
            self._call(self._destroy, context)

    def __del__(self) -> None:
        """Release the context."""
        self.close()

    def works(self, descriptor: int) -> bool:
        """Return whether the kernel supports this on the file system; syncs the file."""
        return self._offer([descriptor], [None]) == 1

    def _sync(self, descriptors: Sequence[int]) -> list[OSError | None]:
        results: list[OSError | None] = [None] * len(descriptors)
        taken = self._offer(descriptors, results)
        # The kernel may accept fewer requests than were submitted.
        results[taken:] = sync_one_by_one(os.fsync, descriptors[taken:])
        return results

    def _offer(self, descriptors: Sequence[int], results: list[OSError | None]) -> int:
        """
        Submit syncs to the kernel, and wait for those that it accepts.

        :param results: receives their errors.
        :return: how many it has accepted.
        """
        number = len(descriptors)
        requests = (_Request * number)()
        pointers = (ctypes.c_void_p * number)()
        for index, descriptor in enumerate(descriptors):
            request = requests[index]
            request.data = index
            request.opcode = _FSYNC
            request.descriptor = descriptor
            pointers[index] = ctypes.addressof(request)
        try:
            taken = self._call(self._submit, self._context, ctypes.c_long(number), pointers)
        except OSError:
            return 0
        events = (_Event * number)()
        finished = 0
        while finished < taken:
            left = ctypes.c_long(taken - finished)
            try:
                came = self._call(self._events, self._context, left, left, events, None)
            except InterruptedError:
                continue
            for event in events[:came]:
                if event.result < 0:
                    results[event.data] = OSError(-event.result, os.strerror(-event.result))
            finished += came
        return taken

    def _call(self, *arguments: object) -> int:
        result: int = _libc.syscall(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
