"""A limit on how fast sources are read, all of them together."""

from __future__ import annotations

from collections.abc import Callable

from twisted_upload.client.system import SYSTEM

__all__ = ["RateLimit"]

_LARGEST_PIECE = 256 * 1024
_PIECES = 8  # a second, so that a rate is even


class RateLimit:
    """
    Lets bytes pass at a rate; several threads share it.

    :param rate: bytes per second.
    :param clock: returns seconds; that of the system unless given.
    :param sleep: waits for so many seconds.
    :param system: what is asked of the kernel.
    """

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = SYSTEM.monotonic,
        sleep: Callable[[float], object] = SYSTEM.pause,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = SYSTEM.mutex()
        self._free_from = clock()

    @property
    def piece(self) -> int:
        """Return how many bytes to read at a time."""
        return max(1, min(_LARGEST_PIECE, self._rate // _PIECES))

    def take(self, size: int) -> None:
        """Wait until this many more bytes may pass."""
        with self._lock:
            now = self._clock()
            passed = self._free_from = max(self._free_from, now) + size / self._rate
        self._sleep(passed - now)
