"""
Where a client remembers uploads that were interrupted, so that the next process goes on.

Each is a small file in the user's state directory, named by a hash of what identifies it:
the file (path, size, time, inode), the server, and what the server was told.  A file that
has changed is therefore another upload.  The URL of an upload lets others add to it, so
no other user may read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from twisted_upload.client.content import Content
from twisted_upload.client.file_lock import lock_file
from twisted_upload.client.targets import Target
from twisted_upload.receipt import Metadata

__all__ = ["ResumeState", "SavedUpload", "default_folder"]

KEPT_FOR = 8 * 24 * 3600
"""Seconds after which an upload is forgotten: servers remember them for less."""

_VERSION = 1
_LONGEST = 16 * 1024
_MOST = 10_000
"""Maximum number of old files that are looked at each time."""


def default_folder(name: str = "uploads", environment: Mapping[str, str] = os.environ) -> str:
    """Return a folder in the user's state directory (XDG Base Directory Specification)."""
    base = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        if sys.platform == "win32":
            base = environment.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
        else:
            base = os.path.expanduser("~/.local/state")
    return os.path.join(base, "twisted-upload", name)


class ResumeState:
    """
    Remembers interrupted uploads, also for the next process.

    What cannot be written is remembered as long as the process runs: an upload does not
    fail because of it.

    :param folder: where; that of the user if it is not given.  It is created for this user
        alone.
    :param now: returns seconds since the epoch.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = default_folder() if folder is None else os.fspath(folder)
        self._now = now
        self._cleaned = False

    def remember(self, content: Content, target: Target, metadata: Metadata) -> SavedUpload | None:
        """
        Return what is remembered of an upload, or a new one.

        It has to be closed.

        :return: `None` if it cannot be remembered: it is not a file, another process is
            sending it at the moment, or the folder cannot be used.
        """
        status = content.status
        if content.path is None or status is None:
            return None
        identity = [
            *(content.path, status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino),
            *(target.key, metadata),
        ]
        key = hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._clean()
            path = os.path.join(self._folder, key)
            lock = lock_file(f"{path}.lock")
        except OSError:
            return None
        return None if lock is None else self.saved(f"{path}.json", lock)

    def saved(self, file: str, lock: Callable[[], None]) -> SavedUpload:
        """Return what is remembered in a file."""
        return SavedUpload(file, lock)

    def _clean(self) -> None:
        """Remove what is too old."""
        if self._cleaned:
            return
        self._cleaned = True
        oldest = self._now() - KEPT_FOR
        with os.scandir(self._folder) as entries:
            for _, entry in zip(range(_MOST), entries, strict=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)


class SavedUpload:
    """
    One upload (`twisted_upload.client.http.job.ISavedUpload`).

    :param lock: releases it for other processes.
    :ivar file: in which it is remembered.
    :ivar path: of the URL of the upload; `None` if there is none.
    :ivar finishing: whether all of it may have been sent.
    """

    def __init__(self, file: str, lock: Callable[[], None]) -> None:
        self.file = file
        self._lock = lock
        self.path: str | None = None
        self.finishing = False
        with (
            contextlib.suppress(OSError, ValueError, RecursionError),
            open(file, encoding="utf-8") as saved,
        ):
            self._load(json.loads(saved.read(_LONGEST)))

    def _load(self, value: object) -> None:
        if not isinstance(value, dict) or value.get("version") != _VERSION:
            return
        path = value.get("path")
        if isinstance(path, str) and path.startswith("/") and path.isprintable():
            self.path = path
            self.finishing = value.get("finishing") is not False

    def save(self, path: str) -> None:
        """Remember a new upload, of which nothing has been sent."""
        self.path, self.finishing = path, False
        self._write()

    def mark_finishing(self) -> None:
        """Remember that the last bytes are about to be sent."""
        self.finishing = True
        self._write()

    def forget(self) -> None:
        """Forget it: it has ended."""
        self.path, self.finishing = None, False
        with contextlib.suppress(OSError):
            os.unlink(self.file)

    def close(self) -> None:
        """Let another process use it."""
        self._lock()

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """
        Write it.

        :raises OSError: it cannot be written.
        """
        value = {"version": _VERSION, "path": self.path, "finishing": self.finishing}
        # It is created for this user alone.
        descriptor, temporary = tempfile.mkstemp(".new", dir=os.path.dirname(self.file))
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(value, file)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, self.file)
        except BaseException:
            os.unlink(temporary)
            raise
