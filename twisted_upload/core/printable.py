"""
Text that does nothing to a terminal, nor to a log.
"""

from __future__ import annotations

__all__ = ["in_short", "printable"]

LONGEST = 1000
"""Characters of a line that somebody is to read."""


def printable(text: str) -> str:
    """
    The same text, harmless and in one line.

    Control characters, those that change the direction of writing, bytes that
    are no UTF-8, and whatever else cannot be seen become escapes.
    """
    return "".join(
        character
        if character.isprintable()
        else f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"  # a byte: PEP 383
        else character.encode("unicode_escape", "replace").decode()
        for character in text
    )


def in_short(text: str) -> str:
    """The same text without its middle, where it is too long for a line."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2 - 3
    return f"{text[:half]} ... {text[-half:]}"
