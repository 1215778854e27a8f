"""
Which uploads are worth splicing.
"""

from __future__ import annotations

import pytest

from twisted_upload.frontends.splice import FROM, worth_it


class Transport:
    """The part of a transport that is asked."""

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
    """A socket is lent if the upload is large and a read brings at least half of what it could."""
    assert worth_it(size, last, Transport()) is lent


def test_without_a_buffer() -> None:
    """A transport without a socket buffer is not lent."""
    assert not worth_it(FROM, 1 << 30, object())
