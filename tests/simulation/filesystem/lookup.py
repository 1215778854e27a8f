"""
From descriptors and names to what they refer to, and whether we may.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from tests.simulation.choices import Choices
from tests.simulation.filesystem.content import File
from tests.simulation.filesystem.descriptions import (
    OpenFile,
    failure,
)
from tests.simulation.filesystem.inodes import Folder, Inode, Link
from tests.simulation.process import Process
from twisted_upload.disk.file_calls import FileCalls

if TYPE_CHECKING:
    from tests.simulation.filesystem.system import FileSystem

__all__ = ["MOST_LINKS", "READ", "SEARCH", "WRITE", "Lookup"]

READ, WRITE, SEARCH = 4, 2, 1
"""Permissions."""

MOST_LINKS = 40
"""How many symbolic links a path may go through."""


class Lookup(FileCalls):
    """
    The calls of one process.

    :param system: the file system.
    :param choices: for random bytes.
    :ivar umask: permissions that new files do not get.
    """

    def __init__(self, system: FileSystem, process: Process, choices: Choices) -> None:
        self._system = system
        self._process = process
        self._scheduler = system.scheduler
        self._faults = system.faults
        self._descriptors = process.descriptors
        self._thing = process.descriptors.get
        self._step = process.step
        self._time = process.now
        self._choices = choices
        self._user = process.user
        self.umask = 0o022

    def _enter(self, call: str, *about: object) -> None:
        self._step(call, *about)
        if call in self._faults.touched:
            self._faults.before(call)

    # From descriptors and names to what they refer to

    def _opened(self, descriptor: int) -> OpenFile:
        thing = self._thing(descriptor)
        if type(thing) is not OpenFile:
            raise failure(errno.EINVAL)
        return thing

    def _file(self, opened: OpenFile, *, writing: bool) -> File:
        if not (opened.writable if writing else opened.readable):
            raise failure(errno.EBADF)
        inode = opened.inode
        if type(inode) is not File:
            raise failure(errno.EISDIR)
        return inode

    def _folder(self, descriptor: int) -> Folder:
        thing = self._thing(descriptor)
        if type(thing) is OpenFile and type(thing.inode) is Folder:
            return thing.inode
        raise failure(errno.ENOTDIR)

    def _place(self, folder: int | None, name: str) -> tuple[Folder, str]:
        """Return the folder and the last name of a path."""
        if "\0" in name:
            raise ValueError("embedded null byte")
        if not name:
            raise failure(errno.ENOENT, name)
        if folder is None or name.startswith("/"):
            return self._place_in(self._system.root, name)
        return self._place_in(self._folder(folder), name)

    def _place_in(self, start: Folder, name: str) -> tuple[Folder, str]:
        if "/" in name:
            above, _, last = name.rstrip("/").rpartition("/")
            inode = self._walk(start, above, MOST_LINKS)
            if type(inode) is not Folder:
                raise failure(errno.ENOTDIR, name)
            start, name = inode, last or "."
        if self._user:
            self._check(start, SEARCH, name)
        return start, name

    def _target(self, folder: Folder, link: Link) -> tuple[Folder, str]:
        """Return the place that a symbolic link refers to."""
        target = link.target
        return self._place_in(self._system.root if target.startswith("/") else folder, target)

    def _named(self, folder: Folder, name: str) -> Inode | None:
        """Return what has a name, if anything has."""
        if len(name) > 60 and len(os.fsencode(name)) > 255:
            raise failure(errno.ENAMETOOLONG, name)
        return self._system.child(folder, name)

    def _walk(self, folder: Folder, path: str, links: int) -> Inode:
        inode: Inode = folder
        for name in path.split("/"):
            if name and name != ".":
                if type(inode) is not Folder:
                    raise failure(errno.ENOTDIR, path)
                if self._user:
                    self._check(inode, SEARCH, path)
                inode = self._child(inode, name, links)
        return inode

    def _child(self, folder: Folder, name: str, links: int = MOST_LINKS) -> Inode:
        """Return what has a name, or what the link of this name refers to."""
        inode = self._named(folder, name)
        if inode is None:
            raise failure(errno.ENOENT, name)
        if type(inode) is Link:
            if not links:
                raise failure(errno.ELOOP, name)
            start = self._system.root if inode.target.startswith("/") else folder
            return self._walk(start, inode.target, links - 1)
        return inode

    def _check(self, inode: Inode, wanted: int, name: str | None = None) -> None:
        """:raises OSError: we do not have these permissions."""
        user = self._user
        if user:
            if user == inode.owner:
                mode = inode.mode >> 6
            elif user == inode.group:
                mode = inode.mode >> 3
            else:
                mode = inode.mode
            if ~mode & wanted:
                raise failure(errno.EACCES, name)

    def _check_owner(self, inode: Inode) -> None:
        if self._user not in (0, inode.owner):
            raise failure(errno.EPERM)

    def _check_linkable(self, inode: Inode, name: str) -> None:
        """Protect hard links as Linux does in all distributions: proc_sys_fs(5)."""
        if self._user not in (0, inode.owner):
            try:
                self._check(inode, READ | WRITE)
            except OSError:
                raise failure(errno.EPERM, name) from None
            if type(inode) is not File:
                raise failure(errno.EPERM, name)

    def _check_removal(self, folder: Folder, inode: Inode, name: str) -> None:
        user = self._user
        if user:
            self._check(folder, WRITE | SEARCH, name)
            if folder.mode & stat.S_ISVTX and user not in (folder.owner, inode.owner):
                raise failure(errno.EPERM, name)
