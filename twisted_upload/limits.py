"""
How long, and how slow: the bounds on one connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Pace", "Rounds", "Silences"]

Who = TypeVar("Who", bound=Hashable)

AT_ONCE = 50
"""Senders at the most that are told in one turn of the reactor: thousands whose
time is over at the same moment must not make all others wait."""


class Silences(Generic[Who]):
    """
    Notices who has been silent for too long.

    All senders of a door share one timer: they stand in a row, the longest
    silent first, and whoever says something goes to its end.  Of many whose time
    is over, `AT_ONCE` are told of in a turn of the reactor.

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

    def longest(self) -> Who:
        """
        Who has been silent longest.

        :raises StopIteration: there is nobody.
        """
        return next(iter(self._heard))

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
        told = 0
        while self._heard:
            who, heard = next(iter(self._heard.items()))
            left = max(0.0, heard + self._seconds - now)
            if left or told == AT_ONCE:
                self._timer = self._clock.callLater(left, self._look)
                return
            del self._heard[who]
            self._too_long(who)
            told += 1


class Pace:
    """
    The time that one sender has, when it has to send so many bytes a second.

    Each byte buys it time, and so does what it has to wait for us.

    :param now: when its upload began, in seconds.
    """

    __slots__ = ("_began", "_paused")

    def __init__(self, now: float) -> None:
        self._began = now
        self._paused: float | None = None

    def pause(self, now: float) -> None:
        """From now on it waits for us; harmless when it already does."""
        if self._paused is None:
            self._paused = now

    def resume(self, now: float) -> None:
        """From now on we wait for it; harmless when we already do."""
        if self._paused is not None:
            self._began += now - self._paused
            self._paused = None

    def is_too_slow(self, now: float, size: int, rate: float, grace: float) -> bool:
        """
        Whether its time is up.

        :param size: bytes that have come.
        :param rate: bytes a second that are to come at the least.
        :param grace: seconds that it has beside those which its bytes bought.
        """
        return self._paused is None and now > self._began + grace + size / rate


class Rounds:
    """
    Has a look taken every few seconds, from when it is asked to begin, for as
    long as that finds anybody.

    :param clock: tells the time and calls later.
    :param seconds: between two looks.
    :param look: is given the time, and returns in how many seconds the next
        look is due; `None` where there is nobody left.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, look: Callable[[float], float | None]
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._look = look
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        """There is somebody; harmless when that was known."""
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._go)

    def stop(self) -> None:
        """Look no more, until it is asked to begin again."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _go(self) -> None:
        self._timer = None
        seconds = self._look(self._clock.seconds())
        if seconds is not None and self._timer is None:
            self._timer = self._clock.callLater(seconds, self._go)
