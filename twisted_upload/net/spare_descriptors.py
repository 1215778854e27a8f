"""
File descriptors that are held in reserve for when no others are left.
"""

from __future__ import annotations

import contextlib
from typing import Any

from twisted_upload.net.sockets import Sockets

__all__ = ["SPARE", "SpareDescriptors"]

SPARE = 16
"""Number of file descriptors in the reserve: enough for seven connections at a time
with their files."""

LEFT = 16
"""Number that must be left for other uses before the reserve is taken again."""

MARGIN = 2
"""Number left for the store while several connections are served at a time."""

PAUSE = 0.5
"""Seconds between two attempts to take the reserve again."""


class SpareDescriptors:
    """
    Holds file descriptors until there are no others, then releases all of them, so that
    new connections are still served, even if only a few at a time.  It takes them again
    when enough others are left.

    It has users, and holds nothing without them.

    :param number: of file descriptors to hold.
    :param sockets: the system calls.
    :ivar short: whether they have been released.
    """

    def __init__(self, number: int = SPARE, sockets: Sockets | None = None) -> None:
        self._sockets = sockets or Sockets()
        self.short = False
        self._number = number
        self._users = 0
        self._held: list[int] = []
        self._accepted: list[Any] = []
        self._next_try = 0.0

    def join(self) -> None:
        """Add a user."""
        self._users += 1
        if self._users == 1:
            self._held = self._open(self._number)

    def leave(self) -> None:
        """Remove a user."""
        self._users -= 1
        if not self._users:
            self._close()

    def let_go(self, now: float) -> None:
        """Release the reserve: there are no other file descriptors."""
        self.short = True
        self._next_try = now + PAUSE
        self._close()

    def are_left_for_one(self) -> bool:
        """
        Return whether enough file descriptors are left for one more connection and its
        file, the files of the connections accepted since the reserve was released, and
        what the store needs temporarily in addition.
        """
        self._accepted = [it for it in self._accepted if it.fileno() >= 0]
        others = len(self._accepted)
        return self._are_left(2 + others + min(others, MARGIN))

    def accepted(self, accepted_connection: Any) -> None:
        """Note a connection that was accepted since the reserve was released."""
        self._accepted.append(accepted_connection)

    def recover(self, now: float) -> None:
        """Take the reserve again if enough are left; harmless if it is held."""
        if self.short and now >= self._next_try:
            self._next_try = now + PAUSE
            if self._are_left(self._number + LEFT):
                self._held = self._open(self._number)
                self._accepted = []
                self.short = False

    def _close(self) -> None:
        while self._held:
            self._sockets.close(self._held.pop())

    def _are_left(self, number: int) -> bool:
        there = self._open(number)
        for descriptor in there:
            self._sockets.close(descriptor)
        return len(there) == number

    def _open(self, number: int) -> list[int]:
        """Open this many file descriptors, or as many as there are."""
        there: list[int] = []
        with contextlib.suppress(OSError):
            while len(there) < number:
                there.append(self._sockets.reserve())
        return there
