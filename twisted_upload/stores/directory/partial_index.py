"""
How many partial uploads there are, and how large they are: bounds on both.

The counts are those of the whole folder.  What other processes do on it is seen at the
next scan.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

from twisted_upload.errors import Busy, NoSpace
from twisted_upload.stores.directory.partial_scan import Entry

__all__ = ["PartialIndex", "PartialLimits"]


class PartialLimits(NamedTuple):
    """
    How much partial uploads may take.

    :ivar most: number of uploads that are not stored; again as many stored ones are
        remembered, and if there are more, those stored first are forgotten, however long
        ago that was.
    :ivar most_per_group: the same for each address group.
    :ivar most_bytes: their size together, with what is being written to them; each writer
        may exceed it by one piece (at most 16 MiB).
    :ivar most_bytes_per_group: the same for each address group.
    :ivar most_writers: number of uploads written at the same time by one process; each
        takes two file descriptors.
    :ivar spared: seconds since its last commit for which an upload does not give way when
        space is short.
    """

    most: float = 10_000
    most_per_group: float = 1_000
    most_bytes: float = math.inf
    most_bytes_per_group: float = math.inf
    most_writers: int = 1_000
    spared: float = 3600.0


class PartialIndex:
    """
    What is known of all partial uploads of a folder, by key.

    :ivar entries: the uploads.
    :ivar pinned: those that must not be removed now, and for how many users; disk threads
        read it too.
    """

    def __init__(self, limits: PartialLimits) -> None:
        self.entries: dict[str, Entry] = {}
        self.pinned: Counter[str] = Counter()
        self._limits = limits
        self._count = 0
        self._size = 0
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()
        # What is written to uploads, and not yet in their entries.
        self._growing: dict[str, tuple[str | None, int]] = {}
        self._growth = 0
        self._growths: Counter[str] = Counter()
        self._stored: dict[str, None] = {}  # the one that was stored first comes first

    @property
    def count(self) -> int:
        """Number of uploads that are not stored."""
        return self._count

    @property
    def size(self) -> int:
        """Their committed bytes."""
        return self._size

    def admit(self, group: str | None) -> None:
        """
        Check whether there may be another one.

        :raises Busy: there are too many.
        """
        limits = self._limits
        if self._count >= limits.most:
            raise Busy("too many unfinished uploads at the moment; try again later")
        if group is not None and self._counts[group] >= limits.most_per_group:
            raise Busy("too many unfinished uploads from this address; finish or remove some")

    def room(self, group: str | None) -> float:
        """
        Return how many bytes may be added to the uploads of a group.

        :raises NoSpace: none.
        """
        room = self.left(group)
        if room <= 0:
            raise NoSpace("unfinished uploads take too much space; finish or remove some")
        return room

    def left(self, group: str | None) -> float:
        """Return how many bytes may be added to the uploads of a group; it may be negative."""
        limits = self._limits
        left = limits.most_bytes - self._size - self._growth
        if group is not None:
            taken = self._sizes[group] + self._growths[group]
            left = min(left, limits.most_bytes_per_group - taken)
        return left

    def grow(self, key: str, group: str | None, size: int) -> None:
        """Count bytes that are written to an upload, until `put` or `settle`."""
        growing = self._growing.get(key)
        self._growing[key] = group, size + (0 if growing is None else growing[1])
        self._growth += size
        if group is not None:
            self._growths[group] += size

    def settle(self, key: str) -> None:
        """Note that nobody writes to an upload any more: its committed bytes are all."""
        group, size = self._growing.pop(key, (None, 0))
        self._growth -= size
        if group is not None:
            self._growths[group] -= size
            if not self._growths[group]:
                del self._growths[group]

    def superfluous(self) -> str | None:
        """Return a stored upload that is to be forgotten because too many are remembered."""
        if len(self._stored) > self._limits.most:
            return next(iter(self._stored))
        return None

    def put(self, key: str, entry: Entry) -> None:
        """Note what is known of an upload."""
        before = self.entries.get(key)
        if before is not None and key in self._growing and not entry.stored:
            # A part of that has been committed in between.
            group, growth = self._growing[key]
            self.grow(key, group, -max(0, min(growth, entry.size - before.size)))
        if before is None or not (before.stored and entry.stored):
            self._remove(key)
        self.entries[key] = entry
        if entry.stored:
            self._stored[key] = None
        else:
            self._add(entry, 1)

    def drop(self, key: str) -> None:
        """Note that there is no such upload any more."""
        self.settle(key)
        self._remove(key)

    def _remove(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is None:
            return
        if entry.stored:
            del self._stored[key]
        else:
            self._add(entry, -1)

    def changed(self, listed: Mapping[str, int], now: float) -> list[str]:
        """
        Return the uploads that have to be read again, those that changed first first.

        :param listed: all records, with their modification times.
        """
        entries = self.entries
        return [
            key
            for key, modified in sorted(listed.items(), key=itemgetter(1))
            if (entry := entries.get(key)) is None or entry.modified != modified or entry.due <= now
        ]

    def _add(self, entry: Entry, sign: int) -> None:
        self._count += sign
        self._size += sign * entry.size
        group = entry.group
        if group is None:
            return
        self._counts[group] += sign
        self._sizes[group] += sign * entry.size
        if not self._counts[group]:
            del self._counts[group], self._sizes[group]
