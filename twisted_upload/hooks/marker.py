"""
The *marker* of a stored file or object: a record on disk that remains until its
program has succeeded, or it has been forwarded.

`twisted_upload.hooks.spool` reads and writes markers, and describes when they are on
disk and why.  A marker is a line of JSON.  Each time it is set aside, a line is added:
the number of attempts, the last failure, and the program's last output.

**A marker may have been put there by another user or program.**  Each field must
have the type, and be within the bounds, of what we write: no field can be longer, and
no name can be a path.
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

from twisted_upload.core.metadata import is_content_type, is_folder, is_label, is_original_name
from twisted_upload.core.names import is_file_name
from twisted_upload.interfaces import NO_METADATA, Metadata

__all__ = ["LARGEST_MARKER", "Marker", "json_line"]

LARGEST_MARKER = 64 * 1024
"""Bytes of a marker that are read; its first line has at most 8 KiB, and usually less than one."""

_LARGEST_NUMBER = 2**64 - 1
_LATEST = 2.0**40  # seconds since the epoch
_LONGEST_PEER = 512
_LONGEST_URL = 2048
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_PARTIAL = re.compile(r"[0-9a-f]{32}\Z")
_LISTENER = re.compile(r"[a-z0-9-]{0,16384}\Z")


@dataclass(slots=True, eq=False)
class Marker:
    """
    A file for which a program is to be started.

    :ivar identity: unique id; stays the same wherever the marker is moved.
    :ivar listener: name of the listener that received the upload.
    :ivar peer: the sender, in readable form.
    :ivar arrived: when the first byte was received, in seconds since the epoch.
    :ivar name: name of the file; until it is published, the intended name.
    :ivar name_is_certain: whether the file was published under that name.
    :ivar size: size of the file in bytes.
    :ivar sha256: SHA-256 in hexadecimal, if it was computed during the upload.
    :ivar inode: inode number of the file.
    :ivar modified: modification time of the file, in nanoseconds since the epoch.
    :ivar marker_inode: inode number of the marker when it was written.
    :ivar inodes_last: whether the marker still has that number; if so, the inode
        numbers of files are stable too.
    :ivar metadata: what the sender said about the file.
    :ivar url: where its object is, ``s3://BUCKET/KEY``; empty if it is a file.
    :ivar partial: the key of the resumable upload that the file was; empty if it was none.
    :ivar descriptor: descriptor of the marker while it is open: until its file is
        published.
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
    metadata: Metadata = NO_METADATA
    url: str = ""
    partial: str = ""
    descriptor: int | None = None

    def stored_as(self, name: str) -> None:
        """Note that the upload was stored, under that name."""
        self.name, self.name_is_certain = name, True

    def is_object(self, url: str, name: str, size: int, sha256: str) -> None:
        """
        Note that the upload was stored as an object.

        :param url: ``s3://BUCKET/KEY``; its last part is the name.
        """
        self.url, self.size, self.sha256 = url, size, sha256
        self.stored_as(name)

    @property
    def opened(self) -> int:
        """Its descriptor; it must be open."""
        assert self.descriptor is not None
        return self.descriptor

    def line(self) -> bytes:
        """Return the line to write to disk."""
        more = {"url": self.url, "partial": self.partial, **self.metadata._asdict()}
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
            **{key: value for key, value in more.items() if value},
        )

    def understand(self, text: bytes, marker_inode: int) -> bool:
        """
        Take the values from the text of a marker.

        :param text: the marker, or its first `LARGEST_MARKER` bytes.
        :param marker_inode: the marker's current inode number.
        :return: whether the marker was written completely; if not, its upload got no
            further than that.
        :raises ValueError: it is not a marker; the text says why.
        """
        first, newline, more = text.partition(b"\n")
        if not newline:
            if len(text) == LARGEST_MARKER:
                raise ValueError("its first line is incomplete")
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
        self.metadata = Metadata(
            fields.optional_text("original_name", is_original_name),
            fields.optional_text("content_type", is_content_type),
            fields.optional_text("label", is_label),
            fields.optional_text("folder", is_folder),
        )
        self.partial = fields.optional_text("partial", _PARTIAL.match)
        self.url = fields.optional_text("url", self._is_url)
        if self.url and self.sha256 is None:
            raise ValueError("it has no sha256")
        self.name_is_certain = bool(self.url)  # it was written after its object
        for line in more.splitlines():
            with contextlib.suppress(ValueError):  # cut off, by a crash or here
                self.stored_as(_Fields(line).text("name", is_file_name))
        return True

    def _is_url(self, text: str) -> bool:
        right = len(text) <= _LONGEST_URL and text.isprintable()
        return right and text.startswith("s3://") and text.endswith(f"/{self.name}")

    def is_of(self, status: os.stat_result, owner: int) -> bool:
        """
        Return whether this is the file that was stored, not another one under its name.

        The file is recognized by its inode number.  Some file systems assign new numbers
        at each mount (the marker's number then changes too), or when a file has left
        their cache.  There, the file is recognized by its size, modification time and
        owner.

        :param owner: uid of the files that we create.
        """
        if not stat.S_ISREG(status.st_mode):
            return False
        if self.inodes_last and status.st_ino == self.inode:
            return True
        alike = (status.st_size, status.st_mtime_ns) == (self.size, self.modified)
        return alike and status.st_uid == owner


def json_line(**fields: Any) -> bytes:
    """Return a line of a marker."""
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"


def _is_peer(text: str) -> bool:
    return len(text) <= _LONGEST_PEER and text.isprintable()


class _Fields:
    """
    The fields of a line.

    :raises ValueError: it is not a valid line; the text says why.
    """

    def __init__(self, line: bytes) -> None:
        try:
            self._fields: dict[str, Any] = dict(**json.loads(line, parse_constant=_no_number))
        except (ValueError, TypeError, RecursionError):
            raise ValueError("it does not hold the expected JSON") from None

    def __getitem__(self, key: str) -> Any:
        try:
            return self._fields[key]
        except KeyError:
            raise ValueError(f"it has no {key}") from None

    def text(self, key: str, is_right: Callable[[str], object]) -> str:
        """Return a string, if it is valid."""
        value = self[key]
        if not isinstance(value, str) or not is_right(value):
            raise ValueError(f"its {key} is invalid")
        return value

    def optional_text(self, key: str, is_right: Callable[[str], object]) -> str:
        """Return a string, if it is valid; empty if there is none."""
        return self.text(key, is_right) if key in self._fields else ""

    def number(self, key: str) -> int:
        """Return a non-negative integer."""
        value = self[key]
        if type(value) is not int or not 0 <= value <= _LARGEST_NUMBER:
            raise ValueError(f"its {key} is invalid")
        return value

    def seconds(self, key: str) -> float:
        """Return a time in seconds since the epoch."""
        value = self[key]
        if type(value) not in (int, float) or not 0 <= value < _LATEST:
            raise ValueError(f"its {key} is invalid")
        return float(value)


def _no_number(_: str) -> NoReturn:
    raise ValueError("it is not a number")
