"""
How long, and how slow: the bounds on one connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["IdleTimeouts", "MinimumRate", "PeriodicCheck", "StoreTimeout"]

Who = TypeVar("Who", bound=Hashable)

AT_ONCE = 50
"""Senders at the most that are told in one turn of the reactor: thousands whose
time is over at the same moment must not make all others wait."""

LATE = 1.0
"""Seconds by which a timer is late when the process has stood still: it was
stopped, or its machine was.  The reactor calls timers before it reads sockets, so
what was said meanwhile has not been heard yet."""

PART = 4
"""One in so many parts of a short time, by which a timer is late too."""


def _nothing(who: object) -> bool:
    return False


class IdleTimeouts(Generic[Who]):
    """
    Notices who has been silent for too long.

    All senders of a front end share one timer: they stand in a row, the longest
    silent first, and whoever says something goes to its end.  Of many whose time
    is over, `AT_ONCE` are told of in a turn of the reactor.

    A process that stood still judges nobody: when the timer comes late, all have
    their time again.  And whoever has said something that waits to be read is not
    silent; but only once, until it is heard.

    :param clock: tells the time and calls later.
    :param seconds: of silence that are too long; 0 for never.
    :param too_long: called with whoever has been silent for so long, once.
    :param unread: whether something of somebody waits to be read.
    """

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        too_long: Callable[[Who], None],
        *,
        unread: Callable[[Who], bool] = _nothing,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._too_long = too_long
        self._unread = unread
        self._heard: OrderedDict[Who, float] = OrderedDict()
        self._spared: dict[Who, float] = {}  # when, and not heard since if they are equal
        self._since = float("-inf")  # nobody has been silent for longer
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._late = min(LATE, seconds / PART)

    def __len__(self) -> int:
        return len(self._heard)

    def longest_idle(self) -> Who:
        """
        Who has been silent longest.

        :raises StopIteration: there is nobody.
        """
        return next(iter(self._heard))

    def restart(self, who: Who) -> None:
        """Somebody has said something, or begins to be listened to."""
        if self._seconds > 0:
            self._heard[who] = self._clock.seconds()
            self._heard.move_to_end(who)
            if self._timer is None:
                self._set(self._seconds)

    def cancel(self, who: Who) -> None:
        """Somebody's silence means nothing any more; harmless if it never did."""
        self._heard.pop(who, None)
        if self._spared:
            self._spared.pop(who, None)
        if not self._heard and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stood_still(self) -> None:
        """We have not listened for a while: all have their time again, from now on."""
        self._since = self._clock.seconds()

    def _set(self, seconds: float) -> None:
        self._due = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if now - self._due > self._late:
            self.stood_still()
        told = 0
        while self._heard:
            who, heard = next(iter(self._heard.items()))
            left = max(0.0, max(heard, self._since) + self._seconds - now)
            if left or told == AT_ONCE:
                if self._timer is not None:  # set by somebody who came meanwhile
                    self._timer.cancel()
                self._set(left)
                return
            told += 1
            del self._heard[who]
            if self._spared.pop(who, None) != heard and self._unread(who):
                self._spared[who] = self._heard[who] = now
                continue
            try:
                self._too_long(who)
            except Exception:  # it must not keep the others from being told of
                _log.failure("internal error: handling an idle timeout failed")


class MinimumRate:
    """
    The time that one sender has, when it has to send so many bytes a second.

    It begins with a grace.  Each byte buys time, and waiting for the next ones
    spends it; there is never more of it than the grace, so that it is the last
    minute that counts, and not what came hours ago.  What a sender has to wait for
    us costs nothing.

    :param now: when its upload began, in seconds.
    :param grace: seconds that it has, without any bytes, at the most.
    """

    __slots__ = ("_grace", "_left", "_paused", "_seen", "_since")

    def __init__(self, now: float, grace: float) -> None:
        self._grace = self._left = grace
        self._since = now  # the last look
        self._seen = 0  # bytes that had come then
        self._paused: float | None = None

    def pause(self, now: float) -> None:
        """From now on it waits for us; harmless when it already does."""
        if self._paused is None:
            self._paused = now

    def resume(self, now: float) -> None:
        """From now on we wait for it; harmless when we already do."""
        if self._paused is not None:
            self._since += now - self._paused
            self._paused = None

    def stood_still(self, now: float) -> None:
        """We have not listened for a while: the time since the last look costs nothing."""
        self._since = now
        if self._paused is not None:
            self._paused = now

    def is_too_slow(
        self, now: float, size: int, rate: float, unread: Callable[[], int] = lambda: 0
    ) -> bool:
        """
        Take a look: whether its time is up.

        :param size: bytes that have come.
        :param rate: bytes a second that are to come at the least.
        :param unread: bytes that wait to be read: they have come as well.
        """
        if self._paused is not None:
            return False
        self._left -= now - self._since
        self._since = now
        self._buy(size, rate)
        if self._left < 0:
            self._buy(size + unread(), rate)
        return self._left < 0

    def _buy(self, size: int, rate: float) -> None:
        if size > self._seen:
            self._left = min(self._grace, self._left + (size - self._seen) / rate)
            self._seen = size


class StoreTimeout:
    """
    How long an upload has waited for a store that does nothing.

    :param seconds: that are too long.
    """

    __slots__ = ("_seconds", "_since", "_size")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._size = 0

    def is_too_long(self, now: float, size: int) -> bool:
        """
        Take a look: it waits; whether it has for too long.

        :param size: bytes of it; where they are more than at the last look, it has
            gone on meanwhile.
        """
        if self._since is None or size != self._size:
            self._since, self._size = now, size
        return now - self._since > self._seconds


class PeriodicCheck:
    """
    Has a look taken every few seconds, from when it is asked to begin, for as
    long as that finds anybody.

    :param clock: tells the time and calls later.
    :param seconds: between two looks.
    :param look: is given the time, and whether it comes so late that we have stood
        still; returns in how many seconds the next look is due, or `None` where
        there is nobody left.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, look: Callable[[float, bool], float | None]
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._look = look
        self._timer: IDelayedCall | None = None
        self._due = 0.0

    def begin(self) -> None:
        """There is somebody; harmless when that was known."""
        if self._timer is None:
            self._set(self._seconds)

    def stop(self) -> None:
        """Look no more, until it is asked to begin again."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _set(self, seconds: float) -> None:
        self._due = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._go)

    def _go(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        seconds: float | None = self._seconds
        try:
            seconds = self._look(now, now - self._due > LATE)
        except Exception:  # there must be another one
            _log.failure("internal error: checking the rates of all senders failed")
        if seconds is not None and self._timer is None:
            self._set(seconds)


_log = Logger()
