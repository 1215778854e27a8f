"""
Reading a journal of uploads: which of its lines are wanted, and what they come
to.  One line after the other, however many there are.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import IO, Any

from twisted_upload.core.text import parse_duration
from twisted_upload.observability.journal_opening import open_journal
from twisted_upload.observability.records import GAP

__all__ = ["Filter", "Reader", "Record", "Totals", "parse_moment", "parse_peer"]

UNIX = "unix"
"""With what the peers at unix sockets begin."""

LONGEST_LINE = 64 * 1024
"""Bytes; what is longer is no record."""

Record = dict[str, Any]


class Reader:
    """
    Reads a journal from its beginning on.  What cannot be read is left out, and
    counted.

    :param path: of the file that is appended to.
    :ivar unreadable: lines so far that are no records.
    :ivar not_read: the older files that could not be read, or not to their end,
        each with the reason.
    """

    def __init__(self, path: str) -> None:
        self.unreadable = 0
        self.not_read: dict[str, str] = {}
        self._path = path
        self._seen: tuple[int, int] | None = None  # inode and offset

    def records(self) -> Iterator[Record]:
        """
        All that have been appended since the last time: in the older files
        first.  A line that has no end yet is read the next time.

        :raises OSError: the file of that very name cannot be read, or there is
            none at all.
        """
        with open_journal(self._path, self.not_read.__setitem__) as files:
            if not files:
                return
            last = files[-1]
            for file in self._unread(files):
                yield from self._records_in(file, last=file is last)
            with contextlib.suppress(*_CANNOT_READ):
                self._seen = os.fstat(last.fileno()).st_ino, last.tell()

    def _unread(self, files: Sequence[IO[bytes]]) -> Sequence[IO[bytes]]:
        """Those of the files that may have more, the first at the place where it begins."""
        if self._seen is None:
            return files
        inode, offset = self._seen
        for index, file in enumerate(files):
            stat = os.fstat(file.fileno())
            if stat.st_ino == inode:
                if isinstance(file, gzip.GzipFile):  # nobody appends to one
                    return files[index + 1 :]
                if offset <= stat.st_size:  # otherwise it was truncated, and begins anew
                    file.seek(offset)
                return files[index:]
        return files[-1:]  # the others were read before they were compressed or removed

    def _records_in(self, file: IO[bytes], *, last: bool) -> Iterator[Record]:
        """
        The records of one file.

        :param last: it is still appended to: a line without an end waits for it.
        """
        lines = self._lines(file, last=last)
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except _CANNOT_READ as error:
                why = getattr(error, "strerror", None) or "it is cut, or no gzip file"
                self.not_read[file.name] = why
                return
            record = _record(line)
            if record is not None:
                yield record
            else:
                self.unreadable += 1

    def _lines(self, file: IO[bytes], *, last: bool) -> Iterator[bytes]:
        """The lines; of one that is too long, a part."""
        begin = file.tell()
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE:
                    rest = line
                    while rest and not rest.endswith(b"\n"):
                        rest = file.readline(LONGEST_LINE)
                elif last:
                    file.seek(begin)
                    return
            yield line
            begin = file.tell()


_CANNOT_READ = (OSError, EOFError, zlib.error)


def _record(line: bytes) -> Record | None:
    try:
        record = _decode(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not _MOMENT.fullmatch(str(record.get("time"))):
        return None
    if not isinstance(record.get("event"), str):
        return None
    for name, value in record.items():
        if not _KINDS.get(name, _is_simple)(value):
            return None
    return record


def _number(text: str) -> float:
    """
    A number with a fraction or an exponent.

    :raises ValueError: JSON could not tell it again.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_decode = json.JSONDecoder(parse_float=_number, parse_constant=_number).decode

_MOMENT = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?Z"
)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1 << 63


def _is_simple(value: Any) -> bool:
    return not isinstance(value, list | dict)


_KINDS = {
    **dict.fromkeys(("listener", "peer", "name", "code"), _is_text),
    **dict.fromkeys(("size", "seconds", "lines"), _is_amount),
}


class Filter:
    """
    Tells which records are wanted: those to which all that is given applies, and
    of the gaps all of that time.

    :param since: the first moment, as in records.
    :param until: the first moment that is too late.
    :param peers: one of them, see `parse_peer`.
    :param values: one of the values of each field.
    :param names: patterns, as shells have them, of which the name of the kept file
        fits one.
    """

    def __init__(
        self,
        since: str | None = None,
        until: str | None = None,
        peers: Sequence[Callable[[str], bool]] = (),
        values: Mapping[str, Collection[str]] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self._since = since or ""
        self._until = until or "~"  # after all digits
        self._peers = peers
        self._values = {name: wanted for name, wanted in (values or {}).items() if wanted}
        self._names = names

    def wants(self, record: Record) -> bool:
        """Whether it is wanted."""
        if not self._since <= record["time"] < self._until:
            return False
        if record["event"] == GAP:
            return True
        for field, wanted in self._values.items():
            if record.get(field) not in wanted:
                return False
        if self._names:
            name = record.get("name")
            if name is None or not any(fnmatchcase(name, pattern) for pattern in self._names):
                return False
        if not self._peers:
            return True
        peer = record.get("peer")
        return peer is not None and any(is_it(peer) for is_it in self._peers)


def parse_moment(text: str, now: float) -> str:
    """
    A moment as it is in records, from ``2026-11-22``, ``2026-11-22T10:00``,
    ``2026-11-22T10:00:30+01:00``, ``today``, ``yesterday`` (when they began),
    ``08:00`` (the last time that it was), or ``1h``, which is an hour ago.  In UTC,
    unless it says otherwise.

    :param now: seconds since the epoch.
    :raises ValueError: with a text that says what is understood.
    """
    try:
        moment = _moment(text.strip(), datetime.fromtimestamp(now, UTC))
        utc = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment such as 2026-11-22, 2026-11-22T10:00, today, yesterday,"
            " 08:00 (all in UTC), or 1h (ago)"
        ) from None
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _moment(text: str, now: datetime) -> datetime:
    """:raises ValueError: it is none."""
    if text in _DAYS:
        return datetime.combine(now.date() - timedelta(_DAYS[text]), time())
    if _TIME_OF_DAY.fullmatch(text):
        then = datetime.combine(now.date(), time.fromisoformat(text), UTC)
        return then if then <= now else then - timedelta(1)
    if text.isdigit():  # neither a year nor seconds ago
        raise ValueError
    with contextlib.suppress(ValueError):
        return now - timedelta(seconds=parse_duration(text))
    return datetime.fromisoformat(text)


_DAYS = {"today": 0, "yesterday": 1}
_TIME_OF_DAY = re.compile("[0-9]{2}:[0-9]{2}(?::[0-9]{2})?")


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


class Totals:
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
