"""
The marker of a kept file: on disk, until a program has been started for it and
has succeeded.

What it is good for, and when it is there, is in `twisted_upload.hook_queue`.  A
marker is a line of JSON; one that was set aside has one line more for each time,
which tells how often it was tried and why it failed last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import Any

from twisted_upload.files import Files

__all__ = ["Marker", "MarkerFolders"]

_NOT_THERE = (errno.ENOENT, errno.ELOOP, errno.ENXIO)
_CHUNK = 1024 * 1024
_LARGEST_MARKER = 64 * 1024


@dataclass(frozen=True)
class MarkerFolders:
    """
    Where markers are, and what of them is ours.

    :ivar path: of the drop folder, for people and for programs.
    :ivar files: the system calls.
    :ivar final: descriptor of the drop folder.
    :ivar waiting: of the folder of those for which a program is to be started.
    :ivar failed: of the folder of those that have been set aside.
    :ivar owner: we: what ends the names of our markers.
    :ivar durable: markers survive the machine, not only the daemon.
    :ivar in_hand: identities of those whose uploads are not kept yet.
    """

    path: str
    files: Files
    final: int
    waiting: int
    failed: int
    owner: str
    durable: bool
    in_hand: set[str]

    def name_of(self, identity: str) -> str:
        """The name of one of our markers."""
        return f"{identity}.{self.owner}.json"


class Marker:
    """
    One file for which a program is to be started.

    :ivar identity: the same wherever it goes.
    :ivar listener: of the daemon, that the upload came through.
    :ivar peer: the sender, for people.
    :ivar arrived: when its first byte came: seconds since the epoch.
    :ivar name: of the file; until it is published, the one that is meant.
    :ivar name_is_certain: it was published under that name.
    :ivar size: bytes.
    :ivar sha256: in hexadecimal, where it was computed while it came.
    """

    def __init__(
        self, folders: MarkerFolders, identity: str, *, listener: str, peer: str, arrived: float
    ) -> None:
        self.folders = folders
        self.identity = identity
        self.listener = listener
        self.peer = peer
        self.arrived = arrived
        self.name = ""
        self.name_is_certain = False
        self.size = 0
        self.sha256: str | None = None
        self._inode = 0
        self._modified = 0
        self._inodes_last = True
        self._descriptor: int | None = None

    # In the hands of an upload

    @property
    def descriptor(self) -> int:
        """Of the open marker, to be synced."""
        assert self._descriptor is not None
        return self._descriptor

    def write(self, name: str, size: int, sha256: str | None, file: int) -> None:
        """
        Put it on disk; it stays open, and `HookQueue.next` does not find it.

        :param name: that the file is to get.
        :param file: a descriptor of it, completely written.
        """
        folders, status = self.folders, os.fstat(file)
        self.name, self.size, self.sha256 = name, size, sha256
        self._inode, self._modified = status.st_ino, status.st_mtime_ns
        folders.in_hand.add(self.identity)
        self._descriptor = folders.files.create(folders.waiting, self._own_name, 0o600)
        line = _line(
            name=name,
            size=size,
            sha256=sha256,
            peer=self.peer,
            listener=self.listener,
            arrived=self.arrived,
            inode=self._inode,
            modified=self._modified,
            marker=os.fstat(self._descriptor).st_ino,
        )
        if folders.files.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Let go of its descriptor."""
        descriptor, self._descriptor = self.descriptor, None
        self.folders.files.close(descriptor)

    def withdraw(self) -> None:
        """Its upload is not kept; harmless if it has not been written."""
        folders = self.folders
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self.close()
        with contextlib.suppress(OSError):
            folders.files.unlink(folders.waiting, self._own_name)
        folders.in_hand.discard(self.identity)

    def kept(self, name: str) -> None:
        """Its upload is kept, under that name."""
        self.name, self.name_is_certain = name, True

    # In the hands of who starts the program

    def is_waiting(self) -> bool:
        """Whether it is still where we have found it."""
        try:
            os.stat(self._own_name, dir_fd=self.folders.waiting, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def digest(self) -> str | None:
        """
        The SHA-256 of the file: as it came, where that was computed; otherwise as
        it is now.  None if it is gone, or is no plain file any more.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            if self.sha256 is not None:
                status = os.stat(self.name, dir_fd=self.folders.final, follow_symlinks=False)
                return self.sha256 if stat.S_ISREG(status.st_mode) else None
            descriptor = os.open(self.name, flags, dir_fd=self.folders.final)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            digest = hashlib.sha256()
            while piece := os.read(descriptor, _CHUNK):
                digest.update(piece)
        finally:
            os.close(descriptor)
        self.sha256 = digest.hexdigest()
        return self.sha256

    def remove(self) -> None:
        """Nothing is left to do for it."""
        with contextlib.suppress(FileNotFoundError):
            self.folders.files.unlink(self.folders.waiting, self._own_name)

    def set_aside(self, attempts: int, why: str, when: float) -> None:
        """
        Move it to ``failed/``, for an operator.

        :param when: seconds since the epoch.
        """
        folders, files = self.folders, self.folders.files
        line = _line(name=self.name, certain=True, attempts=attempts, failed=why, when=when)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._own_name, flags, dir_fd=folders.waiting)
        try:
            files.write(descriptor, line)
            if folders.durable:
                files.fsync(descriptor)
        finally:
            files.close(descriptor)
        files.replace(folders.waiting, self._own_name, folders.failed, self._own_name)
        if folders.durable:
            files.fsync(folders.failed)

    # What it says

    def read(self) -> bool:
        """
        Understand what was written.

        :return: whether all of it was; if not, its upload has not got further.
        :raises ValueError: it is not a marker.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._own_name, flags, dir_fd=self.folders.waiting)
        try:
            inode = os.fstat(descriptor).st_ino
            first, newline, more = os.read(descriptor, _LARGEST_MARKER).partition(b"\n")
        finally:
            os.close(descriptor)
        if not newline:
            return False
        facts = json.loads(first)
        for line in more.splitlines():
            with contextlib.suppress(ValueError):  # cut off by a crash
                facts.update(json.loads(line))
        try:
            self.name, self.listener, self.peer = (
                _string(facts[key]) for key in ("name", "listener", "peer")
            )
            self.size, self._inode, self._modified = (
                int(facts[key]) for key in ("size", "inode", "modified")
            )
            self.arrived = float(facts["arrived"])
            self.sha256 = None if facts["sha256"] is None else _string(facts["sha256"])
            self.name_is_certain = facts.get("certain") is True
            self._inodes_last = inode == facts["marker"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a marker") from error
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError("not a marker")
        return True

    def is_at(self, name: str) -> bool:
        """
        Whether the file has this name; then that is certain.

        It is known by its inode number.  Some file systems give out others each
        time they are mounted, and then the marker has another one, too: there
        the file is known by its size and its time.
        """
        try:
            status = os.stat(name, dir_fd=self.folders.final, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._inodes_last:
            same = status.st_ino == self._inode
        else:
            same = (status.st_size, status.st_mtime_ns) == (self.size, self._modified)
        if same and stat.S_ISREG(status.st_mode):
            self.kept(name)
            return True
        return False

    @property
    def _own_name(self) -> str:
        return self.folders.name_of(self.identity)


def _line(**facts: Any) -> bytes:
    return json.dumps(facts, ensure_ascii=True).encode() + b"\n"


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
