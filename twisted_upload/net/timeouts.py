"""
Timeouts and minimum rates: the bounds on one connection.
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
"""Maximum number of senders that are timed out in one turn of the reactor: thousands
that time out at the same moment must not delay all others."""

LATE = 1.0
"""Seconds by which a timer is late if the process was stalled: it was stopped, or its
machine was.  The reactor calls timers before it reads sockets, so data that arrived in
the meantime has not been read yet."""

PART = 4
"""For a short timeout, the timer counts as late after the timeout divided by this."""


def _nothing(who: object) -> bool:
    return False


class IdleTimeouts(Generic[Who]):
    """
    Detects senders that have been idle for too long.

    All senders of a front end share one timer: they are in a queue, the longest idle
    first, and a sender that sends something goes to its end.  If many time out
    together, `AT_ONCE` of them are reported in a turn of the reactor.

    A process that was stalled times out no sender: if the timer is late, the timeout
    starts again for all of them.  A sender with unread data is not idle either; but
    only once, until that data is read.

    :param clock: tells the time and calls later.
    :param seconds: after which an idle sender times out; 0 for never.
    :param too_long: called once with each sender that has been idle for so long.
    :param unread: returns whether anything of a sender is waiting to be read.
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
        self._last_active: OrderedDict[Who, float] = OrderedDict()
        self._spared: dict[Who, float] = {}  # when; nothing sent since if _last_active has it too
        self._since = float("-inf")  # no idle time starts before this
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._late = min(LATE, seconds / PART)

    def __len__(self) -> int:
        return len(self._last_active)

    def longest_idle(self) -> Who:
        """
        Return the sender that has been idle longest.

        :raises StopIteration: there is none.
        """
        return next(iter(self._last_active))

    def restart(self, who: Who) -> None:
        """Start the timeout of a sender, or start it again."""
        if self._seconds > 0:
            self._last_active[who] = self._clock.seconds()
            self._last_active.move_to_end(who)
            if self._timer is None:
                self._set(self._seconds)

    def cancel(self, who: Who) -> None:
        """Cancel the timeout of a sender; harmless if it has none."""
        self._last_active.pop(who, None)
        if self._spared:
            self._spared.pop(who, None)
        if not self._last_active and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stood_still(self) -> None:
        """Start all timeouts again: this process was stalled."""
        self._since = self._clock.seconds()

    def _set(self, seconds: float) -> None:
        self._due = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if now - self._due > self._late:
            self.stood_still()
        reported = 0
        while self._last_active:
            who, last_active = next(iter(self._last_active.items()))
            left = max(0.0, max(last_active, self._since) + self._seconds - now)
            if left or reported == AT_ONCE:
                if self._timer is not None:  # set by a sender that started meanwhile
                    self._timer.cancel()
                self._set(left)
                return
            reported += 1
            del self._last_active[who]
            if self._spared.pop(who, None) != last_active and self._unread(who):
                self._spared[who] = self._last_active[who] = now
                continue
            try:
                self._too_long(who)
            except Exception:  # the others must still be reported
                _log.failure("internal error: handling an idle timeout failed")


class MinimumRate:
    """
    The time that one sender has left if it has to send a minimum number of bytes per
    second.

    It starts with a grace period.  Each byte earns time, and waiting for the next ones
    spends it.  There is never more of it than the grace period, so that the last minute
    counts, and not what arrived hours ago.  Time that a sender waits for us costs
    nothing.

    :param now: when its upload began, in seconds.
    :param grace: seconds that it has at most without any bytes.
    """

    __slots__ = ("_grace", "_left", "_paused", "_seen", "_since")

    def __init__(self, now: float, grace: float) -> None:
        self._grace = self._left = grace
        self._since = now  # the last check
        self._seen = 0  # bytes that had arrived then
        self._paused: float | None = None

    def pause(self, now: float) -> None:
        """Stop the count: the sender waits for us; harmless if it is stopped."""
        if self._paused is None:
            self._paused = now

    def resume(self, now: float) -> None:
        """Go on counting: we wait for the sender; harmless if that is so already."""
        if self._paused is not None:
            self._since += now - self._paused
            self._paused = None

    def stood_still(self, now: float) -> None:
        """Ignore the time since the last check: this process was stalled."""
        self._since = now
        if self._paused is not None:
            self._paused = now

    def is_too_slow(
        self, now: float, size: int, rate: float, unread: Callable[[], int] = lambda: 0
    ) -> bool:
        """
        Check the sender, and return whether its time is up.

        :param size: bytes that have arrived.
        :param rate: minimum number of bytes per second.
        :param unread: returns how many bytes are waiting to be read: they have arrived
            as well.
        """
        if self._paused is not None:
            return False
        self._left -= now - self._since
        self._since = now
        self._earn(size, rate)
        if self._left < 0:
            self._earn(size + unread(), rate)
        return self._left < 0

    def _earn(self, size: int, rate: float) -> None:
        if size > self._seen:
            self._left = min(self._grace, self._left + (size - self._seen) / rate)
            self._seen = size


class StoreTimeout:
    """
    How long an upload has waited for a store that makes no progress.

    :param seconds: maximum time that it may wait.
    """

    __slots__ = ("_seconds", "_since", "_size")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._size = 0

    def is_too_long(self, now: float, size: int) -> bool:
        """
        Check an upload that waits, and return whether it has waited for too long.

        :param size: bytes that have arrived; if they are more than at the last check,
            it has made progress.
        """
        if self._since is None or size != self._size:
            self._since, self._size = now, size
        return now - self._since > self._seconds


class PeriodicCheck:
    """
    Runs a check every few seconds, from `begin` on, for as long as there is anything to
    check.

    :param clock: tells the time and calls later.
    :param seconds: between two checks.
    :param look: is given the time, and whether it is so late that the process was
        stalled; returns the seconds until the next check, or `None` if there is nothing
        left to check.
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
        """Start the checks; harmless if they have been started."""
        if self._timer is None:
            self._set(self._seconds)

    def stop(self) -> None:
        """Stop the checks, until `begin` is called again."""
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
        except Exception:  # there must be a next check
            _log.failure("internal error: checking the rates of all senders failed")
        if seconds is not None and self._timer is None:
            self._set(seconds)


_log = Logger()
