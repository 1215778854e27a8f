"""
Timestamped names: pure functions of (moment, serial, suffix).

``1795328130123.jpg`` is the upload whose first byte came 1795328130.123 s after
the epoch; further ones of the same millisecond are ``1795328130123-1.jpg``,
``1795328130123-2.jpg`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import filetype  # type: ignore[import-untyped]

from twisted_upload.core.signatures import SignatureTable, signatures_of
from twisted_upload.core.text import is_suffix
from twisted_upload.core.text_kinds import text_suffix

__all__ = [
    "BEHIND",
    "HEAD",
    "SERIALS",
    "UNKNOWN_SUFFIX",
    "UniqueTimestamps",
    "file_name",
    "is_file_name",
    "suffix_of",
]

HEAD = 8192
"""Bytes of the beginning of a file that its kind is told from; as many as the
library looks at."""

UNKNOWN_SUFFIX = ".bin"
"""The suffix of a file whose first bytes do not tell what it is."""

SERIALS = 100
"""Names of one millisecond that one process may give; the next is of the next millisecond."""

BEHIND = 6000
"""Milliseconds by which the clock may be behind the names before that is told: more than
they are ahead of it after a crash (`twisted_upload.stores.directory.name_record.AHEAD`)."""

_FILE_NAME = re.compile(r"[0-9]{1,15}(-[1-9][0-9]{0,8})?(?P<suffix>\..*)?\Z")

_KINDS = SignatureTable(filetype.types, signatures_of(filetype.version))


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


def suffix_of(head: bytes) -> str:
    """
    The suffix that a file's first bytes call for.

    Whether it is text is seen first, for the library takes some texts for something else.

    :param head: the first `HEAD` bytes, or all of a shorter file.
    """
    if not head:
        return UNKNOWN_SUFFIX
    suffix = text_suffix(head, cut=len(head) >= HEAD)
    if suffix is not None:
        return suffix
    try:
        return _KINDS.suffix(head[:HEAD]) or UNKNOWN_SUFFIX
    except Exception:  # hostile bytes meet a parser that is not ours
        return UNKNOWN_SUFFIX


class UniqueTimestamps:
    """
    Gives each upload of one process a moment that no other one of it has.

    Moments never go back, even where the clock does, so that a name which a
    reader of the folder has already taken away is not given out again.

    :param floor: milliseconds since the epoch: all moments are after that.
    :param process: its number among those that share a folder: each has
        serials of its own.
    :param behind: told once each time that the clock has gone back: how far it
        is behind, and the moment that names stay at, both in milliseconds.
    :param told: it has been told already.
    :ivar latest: milliseconds of the last one; `floor` before the first.
    :ivar told: since the clock went back, that has been told.
    """

    def __init__(
        self,
        floor: int = 0,
        process: int = 0,
        behind: Callable[[int, int], object] = lambda *_: None,
        *,
        told: bool = False,
    ) -> None:
        self.latest = floor
        self._first = process * SERIALS
        self._serial = SERIALS - 1
        self._behind = behind
        self.told = told

    def tell(self, seconds: float) -> None:
        """Tell, if the clock is behind.  See `next`."""
        by = self.latest - int(seconds * 1000)
        if by > BEHIND and not self.told:
            self.told = True
            self._behind(by, self.latest)

    def next(self, seconds: float) -> tuple[int, int]:
        """
        :param seconds: since the epoch, now.
        :return: the milliseconds and the serial for `file_name`.
        """
        now = int(seconds * 1000)
        if now > self.latest:
            self.latest, self._serial, self.told = now, 0, False
        else:
            if now < self.latest:
                self.tell(seconds)
            self._serial += 1
            if self._serial >= SERIALS:
                self.latest += 1
                self._serial = 0
        return self.latest, self._first + self._serial
