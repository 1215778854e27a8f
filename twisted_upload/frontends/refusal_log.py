"""
What is counted instead of being written down line by line.

Turning a sender away costs a line of the log nothing of its own, and neither
does an upload that ends badly when there are too many of those: whoever can
connect could fill the disk with the log.  They are counted, and told in one
line a minute.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_upload.core.outcome import UploadObserver, UploadOutcome
from twisted_upload.net.networks import address_group, group_name

__all__ = ["RateLimitedLog", "RefusalCounter"]

SUMMARY_INTERVAL = 60.0
"""Seconds between two lines, at the least."""

MOST_GROUPS = 1000
"""Groups of addresses that are counted one by one between two lines."""

LINES_EACH, LINES = 30, 300
"""Lines for uploads that ended badly, in a minute: for one address, and for all."""


class RefusalCounter:
    """
    Counts whom nobody else writes down.

    :param clock: tells when a minute is over.
    :ivar total: of each code since the start.
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
        One more.

        :param code: one of `twisted_upload.core.answers.CODES`, or ``lost``, or another
            word where there could be no answer.
        :param group: of addresses, as `address_group` tells; `None` where there
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
        """Write the line, if there is anything to tell: every minute, and at the end."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._codes:
            return
        codes, self._codes = self._codes, Counter()
        groups, self._groups = self._groups, Counter()
        seconds = self._clock.seconds() - self._since
        _log.info(
            "not logged individually in {seconds:.0f} s: {codes}{who}",
            refused=sum(codes.values()),
            codes=", ".join(f"{number} {code}" for code, number in codes.most_common()),
            seconds=seconds,
            who=_who(groups),
        )


def _who(groups: Counter[str]) -> str:
    """From how many addresses they were, and which of them was there most often."""
    if not groups:
        return ""
    ((most, times),) = groups.most_common(1)
    if len(groups) == 1:
        return f"; from one address, {group_name(most)}"
    more = " or more" if len(groups) == MOST_GROUPS else ""
    return f"; from {len(groups)} addresses{more}, mostly {group_name(most)} ({times})"


class RateLimitedLog:
    """
    An observer that has every kept upload written down, and of those that ended
    badly so many a minute; the others are counted.

    :param write: writes one down.
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
    """The address group of a peer's name; `None` where it is not one of a network."""
    host = peer[1:].partition("]")[0] if peer.startswith("[") else peer.rpartition(":")[0]
    try:
        return address_group(host) if host else None
    except (OSError, ValueError):
        return None


_log = Logger()
