"""
The bytes that uploads may write before the reserve is reached; see
`twisted_upload.stores.directory.space`.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable

from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space

__all__ = ["LOOK_IS_FRESH", "SpaceBudget"]

LOOK_IS_FRESH = 1.0
"""Seconds for which the result of a check of the free space is valid."""

LOOK_AFTER = 8
"""The free space above the reserve, divided by this, may be written before the next check."""

MOST_UNSEEN = 8 * 1024 * 1024
"""Maximum bytes that may be written before the next check, however much is free."""

COMPLETE_SHARE = 4
"""The reserve, divided by this, may be used by complete uploads."""

MARGIN_SHARE = 16
"""An incomplete upload leaves its own size, divided by this, free for smaller ones."""


class SpaceBudget:
    """
    The bytes that uploads may write before the reserve is reached.  Thread-safe.

    Each piece is counted before it is written, so that several threads that write at the
    same time cannot use the reserve together.

    :param look: returns the free space; may wait for the disk.
    :param now: returns monotonic time in seconds.
    :param make_room: called with a number of bytes that are lacking; returns whether it
        has freed any.
    :ivar space: the result of the last check.
    """

    def __init__(
        self,
        reserve: Reserve,
        look: Callable[[], Space],
        now: Callable[[], float],
        *,
        make_room: Callable[[float], bool] = lambda _: False,
    ) -> None:
        self.space = Space(0, 0)
        self._make_room = make_room
        self._reserve = reserve
        self._look = look
        self._now = now
        self._lock = threading.Lock()
        self._reserved = 0.0
        self._headroom = 0.0  # above the reserve, less the bytes counted since the check
        self._until_look = 0.0  # bytes
        self._fresh_until = float("-inf")
        self._counted = 0  # bytes, since the beginning
        self._unwritten = 0  # bytes that are counted but may not have been written yet
        self._tight = False

    def look(self) -> Space:
        """
        Check the free space.  May wait for the disk: call it in a disk thread, or when
        waiting does no harm.

        :raises OSError: the check failed.
        """
        with self._lock:
            counted, unwritten = self._counted, self._unwritten
        space = self._look()
        with self._lock:
            # Bytes being written during the check may or may not be included in its result.
            unwritten += self._counted - counted
            self.space = space
            self._reserved = self._reserve.of(space.total)
            if space.total:
                self._headroom = space.free - self._reserved - unwritten
            else:
                self._headroom = float("inf")
            self._until_look = min(self._headroom / LOOK_AFTER, MOST_UNSEEN)
            self._fresh_until = self._now() + LOOK_IS_FRESH
            self._tight = self._headroom <= 0
        return space

    def grow(self, size: int, more: int, *, room: bool = True) -> None:
        """
        Count bytes before an incomplete upload writes them; afterwards call `written`.

        A large upload is refused a little before the reserve is reached, so that small
        ones in flight at the same time are not.

        :param size: number of bytes of the upload that have been written.
        :param more: number of bytes to be written.
        :param room: whether room may be made for them.
        :raises OSError: ``ENOSPC``: these bytes would use space of the reserve.
        """
        self._count(more, size / MARGIN_SHARE, room)

    def complete(self, more: int, *, room: bool = True) -> None:
        """
        Count the last bytes of an upload, immediately before they are written.

        :param more: number of bytes to be written.
        :param room: whether room may be made for them.
        :raises OSError: ``ENOSPC``: the share of the reserve for complete uploads has been
            used up too.
        """
        self._count(more, None, room)

    def written(self, more: int) -> None:
        """Note that counted bytes have been written, or will not be."""
        with self._lock:
            self._unwritten -= more

    def gave_back(self) -> None:
        """Note that an upload has been removed; if space was short, check it again."""
        if self._tight:
            with contextlib.suppress(OSError):
                self.look()

    def _count(self, more: int, margin: float | None, room: bool) -> None:
        with self._lock:
            if (
                more <= self._until_look
                and self._now() < self._fresh_until
                and self._take(more, margin)
            ):
                return
        for room_can_be_made in (True, False) if room else (False,):
            self.look()
            with self._lock:
                if self._take(more, margin):
                    return
                lacking = more + self._reserved / COMPLETE_SHARE - self._headroom
            if not room_can_be_made or not self._make_room(lacking):
                break
        self._tight = True
        raise OSError(errno.ENOSPC, "the reserve has been reached")

    def _take(self, more: int, margin: float | None) -> bool:
        share = self._reserved / COMPLETE_SHARE
        if margin is None:
            # Bytes being written may be counted twice, which must not cause a complete
            # upload to be refused.
            if self._headroom + self._unwritten - more < -share:
                return False
        elif self._headroom - more < min(margin, share):
            return False
        else:
            self._unwritten += more
        self._headroom -= more
        self._until_look -= more
        self._counted += more
        return True
