"""
A lock on a file, held by one process at a time, wherever the system has one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial

from twisted_upload.client.files import ClientFiles

__all__ = ["lock_file"]


def lock_file(path: str, files: ClientFiles) -> Callable[[], None] | None:
    """
    Lock a file, which is created.

    :return: releases the lock, and removes the file; `None` if it is locked already.
    :raises OSError: it cannot be created, or not be locked.
    """
    for _ in range(3):
        descriptor = files.open(path, os.O_RDWR | os.O_CREAT)
        try:
            locked = files.lock(descriptor)
        except OSError:
            files.close(descriptor)
            raise
        if not locked:
            files.close(descriptor)
            return None
        if _is_there(files, path, descriptor):
            return partial(_release, files, path, descriptor)
        files.close(descriptor)  # its last owner has removed it meanwhile
    return None


def _release(files: ClientFiles, path: str, descriptor: int) -> None:
    # Windows removes no open file; the next one finds it, and locks it.
    with contextlib.suppress(OSError):
        files.remove(path)
    files.close(descriptor)


def _is_there(files: ClientFiles, path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(files.status_of(path, follow=True), files.status(descriptor))
    except OSError:
        return False
