"""
The content of a file: in memory, on the device, and what is left of it after a power cut.
"""

from __future__ import annotations

import stat

from tests.simulation.choices import Choices
from tests.simulation.filesystem.inodes import Inode

__all__ = ["PAGE", "File"]

PAGE, SECTOR = 4096, 512
MOST_VERSIONS = 8
"""How many earlier contents, of which pages may be found after a power cut, are kept."""


class File(Inode):
    """
    A file.

    :ivar data: its content.
    :ivar stored: its content on the device.
    :ivar dirty: the ranges that have not been written to the device, start and end.
    :ivar lost: the ranges that could not be: they never will be.
    :ivar older: earlier contents since the last sync that differ in more than their end.
    :ivar seams: where, inside pages, content has been added since the last sync.
    :ivar errors: how often writing to the device has failed.
    """

    __slots__ = ("data", "dirty", "errors", "lost", "older", "seams", "stored")

    def __init__(self, number: int, mode: int, owner: int, group: int, now: float) -> None:
        super().__init__(number, stat.S_IFREG | mode, owner, group, now)
        self.data: bytes | bytearray = b""
        self.stored = b""
        self.dirty: list[tuple[int, int]] = []
        self.lost: list[tuple[int, int]] = []
        self.older: list[bytes] = []
        self.seams: list[int] = []
        self.errors = 0

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.data)

    @property
    def is_durable(self) -> bool:
        """Whether all of it is on the device."""
        return not self.dirty and (not self.lost or self.stored == self.data)

    def put(self, position: int, piece: bytes | memoryview) -> None:
        """Write a piece, which is not empty."""
        size, end = len(self.data), position + len(piece)
        dirty = self.dirty
        if not size and not position:
            self.data = bytes(piece)  # no copy if these are bytes
            dirty.append((0, end))
            return
        if position < size and self._is_dirty(position, end):
            self._keep_version()
        data = self.data
        if type(data) is bytes:
            self.data = data = bytearray(data)
        assert isinstance(data, bytearray)
        if position > size:
            data.extend(bytes(position - size))
            position_of_change = size
        else:
            position_of_change = position
        if end > size and position_of_change % PAGE:
            self.seams.append(position_of_change)
        data[position:end] = piece
        if dirty and dirty[-1][1] == position_of_change:
            dirty[-1] = (dirty[-1][0], end)
        else:
            dirty.append((position_of_change, end))

    def _is_dirty(self, start: int, end: int) -> bool:
        return any(a < end and start < b for a, b in self.dirty)

    def _keep_version(self) -> None:
        self.older.append(bytes(self.data))
        del self.older[:-MOST_VERSIONS]

    def resize(self, size: int) -> None:
        """Shorten it, or add zeros."""
        before = len(self.data)
        if size == before:
            return
        if self.dirty:
            self._keep_version()
        if size < before:
            self.data = bytes(self.data[:size])
            self.dirty = [(a, min(b, size)) for a, b in self.dirty if a < size]
        else:
            self.data = bytearray(self.data)
            self.data.extend(bytes(size - before))
        self.dirty.append((min(size, before), max(size, before)))

    def sync(self) -> None:
        """What is in memory is on the device, except what has been lost before."""
        if self.dirty:
            self.stored = self._as_written(self.data)
            self.dirty = []
            if self.older:
                self.older = []
            if self.seams:
                self.seams = []

    def _as_written(self, version: bytes | bytearray) -> bytes:
        """Return what the device gets of a content: nothing of what has been lost."""
        if not self.lost:
            return bytes(version)
        found = bytearray(version)
        for start, lost_end in self.lost:
            end = min(lost_end, len(found))
            old = self.stored[start:end]
            found[start:end] = old + bytes(max(0, end - start - len(old)))
        for start, end in self.dirty:
            found[start:end] = version[start:end]
        return bytes(found)

    def fail(self, choices: Choices) -> None:
        """
        Writing to the device fails: the pages are clean, and the device has not got them,
        or only some.  Whether they can still be read until they are evicted is chosen.
        """
        self.errors += 1
        if choices.chance(0.3):
            self.stored = self.remains(choices, tears=False)
        self.lost += self.dirty
        self.dirty = []
        self.older = []
        if choices.chance(0.3):
            self.data = self._as_written(self.data)

    # After a power cut

    def remains(self, choices: Choices, *, tears: bool) -> bytes:
        """
        Choose what a power cut leaves: of each page, what was on the device, or what has been
        written since; zeros, where nothing was.

        :param tears: whether part of a page may have been written.
        """
        stored = self.stored
        if not self.dirty:
            return stored
        version = self._as_written(self.data)
        if self.older and choices.chance(0.5):
            version = choices.pick(self.older)
        how = choices.below(4)
        if how < 2:
            return version if how else stored
        found = bytearray(self._some_size(choices, len(version)))
        found[: len(stored)] = stored[: len(found)]
        written = choices.pick((0.1, 0.5, 0.9))
        for start in range(0, len(found), PAGE):
            end = min(start + PAGE, len(found))
            if not choices.chance(written):
                end = self._some_end(choices, start, end, tears=tears)
            piece = version[start:end]
            found[start : start + len(piece)] = piece
        return bytes(found)

    def _some_end(self, choices: Choices, start: int, end: int, *, tears: bool) -> int:
        """Choose how far a page was written: not at all, or as far as it had content then."""
        seams = [it for it in self.seams if start < it < end]
        if tears and choices.chance(0.5):
            return start + SECTOR * choices.below(PAGE // SECTOR)
        if seams and choices.chance(0.5):
            return choices.pick(seams)
        return start

    def _some_size(self, choices: Choices, size: int) -> int:
        before = len(self.stored)
        if size <= before or choices.chance(0.3):
            return choices.pick((before, size))
        if choices.chance(0.5):
            return min(size, (before // PAGE + choices.below(size // PAGE + 1) + 1) * PAGE)
        return before + choices.below(size - before + 1)

    def may_remain(self, found: bytes) -> bool:
        """Return whether a power cut may leave this; without torn pages."""
        versions = [self.stored, *self.older]
        if self.dirty:
            versions.append(self._as_written(self.data))
        sizes = [len(version) for version in versions]
        if not min(sizes) <= len(found) <= max(sizes):
            return False
        return all(
            self._page_may_remain(found[start : start + PAGE], start, versions)
            for start in range(0, len(found), PAGE)
        )

    def _page_may_remain(self, page: bytes, start: int, versions: list[bytes]) -> bool:
        size = len(page)
        seams = [it - start for it in self.seams if start < it < start + size]
        for version in versions:
            for end in (size, *seams):
                old = version[start : start + end]
                if page == old + bytes(size - len(old)):
                    return True
        return not page.strip(b"\0")
