"""
Counting the records of TLS in what comes from a socket.

A record says in clear how long it is, and in TLS 1.3 not what it is: whether
data was in it only shows when it has been decrypted.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MOST_AT_ONCE", "RECORD", "RecordCount"]

RECORD = 16 * 1024
"""The most bytes of data that are in one record (RFC 8446, section 5.1)."""

MOST_AT_ONCE = 64
"""Records that are decrypted in one go."""

_HEADER = 5


class RecordCount:
    """
    Counts records as they begin.

    :ivar begun: how many there were, the one that has not come whole yet too.
    """

    __slots__ = ("_header", "_rest", "begun")

    def __init__(self) -> None:
        self.begun = 0
        self._header = b""  # the part of one that has come
        self._rest = 0  # bytes that are still to come of the last record

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """
        What has come, in pieces in each of which no more than `MOST_AT_ONCE`
        records begin; they are counted when the piece is given.
        """
        known, self._header = len(self._header), self._header + data if self._header else data
        data, self._header = self._header, b""
        start, place, end = known, self._rest, len(data)
        while True:
            begun = 0
            while place + _HEADER <= end and begun < MOST_AT_ONCE:
                begun += 1
                place += _HEADER + (data[place + 3] << 8 | data[place + 4])
            self.begun += begun
            if begun < MOST_AT_ONCE or place >= end:
                break
            yield data[start:place]
            start = place
        if place < end:
            self._header, self._rest = data[place:], 0
        else:
            self._rest = place - end
        yield data[start:] if start else data
