"""
Wrong tokens, counted by address group: after a few, the next ones are answered with 429.

Only a wrong token is answered so.  A right one is never delayed, whatever others at the
same address or elsewhere have sent: 256 random bits are not found by trying, and so
there is nothing to gain from locking an address out.  What is limited is the work and the
noise that a client with an old token, or a curious one, makes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["WrongTokens"]

FREE = 5
"""Wrong tokens that a group may send at once."""

EACH = 30.0
"""Seconds after which it may send one more."""

MOST_GROUPS = 1000
"""Groups that are counted at a time; beyond that, the one idle for longest is forgotten."""


class WrongTokens:
    """
    Counts the wrong tokens of each address group.

    :param now: returns the time in seconds, from a monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # The time at which a group has no wrong token left that counts; the one that was
        # counted last is at the end.
        self._clear_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of groups that are counted."""
        return len(self._clear_at)

    def count(self, group: str | None) -> int:
        """
        Count a wrong token.

        :param group: the address group; `None` for all that have none.
        :return: seconds after which to try again; 0 if there have not been too many.
        """
        key, now = group or "", self._now()
        clear_at = max(self._clear_at.pop(key, now), now)
        excess = clear_at + EACH - now - FREE * EACH
        if excess <= 0:
            clear_at += EACH  # one that is answered with 429 does not count
        self._clear_at[key] = clear_at
        while len(self._clear_at) > MOST_GROUPS or self._is_clear(now):
            self._clear_at.popitem(last=False)
        return max(0, math.ceil(excess))

    def _is_clear(self, now: float) -> bool:
        """Return whether the first group need not be counted any more."""
        first = next(iter(self._clear_at.values()), math.inf)
        return first <= now
