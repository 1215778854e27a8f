"""
The owners of a folder: the processes that have it open, and write in it.

Each owner holds a lock on a file ``owner-OWNER`` in the folder.
If the lock is free or the file is gone, the owner counts as dead.  A live owner
therefore creates its file again if another process has removed it.

Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence

from twisted_upload.disk.files import Files

__all__ = ["TEMPORARY_ERRORS", "become_owner", "is_alive", "leave", "others", "stay_owner"]

_OWNER = re.compile(r"owner-([0-9a-f]{12})\Z")
_OWNER_TRIES = 20

TEMPORARY_ERRORS = {
    *(errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
}
"""Errors that are temporary, or due to the disk, and say nothing about the file."""


def become_owner(folder: int, files: Files) -> tuple[str, int]:
    """
    Register this process as an owner.

    :param folder: descriptor of the folder that contains the locks.
    :return: a unique owner name, and the descriptor of its lock.
    """
    for _ in range(_OWNER_TRIES):
        owner = files.random(6).hex()
        lock = files.create(folder, _file(owner), 0o600)
        ours = False
        try:
            # A process that looks before this lock takes the owner for dead, and
            # removes the file.
            ours = files.lock(lock) and files.links(lock) == 1
        finally:
            if not ours:
                leave(folder, owner, [lock], files)
        if ours:
            return owner, lock
    raise OSError(errno.ENOLCK, "locks (flock) do not work here")


def stay_owner(folder: int, owner: str, lock: int, files: Files) -> None:
    """
    Create our file again if it was removed, for example by a tool that deletes old
    files: without it, other processes take us for dead.

    :param lock: descriptor of the lock; keeps its number.
    """
    name = _file(owner)
    with contextlib.suppress(FileNotFoundError):
        status = files.status_of(name, folder=folder)
        if os.path.samestat(status, files.status(lock)):
            return
    unlocked = f"{name}.new"  # so that the final name never exists without the lock
    with contextlib.suppress(FileNotFoundError):
        files.unlink(folder, unlocked)
    again = files.create(folder, unlocked, 0o600)
    try:
        files.lock(again)
        files.replace(folder, unlocked, folder, name)
        files.duplicate_to(again, lock)
    finally:
        files.close(again)


def leave(folder: int, owner: str, descriptors: Sequence[int], files: Files) -> None:
    """
    Stop being an owner.

    :param descriptors: the lock, and all other descriptors to close.
    """
    with contextlib.suppress(OSError):
        files.unlink(folder, _file(owner))
    for descriptor in descriptors:
        files.close(descriptor)


def others(folder: int, owner: str, files: Files) -> list[str]:
    """Return the other owners, alive or dead."""
    matches = (_OWNER.match(name) for name in files.names(folder))
    return [match[1] for match in matches if match is not None and match[1] != owner]


def is_alive(folder: int, owner: str, files: Files) -> bool:
    """Return whether an owner holds its lock; if not, remove its file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        lock = files.open(_file(owner), flags, folder=folder)
    except OSError as error:
        return error.errno in TEMPORARY_ERRORS  # unknown: assume that it is alive
    try:
        # A shared lock, so that two processes that check at the same time do not take
        # each other for the owner.
        if not files.lock_shared(lock):
            return True
        with contextlib.suppress(OSError):
            files.unlink(folder, _file(owner))
        return False
    finally:
        files.close(lock)


def _file(owner: str) -> str:
    return f"owner-{owner}"
