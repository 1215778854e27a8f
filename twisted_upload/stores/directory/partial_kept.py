"""
Partial uploads that stay open for a moment after a commit.

Most clients that send an upload in small pieces send the next one at once: it needs no
disk job then to open, lock and read the upload again.
"""

from __future__ import annotations

from twisted_upload.stores.directory.partial_folder import PartialFolder
from twisted_upload.stores.directory.partial_record import due
from twisted_upload.stores.directory.resumable_file import ResumableFile

__all__ = ["KEEP_FOR", "MOST_KEPT", "KeptParts", "is_usable"]

KEEP_FOR = 1.0
"""Seconds for which an upload stays open after a commit."""

MOST_KEPT = 16
"""Maximum number of uploads that are kept open; each has two file descriptors."""


class KeptParts:
    """
    Uploads that are open, and that nobody uses, by key.

    They are incomplete, and everything that has been written to them is committed.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, ResumableFile]] = {}  # the oldest ones first

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    @property
    def keys(self) -> list[str]:
        """Their keys."""
        return [*self._kept]

    @property
    def full(self) -> bool:
        """Whether no other one may be kept."""
        return len(self._kept) >= MOST_KEPT

    def put(self, part: ResumableFile, now: float) -> None:
        """
        Keep an upload.

        :param now: seconds.
        """
        self._kept[part.key] = now + KEEP_FOR, part

    def take(self, key: str) -> ResumableFile | None:
        """Return an upload, and keep it no longer; `None` if it is not there."""
        kept = self._kept.pop(key, None)
        return None if kept is None else kept[1]

    def get(self, key: str) -> ResumableFile | None:
        """Return an upload; `None` if it is not there."""
        kept = self._kept.get(key)
        return None if kept is None else kept[1]

    def take_all(self) -> list[ResumableFile]:
        """Return all, and keep them no longer.  May be called in any thread."""
        parts = [self.take(key) for key in self.keys]  # each is taken once
        return [part for part in parts if part is not None]

    def late(self, now: float) -> list[str]:
        """
        Return those that have been kept for long enough.

        :param now: as for `put`.
        """
        return [key for key, (until, _) in [*self._kept.items()] if until <= now]


def is_usable(part: ResumableFile, at: PartialFolder | None, now: float) -> bool:
    """
    Return whether an upload that has been kept can be used.

    :param at: the open folder of partial uploads.
    :param now: seconds since the epoch.
    """
    return part.at is at and due(part.log) > now
