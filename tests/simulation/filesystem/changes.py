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
from tests.simulation.filesystem.profiles import Profile

__all__ = ["Change", "Edit", "Journal", "LogTree", "make_log"]

Edit = tuple[Folder, str, Inode | None]
"""A folder, a name, and what it refers to from then on, if anything."""


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

    def sync(self, inode: Inode, end: int) -> None:
        """Make durable all changes up to one."""
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


class Change:
    """
    A change that becomes durable as a whole.

    :ivar needs: changes that become durable before it, or with it.
    """

    __slots__ = ("done", "edits", "inode", "needs", "number")

    def __init__(self, number: int, inode: Inode, edits: tuple[Edit, ...]) -> None:
        self.number = number
        self.inode = inode
        self.edits = edits
        self.needs: list[Change] = []
        self.done = False


class LogTree:
    """
    A sync makes durable what concerns that file or that folder, and what this needs, as on
    btrfs, or as POSIX promises.

    :param syncs_names: whether a sync of a file makes its names durable.
    :param whole: whether both halves of a rename become durable together, and all changes
        in their order if nothing is synced.
    """

    __slots__ = ("_pending", "_syncs_names", "_whole", "end")

    def __init__(self, *, syncs_names: bool, whole: bool) -> None:
        self._syncs_names = syncs_names
        self._whole = whole
        self._pending: dict[Change, None] = {}
        self.end = 0

    def add(self, inode: Inode, *edits: Edit) -> None:
        """Log a change: additions first."""
        if self._whole:
            self._add(inode, edits)
            return
        before = None
        for edit in edits:
            change = self._add(inode, (edit,))
            if before is not None:
                change.needs.append(before)
            before = change

    def _add(self, inode: Inode, edits: tuple[Edit, ...]) -> Change:
        self.end += 1
        change = Change(self.end, inode, edits)
        self._pending[change] = None
        for folder, name, _ in edits:
            before = folder.latest.get(name)
            if before is not None:
                change.needs.append(before)
            folder.latest[name] = change
            self._belongs(folder, change)
            if self._syncs_names and folder.born is not None:
                change.needs.append(folder.born)
        if self._syncs_names:
            if inode.pending:
                change.needs.append(next(reversed(inode.pending)))
            self._belongs(inode, change)
            if isinstance(inode, Folder) and inode.born is None and not inode.stored:
                inode.born = change
        return change

    def _belongs(self, inode: Inode, change: Change) -> None:
        if inode.pending is None:
            inode.pending = {change: None}
        else:
            inode.pending[change] = None

    def sync(self, inode: Inode, end: int) -> None:
        """Make durable what a sync of this makes durable."""
        if inode.pending:
            self._make_durable([*inode.pending])

    def _make_durable(self, changes: list[Change]) -> None:
        for change in with_needs(changes):
            apply(change.edits)
            change.done = True
            change.needs = []
            del self._pending[change]
            self._forget(change.inode, change)
            for folder, name, _ in change.edits:
                self._forget(folder, change)
                if folder.latest.get(name) is change:
                    del folder.latest[name]
            if isinstance(change.inode, Folder) and change.inode.born is change:
                change.inode.born = None

    def _forget(self, inode: Inode, change: Change) -> None:
        if inode.pending:
            inode.pending.pop(change, None)

    def cut(self, choices: Choices) -> None:
        """Keep some, and forget the others."""
        changes = [*self._pending]
        if self._whole:
            chosen = changes[: choices.below(len(changes) + 1)]
        else:
            chance = choices.pick((0.0, 0.1, 0.5, 0.9, 1.0))
            chosen = [change for change in changes if choices.chance(chance)]
        self._make_durable(chosen)
        self._pending.clear()

    def outcomes(self) -> Iterator[list[Edit]]:
        """Return what a power cut may leave, all possibilities."""
        changes = [*self._pending]
        if self._whole:
            for number in range(len(changes) + 1):
                yield [edit for change in changes[:number] for edit in change.edits]
            return
        assert len(changes) <= 16, "too many possibilities"
        for number in range(len(changes) + 1):
            for chosen in itertools.combinations(changes, number):
                if len(with_needs([*chosen])) == number:
                    yield [edit for change in chosen for edit in change.edits]


def with_needs(changes: list[Change]) -> list[Change]:
    """Return changes and what they need, in their order."""
    found: dict[Change, None] = {}
    left = changes
    while left:
        change = left.pop()
        if not change.done and change not in found:
            found[change] = None
            left.extend(change.needs)
    return sorted(found, key=lambda change: change.number)


def make_log(profile: Profile) -> Journal | LogTree:
    """Return how a file system makes changes durable."""
    if profile.ordered:
        return Journal()
    return LogTree(syncs_names=profile.syncs_names, whole=profile.atomic_renames)
