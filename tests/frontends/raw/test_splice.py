"""
Which uploads are worth lending their socket for.
"""

from __future__ import annotations

import pytest

from twisted_upload.frontends.raw.splice import FROM, worth_it


class Transport:
    """What is asked of a transport."""

    bufferSize = 65536


@pytest.mark.parametrize(
    ("size", "last", "lent"),
    [
        (FROM, 65536, True),
        (FROM - 1, 65536, False),
        (10 * FROM, 32768, True),
        (10 * FROM, 32767, False),
        (10 * FROM, 0, False),
    ],
)
def test_worth_it(size: int, last: int, lent: bool) -> None:
    """A large upload of which a read brings half of what it could, or more, is lent."""
    assert worth_it(size, last, Transport()) is lent


def test_without_a_buffer() -> None:
    """What is no socket is not lent."""
    assert not worth_it(FROM, 1 << 30, object())
