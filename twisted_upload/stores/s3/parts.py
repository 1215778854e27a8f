"""
The sizes of the parts of a multipart upload.

Object stores take 10,000 parts of at least 5 MiB, but for the last.  Small parts take
little memory, and the largest object, 5 TiB, needs large ones: so they grow.
"""

from __future__ import annotations

from twisted_upload.stores.s3.bucket import SMALLEST_PART

__all__ = ["LARGEST_OBJECT", "part_size"]

LARGEST_OBJECT = 5 * 1024**4
"""Bytes of the largest object, 5 TiB."""

_FOR_KNOWN = 9000  # parts: fewer than there may be, because sizes are rounded
_MIB = 1024 * 1024
_STEPS = ((1000, 5), (2000, 16), (4000, 128))  # up to which part, and MiB of each
_FURTHER = 1024 * _MIB


def part_size(number: int, known_size: int | None = None) -> int:
    """
    Return the size of a part in bytes.

    :param number: which part, from 1.
    :param known_size: bytes of the whole object, if they are known: all parts but the last
        have one size then, as some object stores want it.
    """
    if known_size is not None:
        wanted = -(-known_size // _FOR_KNOWN)
        return max(SMALLEST_PART, -(-wanted // _MIB) * _MIB)
    for last, size in _STEPS:
        if number <= last:
            return size * _MIB
    return _FURTHER
