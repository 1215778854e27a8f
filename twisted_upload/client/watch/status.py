"""
The status of a watched folder: a file that the process which watches it replaces whenever
something has changed, and that others read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from twisted_upload.client.file_lock import lock_file
from twisted_upload.client.files import ClientFiles, make_durable_folders, read_file, write_all
from twisted_upload.client.system import SYSTEM, ClientSystem

__all__ = ["STATUS", "LockedFolder", "WatchStatus", "is_watched", "read_status", "write_status"]

STATUS, LOCK = "status.json", "lock"
_LARGEST = 1024 * 1024
_TRIES, _PAUSE = 4, 0.05


@dataclass(slots=True)
class WatchStatus:
    """
    What there is to know; all times are in seconds since the epoch.

    :ivar folder: what is watched.
    :ivar to: where its files are sent.
    :ivar since: when this process began.
    :ivar updated: when this was written.
    :ivar waiting: number of files that are not stored yet.
    :ivar waiting_bytes: their bytes, at the last scan.
    :ivar sending: the files that are being sent: bytes sent and bytes in all, by path.
    :ivar stored: number of files stored by this process.
    :ivar stored_bytes: their bytes.
    :ivar last_stored: the last of them.
    :ivar last_stored_at: when that was stored.
    :ivar trouble: why the server or the folder cannot be used at the moment.
    :ivar trouble_since: since when.
    :ivar refused: why single files are not stored, by path; at most 100 of them.
    """

    folder: str
    to: str
    since: float
    updated: float = 0.0
    waiting: int = 0
    waiting_bytes: int = 0
    sending: dict[str, list[int | None]] = field(default_factory=dict)
    stored: int = 0
    stored_bytes: int = 0
    last_stored: str = ""
    last_stored_at: float = 0.0
    trouble: str = ""
    trouble_since: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)


class LockedFolder:
    """
    The folder of the state of a watched folder; one process at a time has it.

    :param path: created if it is missing, for its owner alone.
    :param system: what is asked of the kernel.
    :raises BlockingIOError: another process has it.
    :raises OSError: it cannot be used.
    """

    def __init__(self, path: str, system: ClientSystem = SYSTEM) -> None:
        make_durable_folders(system.files, os.path.abspath(path), 0o700)
        self.path = path
        release = _try_lock(path, system)
        if release is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        self.close = release


def _try_lock(path: str, system: ClientSystem) -> Callable[[], None] | None:
    for number in range(_TRIES):
        if number:
            system.pause(_PAUSE)  # one that only looks has it for a moment
        release = lock_file(os.path.join(path, LOCK), system.files)
        if release is not None:
            return release
    return None


def is_watched(path: str) -> bool:
    """Return whether a process watches the folder whose state is in this one."""
    try:
        SYSTEM.files.status_of(os.path.join(path, LOCK), follow=True)
        release = _try_lock(path, SYSTEM)
    except OSError:
        return False
    if release is None:
        return True
    release()
    return False


def write_status(path: str, status: WatchStatus, files: ClientFiles | None = None) -> None:
    """
    Replace the status.

    :param path: the folder of the state.
    :param files: the system calls.
    :raises OSError: it cannot be written.
    """
    files = files or SYSTEM.files
    new = os.path.join(path, f"{STATUS}.new")
    descriptor = files.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(files, descriptor, json.dumps(asdict(status)).encode("ascii"))
    finally:
        files.close(descriptor)
    files.replace(new, os.path.join(path, STATUS))


def read_status(path: str) -> WatchStatus | None:
    """
    Return the last status; None if there is none.

    :raises OSError: it cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        text = read_file(SYSTEM.files, os.path.join(path, STATUS), _LARGEST)
        with contextlib.suppress(ValueError, TypeError):
            found: dict[str, Any] = json.loads(text)
            known = {it.name for it in fields(WatchStatus)}
            return WatchStatus(**{key: value for key, value in found.items() if key in known})
    return None
