"""
How late the reactor is.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["ReactorLag"]

INTERVAL = 0.25
"""Seconds between two looks."""

MEMORY = 60.0
"""Seconds for which, at the least, the worst is remembered; twice that at the most."""


class ReactorLag:
    """
    Sets a timer again and again, and notes how late it fires.

    Whatever holds up the reactor's thread holds up all senders by as much.

    :param clock: the reactor.
    :param observe: told each lateness in seconds.
    """

    def __init__(self, clock: IReactorTime, observe: Callable[[float], object]) -> None:
        self._clock = clock
        self._observe = observe
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._since = 0.0
        self._worst = self._worst_before = 0.0

    @property
    def worst(self) -> float:
        """Seconds: the most of the last minute or two."""
        return max(self._worst, self._worst_before)

    def start(self) -> None:
        """Measure from now on."""
        self._since = self._clock.seconds()
        self._set()

    def stop(self) -> None:
        """Measure no more; harmless if it never did."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _set(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)  # a clock that was set back is not early
        self._observe(late)
        if now - self._since >= MEMORY:
            self._since, self._worst_before, self._worst = now, self._worst, 0.0
        self._worst = max(self._worst, late)
        self._set()
