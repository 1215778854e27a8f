"""
A lock on a file, held by one process at a time, wherever the system has one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial

__all__ = ["lock_file"]


def lock_file(path: str) -> Callable[[], None] | None:
    """
    Lock a file, which is created.

    :return: releases the lock, and removes the file; `None` if it is locked already.
    :raises OSError: it cannot be created.
    """
    for _ in range(3):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            return None
        if _is_there(path, descriptor):
            return partial(_release, path, descriptor)
        os.close(descriptor)  # its last owner has removed it meanwhile
    return None


def _release(path: str, descriptor: int) -> None:
    # Windows removes no open file; the next one finds it, and locks it.
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(descriptor)


def _is_there(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _lock(descriptor: int) -> None:
    """:raises OSError: another one has it."""
    # Imported here, because each is there on some systems only.
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:
        with contextlib.suppress(ImportError):
            import msvcrt  # noqa: PLC0415

            lock = getattr(msvcrt, "locking", None)
            if lock is not None:
                lock(descriptor, getattr(msvcrt, "LK_NBLCK", 2), 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
