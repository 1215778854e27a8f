"""
How long, and how much: the bounds on one connection.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Silence"]


class Silence:
    """
    Notices when a sender has been silent for too long.

    Time during which *we* have stopped listening (a slow disk) does not count:
    see `stop_counting`.

    Hearing the sender costs one look at the clock; the timer is moved only
    when it goes off.

    :param clock: tells the time and calls later.
    :param seconds: of silence that are too long; 0 for never.
    :param too_long: called once, when they have passed.
    """

    def __init__(self, clock: IReactorTime, seconds: float, too_long: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._too_long = too_long
        self._heard = clock.seconds()
        self._counting = True
        self._timer: IDelayedCall | None = None
        if seconds > 0:
            self._timer = clock.callLater(seconds, self._look)

    def heard(self) -> None:
        """The sender has said something."""
        self._heard = self._clock.seconds()

    def stop_counting(self) -> None:
        """We do not listen: silence means nothing."""
        self._counting = False

    def count(self) -> None:
        """We listen again, and the sender has all its time again."""
        self._counting = True
        self.heard()

    def cancel(self) -> None:
        """Notice nothing any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        if not self._counting:
            self.heard()
        left = self._heard + self._seconds - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._timer = None
            self._too_long()
