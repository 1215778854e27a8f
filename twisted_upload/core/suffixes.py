"""
What the ends of names may be.
"""

from __future__ import annotations

import re

__all__ = ["is_suffix"]

_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+){1,4}\Z")
_LONGEST = 32


def is_suffix(text: str) -> bool:
    """Whether this can stand at the end of a name: ``.jpg``, ``.tar.gz``, or nothing."""
    return text == "" or (len(text) <= _LONGEST and _SUFFIX.match(text) is not None)
