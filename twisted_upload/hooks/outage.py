"""
Failures that concern all files, because what every file needs is away.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

__all__ = ["OUTAGE_PAUSES", "Outage"]

OUTAGE_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Approximate delays in seconds before each try; the last one repeats."""


class Outage:
    """
    Whether something is away that every file needs, and when it is tried again.

    While it is, one file at a time is tried, after growing pauses.

    :param clock: tells the time.
    :param chance: returns a random number from 0 to 1, so that machines that have seen the
        same outage do not all try at the same time.
    :ivar since: when it began; None if there is none.
    """

    def __init__(self, clock: IReactorTime, chance: Callable[[], float]) -> None:
        self.since: float | None = None
        self._clock = clock
        self._chance = chance
        self._tries = 0
        self._until = 0.0

    def failed(self) -> float:
        """
        Note a failure.

        :return: seconds until the next try.
        """
        now = self._clock.seconds()
        if self.since is None:
            self.since, self._tries = now, 0
        elif now < self._until:  # one that was running when it began
            return self._until - now
        self._tries += 1
        pause = self.pause(self._tries)
        self._until = now + pause
        return pause

    def pause(self, tries: int) -> float:
        """
        Return the seconds until the next try.

        :param tries: how many have failed.
        """
        pause = OUTAGE_PAUSES[min(tries, len(OUTAGE_PAUSES)) - 1]
        return pause * (0.75 + self._chance() / 2)

    def over(self) -> float | None:
        """
        Note that it works.

        :return: seconds for which it did not; None if it always did.
        """
        since, self.since = self.since, None
        return None if since is None else self._clock.seconds() - since

    def at_most(self, jobs: int) -> int:
        """Return how many files may be worked on now, if it would be this many without it."""
        if self.since is None:
            return jobs
        return int(self._clock.seconds() >= self._until)
