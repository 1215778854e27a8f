"""The content of the uploads, and the check that what was stored is the same."""

from __future__ import annotations

import os
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from .settings import MIB

BLOCK = 16
"""Bytes in a block; block number j of upload s is (s, j), 64 bits each, little-endian."""


def blocks(serial: int, first: int, count: int) -> bytes:
    """Return `count` blocks of an upload, beginning with block number `first`."""
    numbers = array("Q", bytes(BLOCK * count))
    numbers[::2] = array("Q", [serial]) * count
    numbers[1::2] = array("Q", range(first, first + count))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def write_source(path: Path, size: int) -> Path:
    """Write the file that large uploads are sent from: upload number 0, `size` bytes."""
    with path.open("wb") as file:
        for at in range(0, size, MIB):
            length = min(MIB, size - at)
            file.write(blocks(0, at // BLOCK, -(-length // BLOCK))[:length])
    return path


@dataclass
class StoredAnswer:
    """The content of a directory after a round."""

    whole: set[int] = field(default_factory=set)
    """The serials of the uploads that are stored, whole."""
    copies: int = 0
    """Files that are whole but repeat another one."""
    broken: int = 0
    """Files that are not a whole upload: cut, mixed, empty."""

    def lost(self, acknowledged: set[int]) -> int:
        """Return how many uploads were acknowledged but are not stored whole."""
        return len(acknowledged - self.whole)


def inspect(place: Path, size: int, source: Path | None = None) -> StoredAnswer:
    """
    Read every file of `place` and compare each of its bytes with what was sent.

    `size` is that of every upload, in bytes.  With a `source`, all but the first block
    of each upload was sent from that file.
    """
    kept = StoredAnswer()
    template = None if source else array("Q", blocks(0, 0, -(-size // BLOCK)))
    with os.scandir(place) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) or entry.name.startswith("."):
                continue
            if source is not None:
                serial = _like_source(Path(entry.path), size, source)
            else:
                assert template is not None
                serial = _like_template(Path(entry.path), size, template)
            if serial is None:
                kept.broken += 1
            elif serial in kept.whole:
                kept.copies += 1
            else:
                kept.whole.add(serial)
    return kept


def _like_template(path: Path, size: int, template: array[int]) -> int | None:
    data = path.read_bytes()
    if len(data) != size or size < BLOCK:
        return None
    serial = int.from_bytes(data[:8], "little")
    template[::2] = array("Q", [serial]) * (len(template) // 2)
    return serial if template.tobytes()[:size] == data else None


def _like_source(path: Path, size: int, source: Path) -> int | None:
    if path.stat().st_size != size:
        return None
    with path.open("rb", buffering=0) as file, source.open("rb", buffering=0) as expected:
        head = file.read(BLOCK)
        expected.seek(BLOCK)
        if head[8:] != bytes(8):
            return None
        left, mine, theirs = size - BLOCK, bytearray(MIB), bytearray(MIB)
        while left:
            length = min(left, MIB)
            if file.readinto(memoryview(mine)[:length]) != length:
                return None
            if (
                expected.readinto(memoryview(theirs)[:length]) != length
                or mine[:length] != theirs[:length]
            ):
                return None
            left -= length
    return int.from_bytes(head[:8], "little")
