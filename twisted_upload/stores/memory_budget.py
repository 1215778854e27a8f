"""
The memory that the uploads of a store may take.
"""

from __future__ import annotations

__all__ = ["MOST_BYTES", "MOST_GIVEN_UP", "MemoryBudget"]

MOST_BYTES = 128 * 1024 * 1024
"""Bytes that all uploads of a store may hold before each new piece goes to where it
is kept at once and pauses its producer."""

MOST_GIVEN_UP = 16 * 1024
"""Uploads that nobody waits for any more, and that are still in line for a disk
which does nothing, before new ones are refused: 2 KiB each are left of them."""


class MemoryBudget:
    """
    What all uploads of a store have in memory, together.

    Bytes are always taken: a budget says when senders are to be paused.

    :param most: bytes that they may hold.
    :ivar held: bytes that they hold.
    :ivar given_up: uploads that nobody waits for any more, and of which something is
        left, because they are still in line for a disk.
    """

    # Each upload counts here: two short calls, and nothing is made for them.
    __slots__ = ("given_up", "held", "most")

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.held = 0
        self.given_up = 0

    def take(self, size: int) -> bool:
        """
        An upload holds so many bytes more.

        :return: whether all hold more than they may: what is held is to be brought to
            where it is kept, and its sender to be paused.
        """
        self.held += size
        return self.held > self.most

    def give_back(self, size: int) -> None:
        """An upload holds so many bytes less."""
        self.held -= size

    def give_up(self, size: int) -> None:
        """An upload gives its bytes back while it is in line; it counts until `gone`."""
        self.held -= size
        self.given_up += 1

    def gone(self) -> None:
        """One that was given up is not in line any more."""
        self.given_up -= 1
