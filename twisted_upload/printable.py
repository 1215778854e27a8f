"""
Text that does nothing to a terminal, nor to a log.
"""

from __future__ import annotations

__all__ = ["printable"]


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
