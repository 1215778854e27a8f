"""
Repeats what has failed, with growing pauses, until a deadline.

No library repeats anything below this: how often an object store is asked, and for how
long, is decided here alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted_upload.stores.s3.errors import ObjectStoreError, Throttled

__all__ = [
    "ANSWER_TIMEOUT",
    "CONNECT_TIMEOUT",
    "DEADLINE",
    "SLOWEST",
    "AttemptFailed",
    "Attempts",
    "IRequestCounts",
    "NoCounts",
    "answer_timeout",
]

CONNECT_TIMEOUT = 5.0
"""Seconds in which the object store has to take a connection."""

ANSWER_TIMEOUT = 20.0
"""Seconds in which it has to answer a request, and more for what is sent with it."""

SLOWEST = 64 * 1024
"""Bytes a second at which it has to take what is sent."""

DEADLINE = 60.0
"""Seconds after which no further attempt is begun, and more for what is sent."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_FIRST_PAUSE_THROTTLED = 1.0

_T = TypeVar("_T")


def answer_timeout(size: int, patience: float | None = None) -> float:
    """
    Return the seconds for one attempt to send so many bytes and to be answered.

    :param patience: instead of `ANSWER_TIMEOUT`.
    """
    return (ANSWER_TIMEOUT if patience is None else patience) + size / SLOWEST


class IRequestCounts(Protocol):
    """Counts of what an object store was asked for; called in any thread."""

    def finished(self, operation: str, outcome: str, seconds: float) -> None:
        """
        Count an operation with all of its attempts.

        :param operation: such as ``put``: the name of a method of `IBucket`.
        :param outcome: ``ok``, or the name of an error in lowercase: ``unreachable``,
            ``throttled``, ``denied``, ``rejected``, ``nametaken``.
        """

    def retried(self, operation: str) -> None:
        """Count an attempt that is not the first one of its operation."""


class NoCounts:
    """Counts nothing."""

    def finished(self, operation: str, outcome: str, seconds: float) -> None:
        """See `IRequestCounts.finished`."""

    def retried(self, operation: str) -> None:
        """See `IRequestCounts.retried`."""


class AttemptFailed(Exception):
    """
    An attempt failed.

    :ivar error: what the caller is told if there is no further attempt.
    :ivar again: whether a further attempt may succeed.
    :ivar lost: whether it may have been carried out, and only the answer was lost.
    """

    def __init__(self, error: ObjectStoreError, *, again: bool, lost: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.lost = lost


class Attempts:
    """
    Makes attempts.

    :param counts: counts of operations.
    :param now: returns the time in seconds since an arbitrary moment.
    :param sleep: waits some seconds in this thread; returns true if there is to be no
        further attempt, because the daemon stops.
    :param chance: returns a number from 0 to 1.
    :param deadline: seconds after which no further attempt is begun.
    """

    def __init__(
        self,
        counts: IRequestCounts,
        sleep: Callable[[float], object],
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        deadline: float = DEADLINE,
    ) -> None:
        self._counts = counts
        self._sleep = sleep
        self._now = now
        self._chance = chance
        self._deadline = deadline

    def run(
        self,
        operation: str,
        attempt: Callable[[], _T],
        size: int = 0,
        clear_up: Callable[[], _T | None] | None = None,
    ) -> _T:
        """
        Carry out an operation, in as many attempts as it takes.

        :param attempt: carries it out; raises `AttemptFailed`.
        :param size: bytes that each attempt sends.
        :param clear_up: asks, after the last attempt, whether an attempt whose answer was
            lost succeeded: returns its result, or None if it did not; raises `AttemptFailed`.
        :raises ObjectStoreError: the last attempt failed.
        """
        began = self._now()
        outcome = "failed"
        try:
            result = self._run(
                operation, attempt, began + self._deadline + size / SLOWEST, clear_up
            )
            outcome = "ok"
            return result
        except ObjectStoreError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            self._counts.finished(operation, outcome, self._now() - began)

    def _run(
        self,
        operation: str,
        attempt: Callable[[], _T],
        deadline: float,
        clear_up: Callable[[], _T | None] | None,
    ) -> _T:
        lost = False
        number = 0
        while True:
            try:
                return attempt()
            except AttemptFailed as failed:
                failure = failed
            lost = lost or failure.lost
            pause = self._pause(number, failure.error)
            ended = not failure.again or self._now() + pause >= deadline
            if ended or self._sleep(pause):
                break
            number += 1
            self._counts.retried(operation)
        if lost and clear_up is not None:
            try:
                found = clear_up()
            except AttemptFailed:
                found = None
            if found is not None:
                return found
        raise failure.error from None

    def _pause(self, number: int, error: ObjectStoreError) -> float:
        """Return the seconds before the next attempt: half of them are left to chance."""
        first = _FIRST_PAUSE_THROTTLED if isinstance(error, Throttled) else _FIRST_PAUSE
        longest = min(first * 2.0 ** min(number, 10), _LONGEST_PAUSE)
        return longest * (0.5 + 0.5 * self._chance())
