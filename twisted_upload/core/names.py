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

Several machines that store into one object store do not know each other's serial numbers.
Each has a *node* name there, and each upload a random *token* instead of the serial number:
``1795328130123-one-9f3a6c01d2b47e88.jpg``, or ``1795328130123-one-9f3a6c01d2b47e88-photo.jpg``.
Such a name is unique by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import filetype  # type: ignore[import-untyped]

from twisted_upload.core.metadata import (
    LONGEST_ORIGINAL_NAME,
    is_original_name,
    name_with_suffix,
)
from twisted_upload.core.nodes import is_node
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
    "name_after",
    "new_token",
    "possible_nodes",
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
_WITH_NODE = re.compile(
    r"(?P<moment>[0-9]{1,15})-(?P<node>[a-z0-9-]{1,32})-(?P<token>[0-9a-f]{16})"
    r"(?:(?P<suffix>\..*)?|-(?P<original>[^ ]+))\Z"
)
_TOKEN = re.compile(r"-[0-9a-f]{16}(?=[-.]|\Z)")
_WITH_SERIAL = re.compile(r"(?P<moment>[0-9]+)(?:-(?P<serial>[0-9]+)(?=[-.]|\Z))?(?P<rest>.*)\Z")
_LONGEST = 255  # bytes of a name, in every common file system

_KINDS = SignatureTable(filetype.types, signatures_of(filetype.version))


def new_token(random: Callable[[int], bytes]) -> str:
    """
    Return the token of a new upload: 64 random bits, in hexadecimal.

    :param random: returns so many random bytes.
    """
    return random(8).hex()


def file_name(
    milliseconds: int,
    serial: int,
    suffix: str,
    original: str = "",
    *,
    node: str = "",
    token: str = "",
) -> str:
    """
    Return the name of an upload.

    :param milliseconds: since the epoch, when it arrived.
    :param serial: 0 for the first upload of that millisecond.  It is not a part of the name
        if there is a token.
    :param suffix: with its dot, or empty.
    :param original: the name of the file at its sender, to be a part of it
        (`twisted_upload.core.metadata`).  Spaces become underscores; if it has no suffix, it
        gets the given one.
    :param node: the name of this machine among others that store into one place.
    :param token: see `new_token`; there is one if, and only if, there is a node.
    """
    if node:
        stamp = f"{milliseconds}-{node}-{token}"
        return f"{stamp}-{_shown(original, suffix, len(stamp) + 1)}" if original else stamp + suffix
    if original:
        name = _shown(original, suffix)
        if serial or name[0] in _DIGITS:
            return f"{milliseconds}-{serial}-{name}"
        return f"{milliseconds}-{name}"
    return f"{milliseconds}-{serial}{suffix}" if serial else f"{milliseconds}{suffix}"


def _shown(original: str, suffix: str, before: int = 0) -> str:
    """Return an original name as a part of a name, with that many bytes before it."""
    longest = min(LONGEST_ORIGINAL_NAME, _LONGEST - before)
    return name_with_suffix(original, suffix, longest).replace(" ", "_")


def is_file_name(text: str) -> bool:
    """Return whether `file_name` can return this name."""
    match = _FILE_NAME.match(text)
    if match is not None and is_suffix(match["suffix"] or ""):
        return True
    for pattern in _WITH_ORIGINAL, _WITH_NODE:
        match = pattern.match(text)
        if match is not None and _is_valid(match.groupdict()):
            return True
    return False


def possible_nodes(name: str) -> list[str]:
    """
    Return the nodes that may have given an upload its name: one, unless the node or the
    original name looks like a token; none if the name has no node.
    """
    moment, _, rest = name.partition("-")
    if not moment.isdecimal() or not is_file_name(name):
        return []
    nodes = (rest[: it.start()] for it in _TOKEN.finditer(rest))
    return [node for node in nodes if is_node(node)]


def _is_valid(parts: dict[str, str | None]) -> bool:
    original, suffix = parts["original"], parts.get("suffix") or ""
    valid = is_suffix(suffix) if original is None else is_original_name(original)
    return valid and is_node(parts.get("node") or "x")


def name_after(name: str) -> str:
    """
    Return the name to try if the name of an upload is taken: with the next serial number, or
    the next token.

    :raises ValueError: `file_name` cannot have returned it.
    """
    match = _WITH_NODE.match(name)
    if match is not None:
        token = (int(match["token"], 16) + 1) % 2**64
        return f"{name[: match.start('token')]}{token:016x}{name[match.end('token') :]}"
    match = _WITH_SERIAL.match(name)
    if match is None:
        raise ValueError("not the name of an upload")
    moment, serial, rest = int(match["moment"]), int(match["serial"] or 0) + 1, match["rest"]
    if rest.startswith("-"):
        return file_name(moment, serial, "", rest[1:])
    return file_name(moment, serial, rest)


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
