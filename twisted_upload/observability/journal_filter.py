"""
Selecting records of a journal of uploads, and adding them up.
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
"""The beginning of the peer names of unix sockets."""


class Filter:
    """
    Selects the records that match all given conditions.  Gaps need to match only the
    time.

    :param since: the earliest time, as in records.
    :param until: the time before which records end, as in records.
    :param peers: conditions from `parse_peer`; one of them must match.
    :param values: for each field, the values of which one must match.
    :param patterns: for each field, the shell patterns of which one must match.
    """

    def __init__(
        self,
        since: str | None = None,
        until: str | None = None,
        peers: Sequence[Callable[[str], bool]] = (),
        values: Mapping[str, Collection[str]] | None = None,
        patterns: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._since = since or ""
        self._until = until or "~"  # after all digits
        self._peers = peers
        self._values = {name: wanted for name, wanted in (values or {}).items() if wanted}
        self._patterns = {name: wanted for name, wanted in (patterns or {}).items() if wanted}

    def wants(self, record: Record) -> bool:
        """Return whether a record is selected."""
        if not self._since <= record["time"] < self._until:
            return False
        if record["event"] == GAP:
            return True
        for field, wanted in self._values.items():
            if record.get(field) not in wanted:
                return False
        for field, patterns in self._patterns.items():
            value = record.get(field)
            if value is None or not any(fnmatchcase(value, pattern) for pattern in patterns):
                return False
        if not self._peers:
            return True
        peer = record.get("peer")
        return peer is not None and any(is_it(peer) for is_it in self._peers)


def parse_moment(text: str, now: float) -> str:
    """
    Parse a time into the form that records use.

    It can be ``2026-11-22``, ``2026-11-22T10:00``, ``2026-11-22T10:00:30+01:00``,
    ``today``, ``yesterday`` (their beginning), ``08:00`` (the most recent one), or
    ``1h`` (one hour ago).  Times are in UTC unless they have another offset.

    :param now: current time in seconds since the epoch.
    :raises ValueError: the text is invalid; the message names the valid forms.
    """
    try:
        moment = _moment(text.strip(), datetime.fromtimestamp(now, UTC))
        utc = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time such as 2026-11-22, 2026-11-22T10:00, today, yesterday,"
            " 08:00 (all in UTC), or 1h (ago)"
        ) from None
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _moment(text: str, now: datetime) -> datetime:
    """:raises ValueError: the text is not a time."""
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
    Return a function that tells whether a peer matches.

    The text can be ``192.0.2.7``, ``192.0.2.0/24``, ``2001:db8::/32``,
    ``192.0.2.7:50123``, or ``unix`` for all peers at unix sockets.

    :raises ValueError: the text is invalid; the message names the valid forms.
    """
    try:
        network = ip_network(text.strip("[]"), strict=False)
    except ValueError:
        if text == UNIX:
            return lambda peer: peer.partition(" ")[0] == UNIX
        if not _WITH_PORT.fullmatch(text):
            raise ValueError(
                f"{text!r} is not a peer such as 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or unix"
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

    :ivar uploads: number of uploads by outcome.
    :ivar stored: bytes stored.
    :ivar missing: number of lines that the journal records as missing.
    """

    def __init__(self) -> None:
        self.uploads = {"stored": 0, "refused": 0, "aborted": 0}
        self.stored = 0
        self.missing = 0

    def add(self, record: Record) -> None:
        """Add a record."""
        event = record["event"]
        if event in self.uploads:
            self.uploads[event] += 1
        if event == "stored":
            self.stored += record.get("size", 0)
        elif event == GAP:
            self.missing += record.get("lines", 0)
