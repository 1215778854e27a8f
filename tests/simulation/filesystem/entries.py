"""
Changes of names where a sync makes durable what concerns one file or one folder, and not all
that happened before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from tests.simulation.choices import Choices
from tests.simulation.filesystem.changes import MOST, Edit, Journal, apply
from tests.simulation.filesystem.inodes import Folder, Inode
from tests.simulation.filesystem.profiles import Profile

__all__ = ["Change", "Entries", "LogTree", "make_log"]


class Change:
    """
    A change that becomes durable as a whole.

    :ivar needs: changes that become durable before it.
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
    A sync of a file makes its names durable, and that of a folder its entries: as they are,
    not how they came to be so.  Of other changes, any may be durable.  So it is on btrfs,
    where they mostly are durable in their order, but if a file has been moved and only its
    new folder was synced, the old name may be left too (seen on Linux 6.18).
    """

    __slots__ = ("_pending", "end")

    def __init__(self) -> None:
        self._pending: dict[Change, None] = {}
        self.end = 0

    def add(self, inode: Inode, *edits: Edit) -> None:
        """Log a change."""
        self.end = end = self.end + 1
        change = Change(end, inode, edits)
        self._pending[change] = None
        own = inode.pending
        if own is None:
            inode.pending = {change: None}
            if isinstance(inode, Folder) and not inode.entries and not inode.stored:
                inode.born = change
        else:
            own[change] = None
        for folder, name, _ in edits:
            if folder.born is not None:
                change.needs.append(folder.born)
            latest = folder.latest.get(name)
            if latest is not None and len(edits) == 1 and inode is not latest.inode:
                change.needs.append(latest)  # what had the name before has another, or none
            folder.latest[name] = change
        if len(self._pending) > MOST:
            self._make_durable([*self._pending])

    def sync(self, inode: Inode, end: int) -> None:
        """Make durable what a sync of this makes durable."""
        if isinstance(inode, Folder):
            for name in [*inode.latest]:
                self._settle(inode, name)
        if inode.pending:
            self._sync_names(inode)

    def _settle(self, folder: Folder, name: str) -> None:
        """Make an entry durable as it is."""
        inode, before = folder.entries.get(name), folder.stored.get(name)
        folder.latest.pop(name, None)
        folder.applied[name] = self.end
        apply(((folder, name, inode),))
        if folder.born is not None:
            self._sync_names(folder)
        if before is inode:
            return
        if before is not None:  # it is elsewhere, if it was moved there
            gone = [
                it
                for it in before.pending or ()
                if len(it.edits) > 1 and (folder, name, None) in it.edits
            ]
            self._make_durable(with_needs(gone))

    def _sync_names(self, inode: Inode) -> None:
        changes, inode.pending = inode.pending, None
        if isinstance(inode, Folder):
            inode.born = None
        for change in changes or ():
            change.done = True
            self._pending.pop(change, None)
            for folder, name, _ in change.edits:
                if folder.entries.get(name) is inode:
                    self._settle(folder, name)
                elif folder.stored.get(name) is inode:
                    del folder.stored[name]
                    folder.applied[name] = change.number

    def _edits(self, changes: Iterable[Change]) -> Iterator[Edit]:
        """Yield the edits of names of which no later one is durable."""
        for change in changes:
            for edit in change.edits:
                if edit[0].applied.get(edit[1], 0) < change.number:
                    yield edit

    def _make_durable(self, changes: list[Change]) -> None:
        apply(self._edits(changes))
        for change in changes:
            change.done = True
            change.needs = []
            inode = change.inode
            self._pending.pop(change, None)
            if inode.pending is not None:
                inode.pending.pop(change, None)
            if isinstance(inode, Folder) and inode.born is change:
                inode.born = None
            for folder, name, _ in change.edits:
                if folder.latest.get(name) is change:
                    del folder.latest[name]
                if not folder.latest:
                    folder.applied.clear()

    def cut(self, choices: Choices) -> None:
        """Keep some, and forget the others."""
        changes = [*self._pending]
        chosen = changes[: choices.below(len(changes) + 1)]
        if choices.chance(0.5):
            chance = choices.pick((0.1, 0.5, 0.9))
            chosen = [change for change in changes if choices.chance(chance)]
        apply(self._edits(with_needs(chosen)))

    def outcomes(self) -> Iterator[list[Edit]]:
        """Return what a power cut may leave: not all, but all that is nearly in order."""
        changes = [*self._pending]
        more = [
            *itertools.chain.from_iterable(itertools.combinations(changes, it) for it in range(4))
        ]
        for chosen in more:
            for number in range(len(changes) + 1):
                yield [*self._edits(with_needs([*changes[:number], *chosen]))]


class Entries:
    """
    A sync of a folder makes its entries durable, and nothing else does; of other changes, any
    may be: what POSIX promises.  A rename is an addition, and a removal that needs it.
    """

    __slots__ = ("_pending", "end")

    def __init__(self) -> None:
        self._pending: dict[Change, None] = {}
        self.end = 0

    def add(self, inode: Inode, *edits: Edit) -> None:
        """Log a change: additions first."""
        before = None
        for edit in edits:
            folder, name, _ = edit
            self.end += 1
            change = Change(self.end, inode, (edit,))
            self._pending[change] = None
            if folder.pending is None:
                folder.pending = {change: None}
            else:
                folder.pending[change] = None
            latest = folder.latest.get(name)
            if latest is not None:
                change.needs.append(latest)
            folder.latest[name] = change
            if before is not None:
                change.needs.append(before)
            before = change
        if len(self._pending) > MOST:
            self._make_durable([*self._pending])

    def sync(self, inode: Inode, end: int) -> None:
        """Make durable what a sync of this makes durable."""
        if inode.pending:
            self._make_durable(with_needs([*inode.pending]))

    def _make_durable(self, changes: list[Change]) -> None:
        for change in changes:
            apply(change.edits)
            change.done = True
            change.needs = []
            del self._pending[change]
            for folder, name, _ in change.edits:
                if folder.pending is not None:
                    folder.pending.pop(change, None)
                if folder.latest.get(name) is change:
                    del folder.latest[name]

    def cut(self, choices: Choices) -> None:
        """Keep some, and forget the others."""
        chance = choices.pick((0.0, 0.1, 0.5, 0.9, 1.0))
        self._make_durable(with_needs([it for it in self._pending if choices.chance(chance)]))

    def outcomes(self) -> Iterator[list[Edit]]:
        """Return what a power cut may leave, all possibilities."""
        changes = [*self._pending]
        assert len(changes) <= 16, "too many possibilities"
        for number in range(len(changes) + 1):
            for chosen in itertools.combinations(changes, number):
                if len(with_needs([*chosen])) == number:
                    yield [edit for change in chosen for edit in change.edits]


def with_needs(left: list[Change]) -> list[Change]:
    """Return changes and what they need, in their order."""
    found: dict[Change, None] = {}
    while left:
        change = left.pop()
        if not change.done and change not in found:
            found[change] = None
            left.extend(change.needs)
    return sorted(found, key=lambda change: change.number)


def make_log(profile: Profile) -> Journal | LogTree | Entries:
    """Return how a file system makes changes durable."""
    if profile.ordered:
        return Journal()
    return LogTree() if profile.syncs_names else Entries()
