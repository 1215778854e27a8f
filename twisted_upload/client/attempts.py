"""
Attempts: when to try again, and what a caller is told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted_upload.client.system import SYSTEM
from twisted_upload.errors import UploadError

__all__ = ["Attempt", "Attempts", "OnAttempt"]

FIRST_DELAY = 0.5
DEFAULT_PATIENCE = 60.0
LONGEST_DELAY = 30.0


class Attempt(NamedTuple):
    """
    The beginning or the end of an attempt to send a file.

    :ivar number: of the attempt, from 1.
    :ivar offset: bytes that need not be sent, because the server already has them.
    :ivar error: why it failed; `None` when it begins to send.
    :ivar delay: seconds until the next attempt, after an error.
    """

    number: int
    offset: int = 0
    error: UploadError | None = None
    delay: float = 0.0


OnAttempt = Callable[[Attempt], object]
"""Called when an attempt begins to send, and when it has failed and another will follow."""


class Attempts:
    """
    The attempts of one upload.

    :param patience: seconds without progress for which to try again; 0 for never.
        `None` for a minute, but only once the server has been reached.
    :param on_attempt: is told.
    :param clock: returns seconds.
    :param chance: returns a number from 0 to 1, so that clients that failed together do not
        return together.
    :ivar number: of the current attempt.
    """

    def __init__(
        self,
        patience: float | None,
        on_attempt: OnAttempt | None = None,
        *,
        clock: Callable[[], float] = SYSTEM.monotonic,
        chance: Callable[[], float] = SYSTEM.chance,
    ) -> None:
        self.number = 0
        self._patience = DEFAULT_PATIENCE if patience is None else patience
        self._waits_for_server = patience is not None
        self._on_attempt = on_attempt
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._progressed_at = clock()
        self._offset = 0

    def begin(self) -> None:
        """Begin an attempt."""
        self.number += 1

    def sends_from(self, offset: int) -> None:
        """Note that it begins to send, and that the server has this many bytes."""
        self._waits_for_server = True
        self.progressed(offset)
        if self._on_attempt is not None:
            self._on_attempt(Attempt(self.number, offset))

    def progressed(self, offset: int) -> None:
        """Note how many bytes the server has: more of them are progress."""
        if offset > self._offset:
            self._offset = offset
            self._failures = 0
            self._progressed_at = self._clock()

    def delay_after(self, error: UploadError, at_least: float = 0.0) -> float:
        """
        Return how many seconds to wait before the next attempt.

        :param at_least: what the server asks for.
        :raises UploadError: the error: it has been tried for long enough.
        """
        self._failures += 1
        longest = min(FIRST_DELAY * 2.0 ** min(self._failures - 1, 30), LONGEST_DELAY)
        delay = max(longest * (0.5 + self._chance() / 2), min(at_least, LONGEST_DELAY))
        left = self._progressed_at + self._patience - self._clock()
        if left <= 0 or not self._waits_for_server:
            raise error
        delay = min(delay, left)
        if self._on_attempt is not None:
            self._on_attempt(Attempt(self.number, self._offset, error, delay))
        return delay
