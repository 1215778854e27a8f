"""
Counts the TLS records in the data from a socket.

A record's length is not encrypted, but in TLS 1.3 its type is: whether it contained
data is only known after decryption.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MOST_AT_ONCE", "RECORD", "RecordCount"]

RECORD = 16 * 1024
"""Maximum number of bytes of data in one record (RFC 8446, section 5.1)."""

MOST_AT_ONCE = 64
"""Maximum number of records that are decrypted at once."""

_HEADER = 5


class RecordCount:
    """
    Counts records as they begin.

    :ivar begun: number of records so far, including one that has not arrived
        completely.
    """

    __slots__ = ("_header", "_rest", "begun")

    def __init__(self) -> None:
        self.begun = 0
        self._header = b""  # the part of one that has arrived
        self._rest = 0  # bytes of the last record that are still to come

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """
        Yield the data in pieces in which at most `MOST_AT_ONCE` records begin; they are
        counted when the piece is yielded.
        """
        known, self._header = len(self._header), self._header + data if self._header else data
        data, self._header = self._header, b""
        start, position, end = known, self._rest, len(data)
        while True:
            begun = 0
            while position + _HEADER <= end and begun < MOST_AT_ONCE:
                begun += 1
                position += _HEADER + (data[position + 3] << 8 | data[position + 4])
            self.begun += begun
            if begun < MOST_AT_ONCE or position >= end:
                break
            yield data[start:position]
            start = position
        if position < end:
            self._header, self._rest = data[position:], 0
        else:
            self._rest = position - end
        yield data[start:] if start else data
