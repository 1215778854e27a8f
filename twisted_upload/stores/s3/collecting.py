"""
The part of an upload that is collected while others are sent.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.stores.s3.part import CollectedPart, Part
from twisted_upload.stores.s3.parts import part_size

__all__ = ["Collecting"]


class Collecting:
    """
    Divides an upload into parts.

    :param length: bytes of the upload, if they are known.
    :param memory: the memory of all uploads.
    :param new_file: see `Part`.
    :ivar part: the part that is collected.
    :ivar number: its number, from 1.
    """

    __slots__ = (
        *("_later", "_later_size", "_length", "_memory", "_new_file", "_written"),
        *("number", "part"),
    )

    def __init__(
        self, length: int | None, memory: MemoryBudget, new_file: Callable[[], PartialFile]
    ) -> None:
        self._length = length
        self._memory = memory
        self._new_file = new_file
        self._written = 0  # bytes of the parts before it
        self._later: list[bytes] = []  # pieces of the parts after it
        self._later_size = 0
        self.number = 1
        self.part = self._new_part()

    @property
    def has_more(self) -> bool:
        """Whether the part is full, and there are bytes of the next one."""
        return bool(self._later)

    def add(self, data: bytes) -> None:
        """Take the next bytes: into the part, and, if it is full, for later."""
        room = 0 if self._later else self.part.room
        if len(data) <= room:
            self.part.add(data)
            return
        if room:
            self.part.add(data[:room])
            data = data[room:]
        self._later.append(data)
        self._later_size += len(data)
        self._memory.take(len(data))

    def take(self) -> CollectedPart:
        """Return the part, and begin to collect the next one."""
        collected = self.part.collected()
        self.number += 1
        self._written += collected.size
        self.part = self._new_part()
        for piece in self._take_later():
            self.add(piece)
        return collected

    def drop(self) -> None:
        """Release what is in memory."""
        self._take_later()
        self.part.drop()

    def _take_later(self) -> list[bytes]:
        later, self._later = self._later, []
        self._memory.give_back(self._later_size)
        self._later_size = 0
        return later

    def _new_part(self) -> Part:
        most = part_size(self.number, self._length)
        expected = most if self._length is None else max(self._length - self._written, 0)
        return Part(most, expected, self._memory, self._new_file)
