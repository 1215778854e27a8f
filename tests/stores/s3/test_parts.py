"""
The sizes of parts: the largest object fits, and small ones take little memory.
"""

from __future__ import annotations

import itertools

import pytest

from twisted_upload.stores.s3.bucket import MOST_PARTS, SMALLEST_PART
from twisted_upload.stores.s3.parts import LARGEST_OBJECT, part_size

MIB, GIB = 1024**2, 1024**3


def test_unknown_size() -> None:
    """The parts of an upload of unknown size hold 5 TiB; none is too small, or over 5 GiB."""
    sizes = [part_size(number) for number in range(1, MOST_PARTS + 1)]
    assert sum(sizes) >= LARGEST_OBJECT
    assert sizes == sorted(sizes)
    assert sizes[0] == SMALLEST_PART
    assert sizes[-1] <= 5 * GIB


def test_small_parts_first() -> None:
    """Uploads of up to 4 GiB take parts of 5 MiB, and those of up to 20 GiB of 16 MiB."""
    sizes = [part_size(number) for number in range(1, MOST_PARTS + 1)]
    sums = [*itertools.accumulate(sizes)]
    assert max(size for size, total in zip(sizes, sums, strict=True) if total <= 4 * GIB) == 5 * MIB
    assert (
        max(size for size, total in zip(sizes, sums, strict=True) if total <= 20 * GIB) <= 16 * MIB
    )


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, SMALLEST_PART, SMALLEST_PART * MOST_PARTS, SMALLEST_PART * MOST_PARTS + 1),
        *(10**9, 45 * 10**9, 10**12, LARGEST_OBJECT - 1, LARGEST_OBJECT),
    ],
)
def test_known_size(size: int) -> None:
    """The parts of an upload of known size have one size, and there are few enough."""
    part = part_size(1, size)
    assert part == part_size(MOST_PARTS, size)
    assert SMALLEST_PART <= part <= 5 * GIB
    assert -(-size // part) <= MOST_PARTS
    assert part == SMALLEST_PART or part <= size / 9000 + MIB


def test_known_size_of_files() -> None:
    """Files of up to 40 GiB are stored in parts of 5 MiB."""
    assert part_size(1, 40 * GIB) == 5 * MIB
