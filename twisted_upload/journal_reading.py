"""
Reading a journal of uploads: which of its lines are wanted, and what they come
to.  One line after the other, however many there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import IO, Any

from twisted_upload.journal_files import open_journal
from twisted_upload.records import GAP
from twisted_upload.units import parse_duration

__all__ = ["Filter", "Reader", "Record", "Sums", "parse_moment", "parse_peer"]

UNIX = "unix"
"""With what the peers at unix sockets begin."""

LONGEST_LINE = 64 * 1024
"""Bytes; what is longer is no record."""

Record = dict[str, Any]


class Reader:
    """
    Reads a journal from its beginning on.

    :param path: of the file that is appended to.
    :ivar unreadable: lines so far that are no records.
    """

    def __init__(self, path: str) -> None:
        self.unreadable = 0
        self._path = path
        self._seen: tuple[int, int] | None = None  # inode and offset

    def records(self) -> Iterator[Record]:
        """
        All that have been appended since the last time: in the older files
        first.  A line that has no end yet is read the next time.

        :raises OSError: a file cannot be read, or there is none.
        """
        with open_journal(self._path) as files:
            for file in self._unread(files):
                yield from self._records_in(file)
            last = files[-1]
            self._seen = os.fstat(last.fileno()).st_ino, last.tell()

    def _unread(self, files: Sequence[IO[bytes]]) -> Sequence[IO[bytes]]:
        """Those of the files that may have more, the first at the place where it begins."""
        if self._seen is None:
            return files
        inode, offset = self._seen
        for index, file in enumerate(files):
            stat = os.fstat(file.fileno())
            if stat.st_ino == inode:
                if offset <= stat.st_size:  # otherwise it was truncated, and begins anew
                    file.seek(offset)
                return files[index:]
        return files[-1:]  # the others were read before they were compressed or removed

    def _records_in(self, file: IO[bytes]) -> Iterator[Record]:
        begin = file.tell()
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                file.seek(begin)
                return
            begin += len(line)
            record = _record(line)
            if record is not None:
                yield record
            else:
                self.unreadable += 1


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if not isinstance(record.get("time"), str) or not isinstance(record.get("event"), str):
        return None
    known = all(record.get(name) is None or is_it(record[name]) for name, is_it in _KINDS)
    return record if known else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1 << 63


_KINDS = (
    *((name, _is_text) for name in ("listener", "peer", "name", "code")),
    *((name, _is_amount) for name in ("size", "seconds", "lines")),
)


class Filter:
    """
    Tells which records are wanted: those to which all that is given applies, and
    of the gaps all of that time.

    :param since: the first moment, as in records.
    :param until: the first moment that is too late.
    :param peers: one of them, see `parse_peer`.
    :param values: one of the values of each field.
    """

    def __init__(
        self,
        since: str | None = None,
        until: str | None = None,
        peers: Sequence[Callable[[str], bool]] = (),
        values: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._since = since or ""
        self._until = until or "~"  # after all digits
        self._peers = peers
        self._values = {name: wanted for name, wanted in (values or {}).items() if wanted}

    def wants(self, record: Record) -> bool:
        """Whether it is wanted."""
        if not self._since <= record["time"] < self._until:
            return False
        if record["event"] == GAP:
            return True
        for name, wanted in self._values.items():
            if record.get(name) not in wanted:
                return False
        if not self._peers:
            return True
        peer = record.get("peer")
        return peer is not None and any(is_it(peer) for is_it in self._peers)


def parse_moment(text: str, now: float) -> str:
    """
    A moment as it is in records, from ``2026-11-22``, ``2026-11-22T10:00``,
    ``2026-11-22T10:00:30+01:00``, or ``1h``, which is an hour ago.

    :param now: seconds since the epoch.
    :raises ValueError: with a text that says what is understood.
    """
    moment = None
    # A number alone is neither.
    with contextlib.suppress(ValueError):
        if not text.isdigit():
            moment = datetime.fromtimestamp(now - parse_duration(text), UTC)
    with contextlib.suppress(ValueError, OverflowError):
        if moment is None:
            given = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip()))
            utc = given.replace(tzinfo=given.tzinfo or UTC)
            moment = utc.astimezone(UTC)
    if moment is None:
        raise ValueError(
            f"{text!r} is no moment such as 2026-11-22, 2026-11-22T10:00 (UTC), or 1h (ago)"
        )
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_peer(text: str) -> Callable[[str], bool]:
    """
    What tells whether a peer is the one that is meant by ``192.0.2.7``,
    ``192.0.2.0/24``, ``2001:db8::/32``, ``192.0.2.7:50123`` or ``unix``, which is
    everybody at a unix socket.

    :raises ValueError: with a text that says what is understood.
    """
    try:
        network = ip_network(text.strip("[]"), strict=False)
    except ValueError:
        if text == UNIX:
            return lambda peer: peer.partition(" ")[0] == UNIX
        if not _WITH_PORT.fullmatch(text):
            raise ValueError(
                f"{text!r} is no peer such as 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or unix"
            ) from None
        return text.__eq__

    @lru_cache(4096)
    def is_in(host: str) -> bool:
        try:
            return ip_address(host) in network
        except ValueError:
            return False

    return lambda peer: is_in(peer.rpartition(":")[0].strip("[]"))


_WITH_PORT = re.compile(r"(?:[0-9.]+|\[[0-9a-fA-F:.]+\]):\d+")


class Sums:
    """
    Adds up records.

    :ivar uploads: how many, by how they ended.
    :ivar kept: bytes.
    :ivar missing: lines that are not in the journal, and that it knows of.
    """

    def __init__(self) -> None:
        self.uploads = {"kept": 0, "refused": 0, "lost": 0}
        self.kept = 0
        self.missing = 0

    def add(self, record: Record) -> None:
        """One more."""
        event = record["event"]
        if event in self.uploads:
            self.uploads[event] += 1
        if event == "kept":
            self.kept += record.get("size", 0)
        elif event == GAP:
            self.missing += record.get("lines", 0)
