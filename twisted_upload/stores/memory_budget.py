"""
The memory that the uploads of a store may use.
"""

from __future__ import annotations

__all__ = ["MOST_BYTES", "MOST_GIVEN_UP", "RESERVABLE", "MemoryBudget"]

MOST_BYTES = 128 * 1024 * 1024
"""Bytes that all uploads of a store may hold together; beyond it, each new piece is
written at once and pauses its producer."""

MOST_GIVEN_UP = 16 * 1024
"""Maximum number of abandoned uploads that are still queued for a stalled disk; beyond
it, new uploads are refused.  Each of them still takes 2 KiB."""

RESERVABLE = 0.75
"""The share of it that may be reserved (`MemoryBudget.reserve`): a few large uploads that
are slow must not slow down the many small ones."""


class MemoryBudget:
    """
    What all uploads of a store hold in memory, together.

    It never refuses bytes; it only tells when senders are to be paused.

    :param most: bytes that they may hold.
    :ivar held: bytes that they hold.
    :ivar given_up: number of abandoned uploads that still take memory, because they are
        queued for a disk.
    """

    # Called for each upload: two short calls that create no objects.
    __slots__ = ("given_up", "held", "most")

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.held = 0
        self.given_up = 0

    def take(self, size: int) -> bool:
        """
        Count bytes that an upload holds from now on.

        :return: whether all uploads together hold more than they may.  If so, the
            caller writes out what it holds and pauses its sender.
        """
        self.held += size
        return self.held > self.most

    def reserve(self, size: int) -> bool:
        """
        Count bytes that an upload is going to hold, if there is room for them.

        :return: whether there was; if not, they have not been counted.
        """
        if self.held + size > self.most * RESERVABLE:
            return False
        self.held += size
        return True

    @property
    def is_crowded(self) -> bool:
        """Whether all uploads together hold more than they may."""
        return self.held > self.most

    def give_back(self, size: int) -> None:
        """Count bytes that an upload no longer holds."""
        self.held -= size

    def give_up(self, size: int) -> None:
        """Release the bytes of an abandoned upload that is queued; it counts until `gone`."""
        self.held -= size
        self.given_up += 1

    def gone(self) -> None:
        """Note that an abandoned upload is no longer queued."""
        self.given_up -= 1
