"""
The tree of a file system, and its space, as the kernel has them in memory.
"""

from __future__ import annotations

import errno
import os

from tests.simulation.filesystem.content import PAGE, File
from tests.simulation.filesystem.descriptions import (
    failure,
)
from tests.simulation.filesystem.entries import make_log
from tests.simulation.filesystem.faults import Faults
from tests.simulation.filesystem.inodes import Folder, Inode
from tests.simulation.filesystem.profiles import Profile
from tests.simulation.process import EPOCH
from twisted_upload.disk.file_calls import Space

__all__ = ["Tree", "status_of"]


def status_of(inode: Inode, device: int, links: int) -> os.stat_result:
    """Return the attributes as stat(2) does."""
    size = inode.size
    accessed, modified, changed = inode.accessed, inode.modified, inode.changed
    return os.stat_result(
        (
            inode.mode,
            inode.number,
            device,
            links,
            inode.owner,
            inode.group,
            size,
            int(accessed),
            int(modified),
            int(changed),
            # What only has a name: the times as numbers with fractions, and in nanoseconds;
            # size of a block, number of blocks, device.
            *(accessed, modified, changed),
            *(int(accessed * 1e9), int(modified * 1e9), int(changed * 1e9)),
            *(PAGE, (size + PAGE - 1) // PAGE * 8, 0),
        )
    )


class Tree:
    """
    The tree.

    :ivar root: its root.
    :ivar log: what is not durable of the names in it.
    :ivar mount: number of power cuts so far.
    :ivar used: how many pages files take.
    :ivar used_inodes: how many files and folders there are.
    """

    def __init__(self, profile: Profile, faults: Faults, owner: int) -> None:
        self.profile = profile
        self.faults = faults
        self.mount = 0
        self.used = 0
        self.used_inodes = 1
        self._free_numbers: list[int] = []
        self._next_number = 12
        self.log = make_log(profile)
        self.root = Folder(2, 0o755, owner, owner, EPOCH)

    # Space

    def new_number(self) -> int:
        """
        Return the number of a new inode.

        :raises OSError: no more fit.
        """
        if self.used_inodes >= self.faults.inodes:
            raise failure(errno.ENOSPC)
        self.used_inodes += 1
        if self._free_numbers:
            return self._free_numbers.pop()
        self._next_number += 1
        return self._next_number

    def free(self, inode: Inode) -> None:
        """Forget a file that has no name, and that nobody has open."""
        self.used_inodes -= 1
        if type(inode) is File:
            self.used -= (len(inode.data) + PAGE - 1) // PAGE
        if self.profile.reuses_numbers:
            self._free_numbers.append(inode.number)
        inode.number = 0

    def reserve(self, file: File, start: int, end: int) -> int:
        """
        Take space for a write that makes a file longer.

        :return: where the write ends: earlier than asked for if the disk is full.
        :raises OSError: with ``ENOSPC`` or ``EDQUOT`` if nothing can be written.
        """
        has = (len(file.data) + PAGE - 1) // PAGE
        more = (end + PAGE - 1) // PAGE - has
        faults = self.faults
        left = faults.capacity // PAGE - self.used
        number = errno.ENOSPC
        if faults.quota is not None and faults.quota // PAGE - self.used < left:
            left = faults.quota // PAGE - self.used
            number = errno.EDQUOT
        if more > left:
            more = max(0, left)
            end = min(end, (has + more) * PAGE)
            if end <= start:
                raise failure(number)
        self.used += more
        return end

    def shrink(self, file: File, size: int) -> None:
        """Return the space that a file of a smaller size does not take."""
        self.used -= (len(file.data) + PAGE - 1) // PAGE - (size + PAGE - 1) // PAGE

    def space(self) -> Space:
        """Return the free space, as statvfs(3) reports it."""
        faults = self.faults
        return Space(
            max(0, faults.capacity // PAGE - self.used) * PAGE,
            faults.capacity // PAGE * PAGE,
            max(0, faults.inodes - self.used_inodes),
            faults.inodes,
            faults.read_only,
        )

    # Names

    def links(self, inode: Inode) -> int:
        """Return the number of links as the file system counts them."""
        if type(inode) is Folder and inode.links and not self.profile.counts_folders:
            return 1
        return inode.links

    def child(self, folder: Folder, name: str) -> Inode | None:
        """Return what has a name."""
        if name in {"", "."}:
            return folder
        if name == "..":
            return folder.parent
        return folder.entries.get(name)

    def add(self, folder: Folder, name: str, inode: Inode, now: float) -> None:
        """Give a new inode its first name."""
        if not folder.links:
            raise failure(errno.ENOENT, name)
        if type(inode) is Folder:
            inode.parent = folder
            folder.links += 1
        folder.entries[name] = inode
        folder.modified = folder.changed = now
        self.log.add(inode, (folder, name, inode))
        inode.sized = inode.logged

    def remove(self, folder: Folder, name: str, inode: Inode, now: float) -> None:
        """Remove a name."""
        del folder.entries[name]
        folder.modified = folder.changed = inode.changed = now
        self.log.add(inode, (folder, name, None))
        self.unlinked(inode)

    def move(
        self,
        inode: Inode,
        source: tuple[Folder, str],
        target: tuple[Folder, str],
        replaced: Inode | None,
        now: float,
    ) -> None:
        """Move a name, in place of another if there is one."""
        (old, old_name), (new, new_name) = source, target
        del old.entries[old_name]
        new.entries[new_name] = inode
        old.modified = old.changed = new.modified = new.changed = inode.changed = now
        if type(inode) is Folder:
            inode.parent = new
            old.links -= 1
            new.links += 1
        self.log.add(inode, (new, new_name, inode), (old, old_name, None))
        if replaced is not None:
            self.unlinked(replaced)

    def link(self, inode: Inode, folder: Folder, name: str, now: float) -> None:
        """Give a file another name."""
        if not folder.links or not inode.links:
            raise failure(errno.ENOENT, name)
        folder.entries[name] = inode
        folder.modified = folder.changed = inode.changed = now
        inode.links += 1
        self.log.add(inode, (folder, name, inode))

    def unlinked(self, inode: Inode) -> None:
        """A name is gone; if it was the last, the file goes as soon as nobody has it open."""
        if type(inode) is Folder:
            inode.parent.links -= 1
            inode.links = 0
        else:
            inode.links -= 1
        if not inode.links and not inode.opened:
            self.free(inode)

    def sync(self, inode: Inode, *, data_only: bool = False) -> None:
        """
        Make durable what a sync of this makes durable.

        :param data_only: only what is needed to read the content: see fdatasync(2).
        """
        if type(inode) is File:
            inode.sync()
        if data_only:
            self.log.sync(inode, inode.sized)
        else:
            inode.stored_attributes = inode.all_attributes()
            self.log.sync(inode, inode.logged)
