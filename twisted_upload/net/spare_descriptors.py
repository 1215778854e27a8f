"""
Descriptors that are held back for when there are no others.
"""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["SPARE", "SpareDescriptors"]

SPARE = 16
"""Descriptors that are held back: for seven connections at a time with their files."""

LEFT = 16
"""Those that have to be left for others before any are held back again."""

MARGIN = 2
"""Those that are left for the store, where several connections are served at a time."""

PAUSE = 0.5
"""Seconds between two tries to hold them back again."""


class SpareDescriptors:
    """
    Holds descriptors back until somebody finds that there are none; then lets go of
    all, so that new connections go on being served, if not many at a time.  It takes them
    back when enough others are left.

    It has users, and holds none back without them.

    :param number: to hold back.
    :ivar short: they have been let go.
    """

    def __init__(self, number: int = SPARE) -> None:
        self.short = False
        self._number = number
        self._users = 0
        self._held: list[int] = []
        self._accepted: list[socket.socket] = []
        self._next_try = 0.0

    def join(self) -> None:
        """One more user."""
        self._users += 1
        if self._users == 1:
            self._held = _open(self._number)

    def leave(self) -> None:
        """One less."""
        self._users -= 1
        if not self._users:
            self._close()

    def let_go(self, now: float) -> None:
        """There are no others."""
        self.short = True
        self._next_try = now + PAUSE
        self._close()

    def are_left_for_one(self) -> bool:
        """
        Whether there are enough for one more connection and its file, beside the files of
        those who have come in since they were let go, and what the store needs
        for a moment beside them.
        """
        self._accepted = [it for it in self._accepted if it.fileno() >= 0]
        others = len(self._accepted)
        return _are_left(2 + others + min(others, MARGIN))

    def accepted(self, accepted_connection: socket.socket) -> None:
        """One more has been accepted, since they were let go."""
        self._accepted.append(accepted_connection)

    def recover(self, now: float) -> None:
        """Hold them back again, if enough are left; harmless where they are."""
        if self.short and now >= self._next_try:
            self._next_try = now + PAUSE
            if _are_left(self._number + LEFT):
                self._held = _open(self._number)
                self._accepted = []
                self.short = False

    def _close(self) -> None:
        while self._held:
            os.close(self._held.pop())


def _are_left(number: int) -> bool:
    there = _open(number)
    for descriptor in there:
        os.close(descriptor)
    return len(there) == number


def _open(number: int) -> list[int]:
    """So many descriptors, or as many as there are."""
    there: list[int] = []
    with contextlib.suppress(OSError):
        while len(there) < number:
            there.append(os.eventfd(0, os.EFD_CLOEXEC))
    return there
