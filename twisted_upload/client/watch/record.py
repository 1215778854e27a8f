"""
The record of a watched folder: which of its files have been stored by the server.

**A file is in the record if, and only if, the server has given a receipt for it whose
SHA-256 is that of the file; and the record is durable before the file is deleted or
moved.**  After a crash or a power failure, a file that is in the record is not sent again,
and what was to be done with it is done then.

The record is a file of JSON lines, to which one is appended for each file.  A line that a
crash has cut off counts for nothing.  When most lines are about files that are no longer
there, the record is written anew, and replaces the old one in one step.

Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from twisted_upload.client.files import ClientFiles, OpenFile, write_all
from twisted_upload.client.system import SYSTEM

__all__ = ["Identity", "Same", "SentFile", "SentRecord", "identity_of"]

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)

_SPARE_LINES = 1000
"""Lines about files that are gone, before the record is written anew."""


class Identity(NamedTuple):
    """
    What tells that a file is still the same, without reading it.

    :ivar size: in bytes.
    :ivar modified: in nanoseconds since the epoch.
    :ivar inode: inode number; some file systems give others at each mount.
    """

    size: int
    modified: int
    inode: int


class Same(Enum):
    """Whether a file is the one that was stored, as far as can be told without reading it."""

    YES = "yes"
    NO = "no"
    PERHAPS = "perhaps"  # its SHA-256 tells


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file."""
    return Identity(status.st_size, status.st_mtime_ns, status.st_ino)


class SentFile(NamedTuple):
    """
    A file that the server has stored.

    :ivar sha256: in hexadecimal.
    :ivar name: under which it was stored.
    :ivar stored: when, in seconds since the epoch.
    """

    identity: Identity
    sha256: str
    name: str
    stored: float

    def compare(self, status: os.stat_result) -> Same:
        """
        Return whether a file is the one that was stored.

        One that has come under the same name since, with the same size and time, has
        changed its status later than that; and so has one whose file system was mounted
        again, perhaps with other inode numbers.
        """
        found = identity_of(status)
        if found[:2] != self.identity[:2]:
            return Same.NO
        is_earlier = status.st_ctime_ns < self.stored * 1e9
        return Same.YES if is_earlier and found == self.identity else Same.PERHAPS


class SentRecord:
    """
    The record in one file.

    :param path: its path; it is created if it is missing, readable by its owner alone.
    :param exists: returns whether a file of the folder is still there; lines about others
        need not be kept.
    :param files: the system calls.
    :raises OSError: it cannot be read or written.
    :ivar sent: the files that have been stored, by their paths relative to the folder.
    """

    def __init__(
        self, path: str, exists: Callable[[str], bool], files: ClientFiles | None = None
    ) -> None:
        self.sent: dict[str, SentFile] = {}
        self._files = files or SYSTEM.files
        self._path = path
        self._exists = exists
        self._lines = 0
        self._descriptor = self._files.open(path, _OPEN)
        try:
            self._read()
            self._sync_folder()
        except BaseException:
            self._files.close(self._descriptor)
            raise

    def _read(self) -> None:
        end = 0
        # It is not closed with the buffer.
        file = io.BufferedReader(OpenFile(self._files, self._descriptor, closes=False))
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self._lines += 1
            with contextlib.suppress(ValueError, TypeError, KeyError):
                self._take(json.loads(line))
        # What a crash has cut off: the next line begins where it did.
        self._files.truncate(self._descriptor, end)
        self._files.seek(self._descriptor, end)

    def _take(self, fields: dict[str, Any]) -> None:
        name = fields["file"]
        if fields.get("gone"):
            self.sent.pop(name, None)
            return
        identity = Identity(fields["size"], fields["modified"], fields["inode"])
        self.sent[name] = SentFile(
            identity, fields["sha256"], fields["stored_as"], fields["stored"]
        )

    def add(self, path: str, sent: SentFile) -> None:
        """
        Note that a file was stored.  When this returns, that is durable.

        :param path: relative to the folder.
        """
        self._append([_line(path, sent)], durable=True)
        self.sent[path] = sent

    def forget(self, path: str) -> None:
        """Note that a file is no longer in the folder."""
        if self.sent.pop(path, None) is not None:
            self._append([_gone(path)], durable=False)
        if self._lines > 2 * len(self.sent) + _SPARE_LINES:
            self._write_anew()

    def _append(self, lines: list[bytes], *, durable: bool) -> None:
        files = self._files
        before = files.seek(self._descriptor, 0, os.SEEK_CUR)
        try:
            write_all(files, self._descriptor, b"".join(lines))
            if durable:
                files.fsync(self._descriptor)
        except OSError:
            # Half a line would hide the next one.
            files.truncate(self._descriptor, before)
            files.seek(self._descriptor, before)
            raise
        self._lines += len(lines)

    def _write_anew(self) -> None:
        self.sent = {path: sent for path, sent in self.sent.items() if self._exists(path)}
        files, new = self._files, f"{self._path}.new"
        descriptor = files.open(new, _OPEN | os.O_TRUNC)
        try:
            write_all(files, descriptor, b"".join(_line(*item) for item in self.sent.items()))
            files.fsync(descriptor)
            files.replace(new, self._path)
        except BaseException:
            files.close(descriptor)
            raise
        files.close(self._descriptor)
        self._descriptor, self._lines = descriptor, len(self.sent)
        self._sync_folder()

    def _sync_folder(self) -> None:
        self._files.sync_folder(os.path.dirname(self._path))

    def close(self) -> None:
        """Close it."""
        self._files.close(self._descriptor)


def _line(path: str, sent: SentFile) -> bytes:
    fields = {
        "file": path,
        **sent.identity._asdict(),
        "sha256": sent.sha256,
        "stored_as": sent.name,
        "stored": sent.stored,
    }
    return json.dumps(fields).encode() + b"\n"


def _gone(path: str) -> bytes:
    return json.dumps({"file": path, "gone": True}).encode() + b"\n"
