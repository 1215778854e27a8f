"""
Changes of names that are not durable yet: which sync makes which of them durable, and which
of them a power cut may leave.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

from tests.simulation.choices import Choices
from tests.simulation.filesystem.inodes import Folder, Inode

__all__ = ["MOST", "Edit", "Journal", "apply"]

Edit = tuple[Folder, str, Inode | None]
"""A folder, a name, and what it refers to from then on, if anything."""


MOST = 4000
"""How many changes there are before they become durable by themselves: the kernel's timer."""


def apply(edits: Iterable[Edit]) -> None:
    """Make changes on the device."""
    for folder, name, inode in edits:
        if inode is None:
            folder.stored.pop(name, None)
        else:
            folder.stored[name] = inode


class Journal:
    """
    All changes become durable in their order, each as a whole, as on ext4 and xfs.

    :ivar end: number of changes so far.
    """

    __slots__ = ("_pending", "_start", "end")

    def __init__(self) -> None:
        self._pending: deque[tuple[Edit, ...]] = deque()
        self._start = 0
        self.end = 0

    def add(self, inode: Inode, *edits: Edit) -> None:
        """Log a change; a sync of the inode or of one of the folders makes it durable."""
        self._pending.append(edits)
        self.end = inode.logged = end = self.end + 1
        for edit in edits:
            edit[0].logged = end
        if len(self._pending) > MOST:
            self._sync_to(end)

    def sync(self, inode: Inode, end: int) -> None:
        """Make durable all changes up to one."""
        if end > self._start:
            self._sync_to(end)

    def _sync_to(self, end: int) -> None:
        start, pending = self._start, self._pending
        while start < end:
            apply(pending.popleft())
            start += 1
        self._start = start

    def cut(self, choices: Choices) -> None:
        """Keep some, and forget the others."""
        for _ in range(choices.below(len(self._pending) + 1)):
            apply(self._pending.popleft())
        self._pending.clear()
        self._start = self.end

    def outcomes(self) -> Iterator[list[Edit]]:
        """Return what a power cut may leave, all possibilities."""
        changes = [*self._pending]
        for number in range(len(changes) + 1):
            yield [*itertools.chain.from_iterable(changes[:number])]
