"""
What happened in a world, for people.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Trace"]

MOST = 400_000
"""Lines that are kept: the last ones."""


class Trace:
    """
    Who did what, in virtual time.

    :param recording: whether anything is kept; a run that nobody will read is faster
        without.
    """

    __slots__ = ("_lines", "recording")

    def __init__(self, *, recording: bool = False) -> None:
        self.recording = recording
        self._lines: list[tuple[float, str, str, tuple[object, ...]]] = []

    def add(self, now: float, who: str, what: str, *about: object) -> None:
        """Keep a line, if it is recording."""
        if self.recording:
            self._lines.append((now, who, what, about))
            if len(self._lines) > 2 * MOST:
                del self._lines[:MOST]

    def lines(self) -> Iterator[str]:
        """Return the lines as text."""
        for now, who, what, about in self._lines:
            yield f"{now:12.6f}  {who:<14} {what} {' '.join(map(_short, about))}".rstrip()


def _short(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        start = bytes(value[:24])
        return f"{start!r}" + (f"... ({len(value)} bytes)" if len(value) > len(start) else "")
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
