"""
What is written down of a kept file, until a program has been started for it and
has succeeded: its *marker*.

When it is on disk, and what for, is in `twisted_upload.hooks.spool`, which reads and
writes it.  A marker is a line of JSON; one that was set aside has one line more for
each time, which tells how often it was tried, why it failed last, and what it said.

**Whatever is read here was perhaps put there by somebody else.**  Each thing that it
says must be of the kind, and within the bounds, of what we write: nothing in it can be
longer than that, nor a path.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from twisted_upload.core.names import is_file_name

__all__ = ["LARGEST_MARKER", "Marker", "json_line"]

LARGEST_MARKER = 64 * 1024
"""Bytes of a marker that are read; its first line is one KiB at the most."""

_LARGEST_NUMBER = 2**64 - 1
_LATEST = 2.0**40  # seconds since the epoch
_LONGEST_PEER = 512
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_LISTENER = re.compile(r"[a-z0-9-]{0,16384}\Z")


@dataclass(slots=True, eq=False)
class Marker:
    """
    One file for which a program is to be started.

    :ivar identity: the same wherever the marker goes.
    :ivar listener: of the daemon, that the upload came through.
    :ivar peer: the sender, for people.
    :ivar arrived: when its first byte came: seconds since the epoch.
    :ivar name: of the file; until it is published, the one that is meant.
    :ivar name_is_certain: it was published under that name.
    :ivar size: bytes.
    :ivar sha256: in hexadecimal, where it was computed while it came.
    :ivar inode: number of the file.
    :ivar modified: when the file was: nanoseconds since the epoch.
    :ivar marker_inode: number of the marker, when it was written.
    :ivar inodes_last: it still has that number, so that those of files last, too.
    :ivar descriptor: of the marker while it is open: until its file is published.
    """

    identity: str
    listener: str = ""
    peer: str = ""
    arrived: float = 0.0
    name: str = ""
    name_is_certain: bool = False
    size: int = 0
    sha256: str | None = None
    inode: int = 0
    modified: int = 0
    marker_inode: int = 0
    inodes_last: bool = True
    descriptor: int | None = None

    def kept(self, name: str) -> None:
        """Its upload is kept, under that name."""
        self.name, self.name_is_certain = name, True

    def line(self) -> bytes:
        """What is written down."""
        return json_line(
            name=self.name,
            size=self.size,
            sha256=self.sha256,
            peer=self.peer,
            listener=self.listener,
            arrived=self.arrived,
            inode=self.inode,
            modified=self.modified,
            marker=self.marker_inode,
        )

    def understand(self, text: bytes, marker_inode: int) -> bool:
        """
        Say what was written down.

        :param text: the marker, or its first `LARGEST_MARKER` bytes.
        :param marker_inode: that it has now.
        :return: whether all of it was written; if not, its upload has not got further.
        :raises ValueError: it is not a marker; the text says why.
        """
        first, newline, more = text.partition(b"\n")
        if not newline:
            if len(text) == LARGEST_MARKER:
                raise ValueError("its first line has no end")
            return False
        fields = _Fields(first)
        self.name = fields.text("name", is_file_name)
        self.listener = fields.text("listener", _LISTENER.match)
        self.peer = fields.text("peer", _is_peer)
        self.size = fields.number("size")
        digest = fields["sha256"]
        self.sha256 = fields.text("sha256", _DIGEST.match) if digest is not None else None
        self.arrived = fields.seconds("arrived")
        self.inode, self.modified = fields.number("inode"), fields.number("modified")
        self.marker_inode = fields.number("marker")
        self.inodes_last = marker_inode == self.marker_inode
        self.name_is_certain = False
        for line in more.splitlines():
            with contextlib.suppress(ValueError):  # cut off, by a crash or here
                self.kept(_Fields(line).text("name", is_file_name))
        return True

    def is_of(self, status: os.stat_result, owner: int) -> bool:
        """
        Whether this is the file that was kept, and not one that has its name now.

        It is known by its inode number.  Some file systems give out others each
        time they are mounted, and then the marker has another one, too, or when
        they have forgotten a file: there it is known by its size and its time,
        if it is ours.

        :param owner: uid of what we make.
        """
        if not stat.S_ISREG(status.st_mode):
            return False
        if self.inodes_last and status.st_ino == self.inode:
            return True
        alike = (status.st_size, status.st_mtime_ns) == (self.size, self.modified)
        return alike and status.st_uid == owner


def json_line(**fields: Any) -> bytes:
    """A line of a marker."""
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"


def _is_peer(text: str) -> bool:
    return len(text) <= _LONGEST_PEER and text.isprintable()


class _Fields:
    """
    What a line says, if it is one of ours.

    :raises ValueError: it is not; the text says why.
    """

    def __init__(self, line: bytes) -> None:
        try:
            self._fields: dict[str, Any] = dict(**json.loads(line, parse_constant=_no_number))
        except (ValueError, TypeError, RecursionError):
            raise ValueError("it is not JSON as we write it") from None

    def __getitem__(self, key: str) -> Any:
        try:
            return self._fields[key]
        except KeyError:
            raise ValueError(f"it has no {key}") from None

    def text(self, key: str, is_right: Callable[[str], object]) -> str:
        """A text, if it is one that we write."""
        value = self[key]
        if not isinstance(value, str) or not is_right(value):
            raise ValueError(f"its {key} is none of ours")
        return value

    def number(self, key: str) -> int:
        """A whole number that is not negative."""
        value = self[key]
        if type(value) is not int or not 0 <= value <= _LARGEST_NUMBER:
            raise ValueError(f"its {key} is none of ours")
        return value

    def seconds(self, key: str) -> float:
        """A moment: seconds since the epoch."""
        value = self[key]
        if type(value) not in (int, float) or not 0 <= value < _LATEST:
            raise ValueError(f"its {key} is none of ours")
        return float(value)


def _no_number(_: str) -> NoReturn:
    raise ValueError("it is no number")
