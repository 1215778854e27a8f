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
from collections.abc import Callable, Mapping

from twisted_upload.client.content import Content
from twisted_upload.client.file_lock import lock_file
from twisted_upload.client.files import ClientFiles, read_file, write_all
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.client.targets import Target
from twisted_upload.receipt import Metadata

__all__ = ["ResumeState", "SavedUpload", "default_folder"]

KEPT_FOR = 8 * 24 * 3600
"""Seconds after which an upload is forgotten: servers remember them for less."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
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
    :param now: returns seconds since the epoch; the system's time unless given.
    :param system: what is asked of the kernel.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        now: Callable[[], float] | None = None,
        system: ClientSystem = SYSTEM,
    ) -> None:
        self.files = system.files
        self._folder = default_folder() if folder is None else os.fspath(folder)
        self._now = now or system.now
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
            self.files.make_folders(self._folder, 0o700)
            self._clean()
            path = os.path.join(self._folder, key)
            lock = lock_file(f"{path}.lock", self.files)
        except OSError:
            return None
        return None if lock is None else self.saved(f"{path}.json", lock)

    def saved(self, file: str, lock: Callable[[], None]) -> SavedUpload:
        """Return what is remembered in a file."""
        return SavedUpload(file, lock, self.files)

    def _clean(self) -> None:
        """Remove what is too old."""
        if self._cleaned:
            return
        self._cleaned = True
        oldest = self._now() - KEPT_FOR
        for name in self.files.names(self._folder)[:_MOST]:
            path = os.path.join(self._folder, name)
            with contextlib.suppress(OSError):
                if self.files.status_of(path).st_mtime < oldest:
                    self.files.remove(path)


class SavedUpload:
    """
    One upload (`twisted_upload.client.http.job.ISavedUpload`).

    :param lock: releases it for other processes.
    :param files: the system calls.
    :ivar file: in which it is remembered.
    :ivar path: of the URL of the upload; `None` if there is none.
    :ivar finishing: whether all of it may have been sent.
    """

    def __init__(self, file: str, lock: Callable[[], None], files: ClientFiles) -> None:
        self.file = file
        self.files = files
        self._lock = lock
        self.path: str | None = None
        self.finishing = False
        with contextlib.suppress(OSError, ValueError, RecursionError):
            self._load(json.loads(read_file(files, file, _LONGEST)))

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
            self.files.remove(self.file)

    def lost(self) -> None:
        """Forget it: the server does not know it any more."""
        self.forget()

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
        files = self.files
        temporary = f"{self.file}.{files.random(8).hex()}.new"
        # It is created for this user alone.
        descriptor = files.open(temporary, _NEW)
        try:
            try:
                write_all(files, descriptor, json.dumps(value).encode())
                files.fsync(descriptor)
            finally:
                files.close(descriptor)
            files.replace(temporary, self.file)
        except BaseException:
            files.remove(temporary)
            raise
