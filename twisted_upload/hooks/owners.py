"""
Who has the queue of ``--on-upload`` open.

Each process that has holds a lock on a file ``owner-OWNER`` beside the folders of
the queue.  It is dead when that lock is free, or the file is gone; so whoever
lives makes its file again when somebody else has removed it.

Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Sequence

from twisted_upload.disk.files import Files

__all__ = ["PASSES", "become_owner", "is_alive", "leave", "others", "stay_owner"]

_OWNER = re.compile(r"owner-([0-9a-f]{12})\Z")
_OWNER_TRIES = 20

PASSES = {
    *(errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
}
"""Errors that are the disk's, or the moment's, and not the file's."""


def become_owner(hooks: int, files: Files) -> tuple[str, int]:
    """
    Become one.

    :param hooks: descriptor of the folder of the locks.
    :return: a name that only we have, and the descriptor of its lock.
    """
    for _ in range(_OWNER_TRIES):
        owner = secrets.token_hex(6)
        lock = files.create(hooks, _file(owner), 0o600)
        ours = False
        try:
            # Somebody who looks in between takes it for a dead one's, and removes it.
            ours = files.lock(lock) and files.links(lock) == 1
        finally:
            if not ours:
                leave(hooks, owner, [lock])
        if ours:
            return owner, lock
    raise OSError(errno.ENOLCK, "locks (flock) do not work here")


def stay_owner(hooks: int, owner: str, lock: int, files: Files) -> None:
    """
    Make our file again if somebody has removed it, such as a tool that removes
    old files: others take us for dead.

    :param lock: stays the descriptor of its lock.
    """
    name = _file(owner)
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=hooks, follow_symlinks=False)
        if os.path.samestat(status, os.fstat(lock)):
            return
    unlocked = f"{name}.new"  # under its own name it is never seen without the lock
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unlocked, dir_fd=hooks)
    again = files.create(hooks, unlocked, 0o600)
    try:
        files.lock(again)
        files.replace(hooks, unlocked, hooks, name)
        os.dup2(again, lock, inheritable=False)
    finally:
        os.close(again)


def leave(hooks: int, owner: str, descriptors: Sequence[int]) -> None:
    """
    Be one no more.

    :param descriptors: the lock, and whatever else is to be closed.
    """
    with contextlib.suppress(OSError):
        os.unlink(_file(owner), dir_fd=hooks)
    for descriptor in descriptors:
        os.close(descriptor)


def others(hooks: int, owner: str) -> list[str]:
    """The other owners, alive or dead."""
    matches = (_OWNER.match(name) for name in os.listdir(hooks))
    return [match[1] for match in matches if match is not None and match[1] != owner]


def is_alive(hooks: int, owner: str) -> bool:
    """Whether an owner holds its lock; where not, remove it."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        lock = os.open(_file(owner), flags, dir_fd=hooks)
    except OSError as error:
        return error.errno in PASSES  # as far as can be known
    try:
        # Shared, so that two who look at once do not take each other for it.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with contextlib.suppress(OSError):
            os.unlink(_file(owner), dir_fd=hooks)
        return False
    finally:
        os.close(lock)


def _file(owner: str) -> str:
    return f"owner-{owner}"
