"""
Files, folders and links: as they are in memory, and as they are on the device.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.filesystem.descriptions import OpenFile
    from tests.simulation.filesystem.entries import Change
    from tests.simulation.scheduler import Event

__all__ = ["Folder", "Inode", "Link", "above"]


class Inode:
    """
    What has names.

    :ivar stored_attributes: those on the device.
    :ivar logged: the position in the journal up to which it must be durable with this.
    :ivar sized: the same, with its content only.
    :ivar pending: changes of names that become durable with this.
    :ivar opened: how many open files refer to it.
    :ivar locks: who has locked it, and whether exclusively.
    :ivar claims: who has claimed which numbers.
    """

    __slots__ = (
        "accessed",
        "attributes",
        "changed",
        "claims",
        "group",
        "links",
        "locks",
        "logged",
        "mode",
        "modified",
        "number",
        "opened",
        "owner",
        "pending",
        "sized",
        "stored_attributes",
        "unlocked",
    )

    def __init__(self, number: int, mode: int, owner: int, group: int, now: float) -> None:
        self.number = number
        self.mode = mode
        self.owner = owner
        self.group = group
        self.accessed = self.modified = self.changed = now
        self.attributes: dict[str, bytes] | None = None
        self.links = 1
        self.opened = 0
        self.logged = self.sized = 0
        self.pending: dict[Change, None] | None = None
        self.locks: dict[OpenFile, bool] | None = None
        self.claims: dict[OpenFile, dict[int, None]] | None = None
        self.unlocked: Event | None = None
        self.stored_attributes: tuple[Any, ...] = (mode, owner, group, now, None)

    def all_attributes(self) -> tuple[Any, ...]:
        """Return mode, owner, group, time of modification, and extended attributes."""
        return (self.mode, self.owner, self.group, self.modified, self.attributes)

    def set_all(self, attributes: tuple[Any, ...]) -> None:
        """Set what `all_attributes` returns."""
        self.mode, self.owner, self.group, self.modified, self.attributes = attributes
        self.accessed = self.changed = self.modified
        self.stored_attributes = attributes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return 4096


class Folder(Inode):
    """
    A folder.

    :ivar entries: what is in it.
    :ivar stored: what is in it on the device.
    :ivar parent: where it is; itself if it is the root.
    :ivar latest: the last change of each name that is not durable.
    :ivar applied: the numbers of changes that became durable before older ones did.
    :ivar born: the change that made it, if that is not durable.
    """

    __slots__ = ("applied", "born", "entries", "latest", "parent", "stored")

    def __init__(self, number: int, mode: int, owner: int, group: int, now: float) -> None:
        super().__init__(number, stat.S_IFDIR | mode, owner, group, now)
        self.entries: dict[str, Inode] = {}
        self.stored: dict[str, Inode] = {}
        self.parent = self
        self.latest: dict[str, Change] = {}
        self.applied: dict[str, int] = {}
        self.born: Change | None = None
        self.links = 2


class Link(Inode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, number: int, target: str, owner: int, now: float) -> None:
        super().__init__(number, stat.S_IFLNK | 0o777, owner, owner, now)
        self.target = target

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.target)


def above(folder: Folder) -> Iterator[Folder]:
    """Yield a folder and all that it is in."""
    yield folder
    while folder.parent is not folder:
        folder = folder.parent
        yield folder
