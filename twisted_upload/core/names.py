"""
Timestamped names, made of (moment, serial, suffix), and of the original name if that is
wanted and known.

``1795328130123.jpg`` is the upload whose first byte arrived 1795328130.123 s after
the epoch.  Further uploads of the same millisecond are ``1795328130123-1.jpg``,
``1795328130123-2.jpg`` and so on.

With ``--names time-original``, the same are ``1795328130123-photo.jpg`` and
``1795328130123-1-photo.jpg``.  If the original name begins with a digit, there is always
a serial number, as in ``1795328130123-0-2026.jpg``.  Names of different moments and
serial numbers are therefore different, whatever the original names are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import filetype  # type: ignore[import-untyped]

from twisted_upload.core.metadata import is_original_name, name_with_suffix
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
"""Bytes at the beginning of a file that determine its kind; as many as the library reads."""

UNKNOWN_SUFFIX = ".bin"
"""The suffix of a file whose first bytes do not determine its kind."""

SERIALS = 100
"""Names that one process may give in one millisecond; further names use the next one."""

BEHIND = 6000
"""
Milliseconds that the clock may be behind the names before that is reported: more
than they are ahead of it after a crash
(`twisted_upload.stores.directory.name_record.AHEAD`).
"""

_FILE_NAME = re.compile(r"[0-9]{1,15}(-[1-9][0-9]{0,8})?(?P<suffix>\..*)?\Z")
_WITH_ORIGINAL = re.compile(
    r"[0-9]{1,15}-(?:[1-9][0-9]{0,8}-(?=[^0-9])|(?:0|[1-9][0-9]{0,8})-(?=[0-9])|(?=[^0-9]))"
    r"(?P<original>[^ ]+)\Z"
)
_DIGITS = frozenset("0123456789")

_KINDS = SignatureTable(filetype.types, signatures_of(filetype.version))


def file_name(milliseconds: int, serial: int, suffix: str, original: str = "") -> str:
    """
    Return the name of an upload.

    :param milliseconds: since the epoch, when it arrived.
    :param serial: 0 for the first upload of that millisecond.
    :param suffix: with its dot, or empty.
    :param original: the name of the file at its sender, to be a part of it
        (`twisted_upload.core.metadata`).  Spaces become underscores; if it has no suffix, it
        gets the given one.
    """
    if original:
        return _name_with_original(milliseconds, serial, suffix, original)
    return f"{milliseconds}-{serial}{suffix}" if serial else f"{milliseconds}{suffix}"


def _name_with_original(milliseconds: int, serial: int, suffix: str, original: str) -> str:
    name = name_with_suffix(original, suffix).replace(" ", "_")
    if serial or name[0] in _DIGITS:
        return f"{milliseconds}-{serial}-{name}"
    return f"{milliseconds}-{name}"


def is_file_name(text: str) -> bool:
    """Return whether `file_name` can return this name."""
    match = _FILE_NAME.match(text)
    if match is not None and is_suffix(match["suffix"] or ""):
        return True
    match = _WITH_ORIGINAL.match(text)
    return match is not None and is_original_name(match["original"])


def suffix_of(head: bytes) -> str:
    """
    Return the suffix for a file with these first bytes.

    Text is detected first, because the library takes some texts for something else.

    :param head: the first `HEAD` bytes, or all of a shorter file.
    """
    if not head:
        return UNKNOWN_SUFFIX
    suffix = text_suffix(head, cut=len(head) >= HEAD)
    if suffix is not None:
        return suffix
    try:
        return _KINDS.suffix(head[:HEAD]) or UNKNOWN_SUFFIX
    except Exception:  # a third-party parser reads hostile bytes
        return UNKNOWN_SUFFIX


class UniqueTimestamps:
    """
    Gives each upload of a process a timestamp that no other upload of it has.

    Timestamps never go back, even if the clock does.  A name that a reader of the
    directory has already taken away is therefore not given again.

    :param floor: milliseconds since the epoch: all timestamps are later.
    :param process: number of this process among those that share a directory: each has
        its own serials.
    :param behind: called once each time that the clock goes back, with how far it is
        behind and the timestamp that names stay at, both in milliseconds.
    :param told: whether that has been reported already.
    :ivar latest: milliseconds of the last timestamp; `floor` before the first.
    :ivar told: whether it has been reported that the clock went back.
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
        """Report it if the clock is behind.  See `next`."""
        by = self.latest - int(seconds * 1000)
        if by > BEHIND and not self.told:
            self.told = True
            self._behind(by, self.latest)

    def next(self, seconds: float) -> tuple[int, int]:
        """
        Give the next timestamp.

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
