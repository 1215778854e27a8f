"""
Uploads of any size whose content can be verified block by block, so that neither the
sender nor the comparison has a whole upload in memory.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

__all__ = ["SMALLEST", "Contents"]

_MAGIC = b"TS"
_HEADER = struct.Struct(">2sIIQ")  # magic, number of the upload, of the block, bytes of all

SMALLEST = _HEADER.size
"""Size in bytes of the smallest upload that contains its number."""

BLOCK = 1 << 16
_POOL = 1 << 20


class Contents:
    """The content of each upload, derived from its number and its size."""

    def __init__(self) -> None:
        self._pool = random.Random(1).randbytes(_POOL + BLOCK)

    def blocks(self, number: int, size: int) -> Iterator[bytes]:
        """Yield the blocks of an upload, in order."""
        for index in range(-(-size // BLOCK)):
            length = min(BLOCK, size - index * BLOCK)
            begin = (number * 7919 + index * 104_729) % _POOL
            header = _HEADER.pack(_MAGIC, number, index, size)
            yield (header + self._pool[begin : begin + length - len(header)])[:length]

    def number(self, path: str) -> tuple[int, int]:
        """
        Return the number of the upload that a file contains, and its size.

        :raises ValueError: it is not a whole upload.
        """
        with open(path, "rb", buffering=0) as file:
            block = file.read(BLOCK)
            if len(block) < SMALLEST:
                raise ValueError(f"a file of {len(block)} bytes that nobody has sent")
            magic, number, _, size = _HEADER.unpack_from(block)
            if magic != _MAGIC:
                raise ValueError(f"a file that begins with {block[:16]!r}")
            for expected in self.blocks(number, size):
                if block != expected:
                    raise ValueError(f"upload {number} of {size} bytes, but not its own")
                block = file.read(BLOCK)
            if block:
                raise ValueError(f"upload {number} is longer than {size} bytes")
        return number, size
