"""
A file system: its power cuts, and what oracles ask of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from tests.simulation.choices import Choices
from tests.simulation.filesystem.changes import Edit
from tests.simulation.filesystem.content import PAGE, File
from tests.simulation.filesystem.descriptions import (
    failure,
)
from tests.simulation.filesystem.entries import make_log
from tests.simulation.filesystem.faults import Faults
from tests.simulation.filesystem.files import SimulatedFiles, TimedSimulatedFiles
from tests.simulation.filesystem.inodes import Folder, Inode, Link
from tests.simulation.filesystem.profiles import Profile
from tests.simulation.filesystem.tree import Tree, status_of
from tests.simulation.process import EPOCH, Process
from tests.simulation.scheduler import Scheduler
from twisted_upload.observability.counters import DiskTimes

__all__ = ["FileSystem"]


class FileSystem(Tree):
    """
    One mounted file system; its root is ``/``.

    :param choices: decide what a power cut leaves, and what fails.
    :param profile: what it promises.
    :param capacity: its size in bytes.
    :param inodes: how many files and folders fit.
    :param owner: who owns the root.
    :ivar faults: what fails.
    :ivar device: its number in `status`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        choices: Choices,
        profile: Profile,
        *,
        capacity: int = 1 << 40,
        inodes: int = 1 << 30,
        owner: int = 1000,
        device: int = 64,
    ) -> None:
        faults = Faults(scheduler, choices.fork("faults"), capacity, inodes)
        super().__init__(profile, faults, owner)
        self.scheduler = scheduler
        self.device = device
        self._choices = choices
        self._random = 0
        self._doubtful: dict[str, dict[tuple[Folder, str], Inode]] = {}

    def files(self, process: Process, times: DiskTimes | None = None) -> SimulatedFiles:
        """
        Return the system calls as a process makes them.

        :param times: are told how long some of them take.
        """
        self._random += 1
        choices = self._choices.fork(f"random {self._random}")
        if times is None:
            return SimulatedFiles(self, process, choices)
        return TimedSimulatedFiles(self, process, choices, times)

    def fail(self, file: File) -> None:
        """Writing a file to the device fails: every open file is told so once."""
        file.fail(self._choices)

    def not_synced(self, process: str, folder: Folder) -> None:
        """Note that a process was told that a folder could not be synced: it is told once."""
        doubtful = self._doubtful.setdefault(process, {})
        for name, inode in folder.entries.items():
            if folder.stored.get(name) is not inode:
                doubtful[folder, name] = inode

    def choose(self, probability: float) -> bool:
        """Return true with this probability."""
        return self._choices.chance(probability)

    def shuffled(self, number: int) -> list[int]:
        """Return the numbers from 0 in an order that is chosen."""
        return self._choices.shuffled(range(number))

    # Power

    def cut(self) -> None:
        """
        The power fails: what was not durable may be there or not.

        The processes are dead by then.
        """
        choices = self._choices
        self.log.cut(choices)
        self.log = make_log(self.profile)
        self.mount += 1
        self._doubtful.clear()
        self.used = self.used_inodes = 0
        self._free_numbers = []
        found: dict[Inode, Inode] = {}
        self.root = self._after_cut(self.root, found)
        self.root.parent = self.root

    def _after_cut(self, folder: Folder, found: dict[Inode, Inode]) -> Folder:
        new = Folder(folder.number, 0, 0, 0, 0.0)
        self._restore(folder, new)
        for name, inode in folder.stored.items():
            if type(inode) is Folder:
                child = self._after_cut(inode, found)
                child.parent = new
                new.links += 1
                new.entries[name] = child
            elif inode in found:
                found[inode].links += 1
                new.entries[name] = found[inode]
            else:
                found[inode] = new.entries[name] = self._file_after_cut(inode)
        new.stored = dict(new.entries)
        return new

    def _file_after_cut(self, inode: Inode) -> Inode:
        new: Inode
        if type(inode) is Link:
            new = Link(inode.number, inode.target, 0, 0.0)
        else:
            assert type(inode) is File
            new = File(inode.number, 0, 0, 0, 0.0)
            new.data = new.stored = inode.remains(self._choices, tears=self.profile.tears)
            self.used += (len(new.data) + PAGE - 1) // PAGE
        self._restore(inode, new)
        return new

    def _restore(self, old: Inode, new: Inode) -> None:
        now = old.all_attributes()
        stored = old.stored_attributes
        new.set_all(stored if now == stored or self._choices.chance(0.5) else now)
        self.used_inodes += 1
        if not old.number:  # it had been removed, and its number may be that of another
            self._next_number += 1
            new.number = self._next_number

    # For oracles: no process, no faults

    def find(self, path: str) -> Inode:
        """
        Return what is at a path.

        :raises OSError: there is nothing.
        """
        inode: Inode = self.root
        for name in path.split("/"):
            if name:
                if type(inode) is not Folder:
                    raise failure(errno.ENOTDIR, path)
                child = self.child(inode, name)
                if child is None:
                    raise failure(errno.ENOENT, path)
                inode = child
        return inode

    def exists(self, path: str) -> bool:
        """Return whether there is something at a path."""
        try:
            self.find(path)
        except OSError:
            return False
        return True

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""
        folder = self.find(path)
        if type(folder) is not Folder:
            raise failure(errno.ENOTDIR, path)
        return sorted(folder.entries)

    def content(self, path: str) -> bytes:
        """Return the content of a file."""
        file = self.find(path)
        if type(file) is not File:
            raise failure(errno.EISDIR, path)
        return bytes(file.data)

    def status(self, path: str) -> os.stat_result:
        """Return the attributes."""
        return self.status_of(self.find(path))

    def status_of(self, inode: Inode) -> os.stat_result:
        """Return the attributes of an inode."""
        return status_of(inode, self.device, self.links(inode))

    def is_durable(self, path: str, process: str = "") -> bool:
        """
        Return whether a power cut would leave what is at a path: its names and its content.

        :param process: a name that was not durable when this one was told that the folder
            could not be synced does not count, even if a later sync has succeeded.
        """
        inode: Inode = self.root
        doubtful = self._doubtful.get(process, {})
        for name in path.split("/"):
            if name:
                if type(inode) is not Folder:
                    return False
                child = inode.entries.get(name)
                if child is None or inode.stored.get(name) is not child:
                    return False
                if doubtful and doubtful.get((inode, name)) is child:
                    return False
                inode = child
        return type(inode) is not File or inode.is_durable

    def walk(self, path: str = "/") -> Iterator[tuple[str, Inode]]:
        """Return all that is below a path, sorted, folders before what is in them."""
        folder = self.find(path)
        assert type(folder) is Folder
        above = path.rstrip("/")
        for name in sorted(folder.entries):
            inode = folder.entries[name]
            yield f"{above}/{name}", inode
            if type(inode) is Folder:
                yield from self.walk(f"{above}/{name}")

    def plant(self, path: str, content: bytes, owner: int = 1000, mode: int = 0o644) -> None:
        """Put a file there as another user, durably; with the folders that are missing."""
        above, _, name = path.rpartition("/")
        folder = self.plant_folder(above, owner)
        file = File(self.new_number(), mode, owner, owner, self._now())
        if content:
            self.reserve(file, 0, len(content))
            file.put(0, content)
        self._plant(folder, name, file)

    def plant_folder(self, path: str, owner: int = 1000, mode: int = 0o755) -> Folder:
        """Make a folder, durably, with those above it, unless it exists."""
        folder: Inode = self.root
        for name in path.split("/"):
            if name:
                assert type(folder) is Folder
                child = folder.entries.get(name)
                if child is None:
                    child = Folder(self.new_number(), mode, owner, owner, self._now())
                    self._plant(folder, name, child)
                folder = child
        assert type(folder) is Folder
        return folder

    def plant_link(self, path: str, target: str, owner: int = 1000) -> None:
        """Make a symbolic link, durably."""
        above, _, name = path.rpartition("/")
        folder = self.plant_folder(above, owner)
        self._plant(folder, name, Link(self.new_number(), target, owner, self._now()))

    def _plant(self, folder: Folder, name: str, inode: Inode) -> None:
        if name in folder.entries:
            raise failure(errno.EEXIST, name)
        self.add(folder, name, inode, self._now())
        self.sync(folder)
        self.sync(inode)

    def _now(self) -> float:
        return EPOCH + self.scheduler.now

    # For the differential tests

    def allows(self, found: dict[str, bytes | None]) -> bool:
        """
        Return whether a power cut may leave this.

        :param found: content by path; `None` for a folder.
        """
        return any(self._matches(edits, found) for edits in self.log.outcomes())

    def _matches(self, edits: list[Edit], found: dict[str, bytes | None]) -> bool:
        stored: dict[Folder, dict[str, Inode]] = {}
        for folder, name, inode in edits:
            entries = stored.setdefault(folder, dict(folder.stored))
            if inode is None:
                entries.pop(name, None)
            else:
                entries[name] = inode
        expected = dict(_tree(self.root, stored, ""))
        if expected.keys() != found.keys():
            return False
        for path, inode in expected.items():
            content = found[path]
            if type(inode) is File:
                if content is None or not inode.may_remain(content):
                    return False
            elif content is not None:
                return False
        return True


def _tree(
    folder: Folder, stored: dict[Folder, dict[str, Inode]], above: str
) -> Iterator[tuple[str, Inode]]:
    for name, inode in stored.get(folder, folder.stored).items():
        yield f"{above}/{name}", inode
        if type(inode) is Folder:
            yield from _tree(inode, stored, f"{above}/{name}")
