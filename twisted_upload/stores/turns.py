"""
Turns: a partial upload has one user at a time.

A user that writes for long says so (`Turn.hold`).  When another one comes, it is asked to
end, because the connection that it writes from is probably dead; if it has not ended
`GRACE` seconds later, it is cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["GRACE", "Turn", "Turns"]

GRACE = 0.5
"""Seconds that a user has to end, once it has been asked to."""


class Turn:
    """
    The turn of one user; it must call `end`.

    :param clock: times `GRACE`; without one, there is none.
    """

    def __init__(self, clock: IReactorTime | None, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._ended: Callable[[], None] | None = ended
        self._holder: tuple[Callable[[], None], Callable[[], None]] | None = None
        self._wanted = False  # by another user
        self._timer: IDelayedCall | None = None

    def hold(self, ask_to_end: Callable[[], None], cut_off: Callable[[], None]) -> None:
        """
        Note that this turn may last long; then pass it to its user, and call `begun`.

        :param ask_to_end: called at most once, when another user wants the turn.
        :param cut_off: called if it has not ended some time later: it must end soon,
            whatever its user does.
        """
        self._holder = ask_to_end, cut_off

    def begun(self) -> None:
        """Note that the user has the turn: ask it to end if others wait already."""
        if self._wanted:
            self._ask()

    def want(self) -> None:
        """Note that another user wants the turn."""
        if not self._wanted:
            self._wanted = True
            self._ask()

    @property
    def wanted(self) -> bool:
        """Whether another user wants it."""
        return self._wanted

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._ended is None

    def end(self) -> None:
        """End it; harmless if it has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended, self._holder = self._ended, None, None
        if ended is not None:
            ended()

    def _ask(self) -> None:
        if self._holder is None:
            return
        (ask_to_end, cut_off), self._holder = self._holder, None
        if self._clock is not None:
            self._timer = self._clock.callLater(GRACE, self._cut_off, cut_off)
        try:
            ask_to_end()
        except Exception:
            _log.failure("internal error: the writer of a partial upload cannot be asked to end")
        if self._clock is None and self._ended is not None:
            cut_off()

    def _cut_off(self, cut_off: Callable[[], None]) -> None:
        self._timer = None
        cut_off()


class Turns:
    """
    The turns of all partial uploads of a store: first come, first served.

    :param clock: see `Turn`.
    """

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self._clock = clock
        self._current: dict[str, Turn] = {}
        self._waiting: dict[str, deque[Deferred[Turn]]] = {}
        self._giving: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Return whether there is a user that has the turn of an upload."""
        return key in self._current

    def held(self) -> list[str]:
        """Return the uploads that are in use."""
        return [*self._current]

    def take(self, key: str) -> Deferred[Turn]:
        """
        Wait for the turn of an upload; who has it is asked to end.

        :return: fires when it is the caller's turn.  Cancel it to stop waiting.
        """
        current = self._current.get(key)
        if current is None:
            return succeed(self._give(key))
        waiting = self._waiting.setdefault(key, deque())
        turn: Deferred[Turn] = Deferred(waiting.remove)
        waiting.append(turn)
        current.want()
        return turn

    def want(self, key: str) -> None:
        """Note that another process wants the turn of an upload."""
        if key in self._current:
            self._current[key].want()

    def _give(self, key: str) -> Turn:
        turn = self._current[key] = Turn(self._clock, lambda: self._next(key))
        if self._waiting.get(key):
            turn.want()
        return turn

    def _next(self, key: str) -> None:
        del self._current[key]
        if key in self._giving:
            return  # the loop below goes on: many that wait must not call each other
        self._giving.add(key)
        waiting = self._waiting.get(key)
        while waiting and key not in self._current:
            waiting.popleft().callback(self._give(key))
        self._giving.discard(key)
        if not waiting:
            self._waiting.pop(key, None)


_log = Logger()
