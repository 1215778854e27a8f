"""
Text for people and from them: sizes, durations and reserves of space as people
write them, suffixes of names, and text that is harmless in a terminal and in a log.

Sizes are powers of 1024, as in ``ls -h`` and ``dd``: ``512K``, ``4G``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = [
    "Reserve",
    "counted",
    "format_duration",
    "format_size",
    "is_suffix",
    "parse_duration",
    "parse_size",
    "printable",
    "shortened",
]

LONGEST_LINE = 1000
"""Maximum number of characters of a line for people."""

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGTP])i?)?B?\Z", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?\Z", re.IGNORECASE | re.ASCII)
_PREFIXES = "KMGTP"
_LARGEST = 2**63 - 1  # size of a file
_DIGITS = len(str(_LARGEST))
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+){1,4}\Z")
_LONGEST_SUFFIX = 32
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """
    Parse a size in bytes: ``4096``, ``512K``, ``1.5M``, ``4G`` or ``4GiB``.

    :raises ValueError: it is not a size, or larger than any file; the message says
        which.
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 4096, 512K or 4G")
    number: str = match[1]
    power: int = _PREFIXES.index(match[2].upper()) + 1 if match[2] else 0
    factor = 1 << (10 * power)
    whole, _, fraction = number.partition(".")
    whole = whole.lstrip("0") or "0"
    # No file can be larger, and Python rejects numbers with thousands of digits.
    size = _LARGEST + 1
    if len(whole) <= _DIGITS:
        size = int(whole) * factor + round(float(f"0.{fraction}") * factor)
    if size > _LARGEST:
        raise ValueError(f"{text!r} is larger than any file: 8 EiB")
    return size


def parse_duration(text: str) -> float:
    """
    Parse a duration in seconds: ``30``, ``30s``, ``500ms``, ``5m``, ``2h`` or ``1d``.

    :raises ValueError: it is not a duration, or too long; the message says which.
    """
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 30s, 500ms or 5m")
    number, unit = match.groups()
    seconds = float(number) * _SECONDS[(unit or "s").lower()]
    if not math.isfinite(seconds) or seconds > 10 * 365 * 86400:
        raise ValueError(f"{text!r} is longer than ten years")
    return seconds


def format_size(size: float) -> str:
    """Format a size: ``1536`` bytes as ``1.5 KiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    for prefix in _PREFIXES:
        size /= 1024
        if size < 1023.95 or prefix == _PREFIXES[-1]:
            break
    return f"{size:.1f} {prefix}iB"


def format_duration(seconds: float) -> str:
    """Format a duration: ``90`` seconds as ``1.5 min``, ``0.0123`` as ``12 ms``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends in -s: ``1 upload``, ``2 uploads``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True)
class Reserve:
    """
    Space that uploads leave free: a number of bytes or a percentage of the file system,
    whichever is more.
    """

    size: int = 0
    percent: float = 0.0

    def of(self, total: int) -> float:
        """
        Return the bytes to leave free on a file system of ``total`` bytes; 0 if it has no
        count.
        """
        if not total:
            return 0.0
        return max(float(self.size), total * self.percent / 100)


def is_suffix(text: str) -> bool:
    """Return whether this can end a name: ``.jpg``, ``.tar.gz``, or nothing."""
    return text == "" or (len(text) <= _LONGEST_SUFFIX and _SUFFIX.match(text) is not None)


def printable(text: str) -> str:
    """
    Return the text in one line, made harmless.

    Control characters, characters that change the direction of writing, bytes that are
    not UTF-8, and anything else that is invisible become escapes.
    """
    return "".join(
        character
        if character.isprintable()
        else f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"  # a byte: PEP 383
        else character.encode("unicode_escape", "replace").decode()
        for character in text
    )


def shortened(text: str) -> str:
    """Return the text without its middle if it is too long for a line."""
    if len(text) <= LONGEST_LINE:
        return text
    half = LONGEST_LINE // 2 - 3
    return f"{text[:half]} ... {text[-half:]}"
