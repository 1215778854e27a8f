"""
Timestamped names: pure functions of (moment, serial, suffix).

``1795328130123.jpg`` is the upload whose first byte came 1795328130.123 s after
the epoch; further ones of the same millisecond are ``1795328130123-1.jpg``,
``1795328130123-2.jpg`` and so on.
"""

from __future__ import annotations

import re

import filetype  # type: ignore[import-untyped]

from twisted_upload.text_kinds import text_suffix

__all__ = [
    "HEAD",
    "UNKNOWN_SUFFIX",
    "Moments",
    "file_name",
    "is_file_name",
    "is_suffix",
    "told_suffix",
]

HEAD = 8192
"""Bytes of the beginning of a file that its kind is told from; as many as the
library looks at."""

UNKNOWN_SUFFIX = ".bin"
"""The suffix of a file whose first bytes do not tell what it is."""

_FILE_NAME = re.compile(r"[0-9]{1,15}(-[1-9][0-9]{0,8})?(?P<suffix>\..*)?\Z")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+){1,4}\Z")
_LONGEST_SUFFIX = 32


def file_name(milliseconds: int, serial: int, suffix: str) -> str:
    """
    The name of an upload.

    :param milliseconds: since the epoch, when it arrived.
    :param serial: 0 for the first of that millisecond.
    :param suffix: with its dot, or empty.
    """
    return f"{milliseconds}-{serial}{suffix}" if serial else f"{milliseconds}{suffix}"


def is_file_name(text: str) -> bool:
    """Whether `file_name` gives such names."""
    match = _FILE_NAME.match(text)
    return match is not None and is_suffix(match["suffix"] or "")


def is_suffix(text: str) -> bool:
    """Whether this can stand at the end of a name: ``.jpg``, ``.tar.gz``, or nothing."""
    return text == "" or (len(text) <= _LONGEST_SUFFIX and _SUFFIX.match(text) is not None)


def told_suffix(head: bytes) -> str:
    """
    The suffix that a file's first bytes call for.

    Whether it is text is seen first: that costs a third of what the library
    costs, which takes some texts for something else.

    :param head: the first `HEAD` bytes, or all of a shorter file.
    """
    suffix = text_suffix(head, cut=len(head) >= HEAD)
    if suffix is not None:
        return suffix
    try:
        extension = filetype.guess_extension(head)
    except Exception:  # hostile bytes meet a parser that is not ours
        return UNKNOWN_SUFFIX
    return f".{extension}" if extension else UNKNOWN_SUFFIX


class Moments:
    """
    Gives each upload of one process a moment that no other one of it has.

    Moments never go back, even where the clock does, so that a name which a
    reader of the folder has already taken away is not given out again.
    """

    def __init__(self) -> None:
        self._milliseconds = 0
        self._serial = 0

    def next(self, seconds: float) -> tuple[int, int]:
        """
        :param seconds: since the epoch, now.
        :return: the milliseconds and the serial for `file_name`.
        """
        now = int(seconds * 1000)
        if now > self._milliseconds:
            self._milliseconds, self._serial = now, 0
        else:
            self._serial += 1
        return self._milliseconds, self._serial
