"""
Which records of a journal of uploads are wanted, and what they come to.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address, ip_network

from twisted_upload.core.text import parse_duration
from twisted_upload.observability.journal_reader import Record
from twisted_upload.observability.records import GAP

__all__ = ["Filter", "Totals", "parse_moment", "parse_peer"]

UNIX = "unix"
"""With what the peers at unix sockets begin."""


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
    :ivar stored: bytes.
    :ivar missing: lines that are not in the journal, and that it knows of.
    """

    def __init__(self) -> None:
        self.uploads = {"stored": 0, "refused": 0, "aborted": 0}
        self.stored = 0
        self.missing = 0

    def add(self, record: Record) -> None:
        """One more."""
        event = record["event"]
        if event in self.uploads:
            self.uploads[event] += 1
        if event == "stored":
            self.stored += record.get("size", 0)
        elif event == GAP:
            self.missing += record.get("lines", 0)
