"""
How long, and how much: the bounds on one connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Silences"]

Who = TypeVar("Who", bound=Hashable)


class Silences(Generic[Who]):
    """
    Notices who has been silent for too long.

    All senders of a door share one timer: they stand in a row, the longest
    silent first, and whoever says something goes to its end.

    :param clock: tells the time and calls later.
    :param seconds: of silence that are too long; 0 for never.
    :param too_long: called with whoever has been silent for so long, once.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, too_long: Callable[[Who], None]
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._too_long = too_long
        self._heard: OrderedDict[Who, float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._heard)

    def heard(self, who: Who) -> None:
        """Somebody has said something, or begins to be listened to."""
        if self._seconds > 0:
            self._heard[who] = self._clock.seconds()
            self._heard.move_to_end(who)
            if self._timer is None:
                self._timer = self._clock.callLater(self._seconds, self._look)

    def ignore(self, who: Who) -> None:
        """Somebody's silence means nothing any more; harmless if it never did."""
        self._heard.pop(who, None)
        if not self._heard and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._heard:
            who, heard = next(iter(self._heard.items()))
            left = heard + self._seconds - now
            if left > 0:
                self._timer = self._clock.callLater(left, self._look)
                return
            del self._heard[who]
            self._too_long(who)
