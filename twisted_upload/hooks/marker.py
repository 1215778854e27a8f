"""
The marker of a kept file: on disk, until a program has been started for it and
has succeeded.

What it is good for, and when it is there, is in `twisted_upload.hooks.spool`.  A
marker is a line of JSON; one that was set aside has one line more for each time,
which tells how often it was tried, why it failed last, and what it said.

**A marker that we have not written is not used**: it must be a plain file of our
own user, which nobody else may write to and which has one name, and what it says
must be what we write.  Nothing in it can be longer than that, nor a path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import Any

from twisted_upload.core.names import is_file_name
from twisted_upload.disk.files import Files
from twisted_upload.hooks.marker_facts import MarkerFields, open_ours
from twisted_upload.hooks.orphans import end_strays

__all__ = ["Marker", "MarkerFolders", "note_reason"]

_NOT_THERE = (errno.ENOENT, errno.ELOOP, errno.ENXIO)
_CHUNK = 1024 * 1024
_LARGEST_MARKER = 64 * 1024  # of which the first line is one KiB at the most
_LARGEST_NOTES = 1024 * 1024  # beyond which no reasons are added
_LONGEST_PEER = 512
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_LISTENER = re.compile(r"[a-z0-9-]{0,16384}\Z")


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
        self._marker_inode = 0
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
        Put it on disk; it stays open, and `HookSpool.next` does not find it.

        :param name: that the file is to get.
        :param file: a descriptor of it, completely written.
        """
        status = os.fstat(file)
        self.name, self.size, self.sha256 = name, size, sha256
        self._inode, self._modified = status.st_ino, status.st_mtime_ns
        self.folders.in_hand.add(self.identity)
        self._put()

    def close(self) -> None:
        """
        Let go of its descriptor, before its file is published.

        Whoever took us for dead, as our lock had been removed, has found no file, and
        has removed it: then it is put there again.
        """
        files = self.folders.files
        if not files.links(self.descriptor):
            self._let_go()
            self._put()
            if self.folders.durable:
                files.fsync(self.descriptor)
                files.fsync(self.folders.waiting)
        self._let_go()

    def withdraw(self) -> None:
        """Its upload is not kept; harmless if it has not been written."""
        folders = self.folders
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._let_go()
        with contextlib.suppress(OSError):
            folders.files.unlink(folders.waiting, self._own_name)
        folders.in_hand.discard(self.identity)

    def kept(self, name: str) -> None:
        """Its upload is kept, under that name."""
        self.name, self.name_is_certain = name, True

    # In the hands of who starts the program

    def hold(self) -> int | None:
        """
        Lock it, for as long as a program runs for its file.

        :return: its descriptor, to be closed; whoever else has it then, holds
            the lock too.  None if a program of somebody else still runs: of a
            daemon that was killed.  If nobody looks after that, it is killed.
        :raises FileNotFoundError: somebody has taken it.
        """
        descriptor = self._open(os.O_RDWR)  # NFS locks nothing else
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            if not status.st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except BlockingIOError:
            end_strays(descriptor, self.folders.waiting)
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        self._inodes_last = status.st_ino == self._marker_inode
        return descriptor

    def digest(self) -> str | None:
        """
        The SHA-256 of the file: as it came, where that was computed; otherwise as
        it is now.  None if it is gone, or another one has its name now.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            if self.sha256 is not None:
                status = os.stat(self.name, dir_fd=self.folders.final, follow_symlinks=False)
                return self.sha256 if self._is(status) else None
            descriptor = os.open(self.name, flags, dir_fd=self.folders.final)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        try:
            if not self._is(os.fstat(descriptor)):
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

    def set_aside(self, attempts: int, why: str, when: float, said: str = "") -> None:
        """
        Move it to ``failed/``, for an operator.

        :param when: seconds since the epoch.
        :param said: the last that the program has printed.
        """
        folders, files = self.folders, self.folders.files
        line = _line(
            name=self.name, certain=True, attempts=attempts, failed=why, said=said, when=when
        )
        descriptor = self._open(os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size < _LARGEST_NOTES:
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
        :raises ValueError: it is not a marker; the text says why.
        """
        descriptor = self._open(os.O_RDONLY)
        try:
            inode = os.fstat(descriptor).st_ino
            text = os.read(descriptor, _LARGEST_MARKER)
        finally:
            os.close(descriptor)
        first, newline, more = text.partition(b"\n")
        if not newline:
            if len(text) == _LARGEST_MARKER:
                raise ValueError("its first line has no end")
            return False
        facts = MarkerFields(first)
        self.name = facts.text("name", is_file_name)
        self.listener = facts.text("listener", _LISTENER.match)
        self.peer = facts.text("peer", _is_peer)
        self.size = facts.number("size")
        self.sha256 = facts.text("sha256", _DIGEST.match) if facts["sha256"] is not None else None
        self.arrived = facts.seconds("arrived")
        self._inode, self._modified = facts.number("inode"), facts.number("modified")
        self._marker_inode = facts.number("marker")
        self._inodes_last = inode == self._marker_inode
        self.name_is_certain = False
        for line in more.splitlines():
            with contextlib.suppress(ValueError):  # cut off, by a crash or here
                self.name = MarkerFields(line).text("name", is_file_name)
                self.name_is_certain = True
        return True

    def is_at(self, name: str) -> bool:
        """
        Whether the file has this name; then that is certain.
        """
        try:
            status = os.stat(name, dir_fd=self.folders.final, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._is(status):
            self.kept(name)
            return True
        return False

    # Within

    def _put(self) -> None:
        folders = self.folders
        self._descriptor = folders.files.create(folders.waiting, self._own_name, 0o600)
        self._marker_inode = os.fstat(self._descriptor).st_ino
        line = _line(
            name=self.name,
            size=self.size,
            sha256=self.sha256,
            peer=self.peer,
            listener=self.listener,
            arrived=self.arrived,
            inode=self._inode,
            modified=self._modified,
            marker=self._marker_inode,
        )
        if folders.files.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _let_go(self) -> None:
        descriptor, self._descriptor = self.descriptor, None
        self.folders.files.close(descriptor)

    def _is(self, status: os.stat_result) -> bool:
        """
        Whether this is the file that was kept, and not one that has its name now.

        It is known by its inode number.  Some file systems give out others each
        time they are mounted, and then the marker has another one, too, or when
        they have forgotten a file: there it is known by its size and its time,
        if it is ours.
        """
        if not stat.S_ISREG(status.st_mode):
            return False
        if self._inodes_last and status.st_ino == self._inode:
            return True
        alike = (status.st_size, status.st_mtime_ns) == (self.size, self._modified)
        return alike and status.st_uid == os.fstat(self.folders.waiting).st_uid

    def _open(self, flags: int) -> int:
        """
        Open it, if it can be ours.

        :raises ValueError: it cannot; the text says why.
        """
        return open_ours(self.folders.waiting, self._own_name, flags)

    @property
    def _own_name(self) -> str:
        return self.folders.name_of(self.identity)


def note_reason(folder: int, name: str, why: str) -> None:
    """
    Add to what stands in ``failed/`` why it does, if it is ours.

    :raises ValueError: it is not.
    """
    descriptor = open_ours(folder, name, os.O_WRONLY | os.O_APPEND)
    try:
        if os.fstat(descriptor).st_size < _LARGEST_NOTES:
            os.write(descriptor, b"\n" + _line(failed=why))
    finally:
        os.close(descriptor)


def _is_peer(text: str) -> bool:
    return len(text) <= _LONGEST_PEER and text.isprintable()


def _line(**facts: Any) -> bytes:
    return json.dumps(facts, ensure_ascii=True).encode() + b"\n"
