"""
Counts instead of log lines.

A rejected connection has no log line, and neither does an unsuccessful upload once
there have been too many of those: otherwise any client that can connect could fill the
disk with log lines.  They are counted, and summarised in one line a minute.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_upload.core.outcome import UploadObserver, UploadOutcome
from twisted_upload.net.networks import address_group, group_name

__all__ = ["RateLimitedLog", "RefusalCounter"]

SUMMARY_INTERVAL = 60.0
"""Minimum number of seconds between two summary lines."""

MOST_GROUPS = 1000
"""Maximum number of address groups that are counted separately between two summary lines."""

LINES_EACH, LINES = 30, 300
"""Log lines for unsuccessful uploads per minute: for one address, and in total."""


class RefusalCounter:
    """
    Counts what is not logged line by line.

    :param clock: tells when a minute is over.
    :ivar total: number of refusals since the start, by code.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.total: Counter[str] = Counter()
        self._clock = clock
        self._codes: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()
        self._since = 0.0
        self._timer: IDelayedCall | None = None

    def count(self, code: str, group: str | None) -> None:
        """
        Count one more refusal.

        :param code: one of `twisted_upload.core.answers.CODES`, or ``aborted``, or
            another word if no answer could be sent.
        :param group: the address group, as returned by `address_group`; `None` if there
            is none.
        """
        self.total[code] += 1
        self._codes[code] += 1
        if group is not None and (group in self._groups or len(self._groups) < MOST_GROUPS):
            self._groups[group] += 1
        if self._timer is None:
            self._since = self._clock.seconds()
            self._timer = self._clock.callLater(SUMMARY_INTERVAL, self.log_summary)

    def log_summary(self) -> None:
        """Log the summary, if there is anything to report: every minute, and at the end."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._codes:
            return
        codes, self._codes = self._codes, Counter()
        groups, self._groups = self._groups, Counter()
        seconds = max(1, round(self._clock.seconds() - self._since))
        _log.info(
            "not logged individually in {seconds} s: {codes}{who}",
            refused=sum(codes.values()),
            codes=", ".join(f"{number} {code}" for code, number in codes.most_common()),
            seconds=seconds,
            who=_who(groups),
        )


def _who(groups: Counter[str]) -> str:
    """Return the number of addresses, and the one that occurred most often."""
    if not groups:
        return ""
    ((most, times),) = groups.most_common(1)
    if len(groups) == 1:
        return f"; from one address, {group_name(most)}"
    more = " or more" if len(groups) == MOST_GROUPS else ""
    return f"; from {len(groups)} addresses{more}, mostly {group_name(most)} ({times})"


class RateLimitedLog:
    """
    An observer that logs every stored upload, and a limited number of unsuccessful ones
    per minute; the rest are counted.

    :param write: logs one upload.
    """

    def __init__(
        self, write: UploadObserver, refusals: RefusalCounter, clock: IReactorTime
    ) -> None:
        self._write = write
        self._refusals = refusals
        self._clock = clock
        self._since = float("-inf")
        self._written: Counter[str] = Counter()
        self._left = 0

    def __call__(self, ended: UploadOutcome) -> None:
        """See `UploadObserver`."""
        if ended.outcome == "stored":
            self._write(ended)
            return
        group = group_of_peer(ended.peer)
        if self._may_write(group):
            self._write(ended)
        else:
            self._refusals.count(ended.code or ended.outcome, group)

    def _may_write(self, group: str | None) -> bool:
        now = self._clock.seconds()
        if now - self._since >= SUMMARY_INTERVAL:
            self._since, self._left = now, LINES
            self._written.clear()
        who = group or ""
        if not self._left or self._written[who] >= LINES_EACH:
            return False
        self._left -= 1
        self._written[who] += 1
        return True


def group_of_peer(peer: str) -> str | None:
    """Return the address group of a peer's name; `None` if the name is not a network address."""
    host = peer[1:].partition("]")[0] if peer.startswith("[") else peer.rpartition(":")[0]
    try:
        return address_group(host) if host else None
    except (OSError, ValueError):
        return None


_log = Logger()
