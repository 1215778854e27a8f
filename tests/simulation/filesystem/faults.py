"""
What fails, what is slow, and what is full.
"""

from __future__ import annotations

import errno
import os

from tests.simulation.choices import Choices
from tests.simulation.scheduler import Event, Scheduler

__all__ = ["Faults"]

CHANGES = frozenset(
    {
        "create",
        "open_record_to_create",
        "open_to_write",
        "write",
        "writev",
        "write_at",
        "splice",
        "copy",
        "chmod",
        "truncate",
        "fsync",
        "datasync",
        "rename",
        "replace",
        "link",
        "unlink",
        "make_folder",
        "remove_folder",
        "set_times",
        "set_owner",
        "set_attribute",
    }
)
"""Calls that fail on a file system that has become read-only."""


class _Rule:
    """Some calls fail."""

    __slots__ = ("after", "chance", "error", "times")

    def __init__(self, error: int, chance: float, times: float, after: int) -> None:
        self.error = error
        self.chance = chance
        self.times = times
        self.after = after


class Faults:
    """
    The faults of a file system.  A new one has none.

    :param capacity: size of the file system in bytes.
    :param inodes: how many files and folders fit.
    :ivar active: whether a call may fail, or take time; a full disk is not counted here.
    :ivar touched: the calls that may.
    :ivar quota: how many bytes files may take in all; more fail with ``EDQUOT``.
    """

    __slots__ = (
        "_calls",
        "_choices",
        "_full",
        "_read_only",
        "_rules",
        "_scheduler",
        "_short",
        "_slow",
        "_stalled",
        "active",
        "capacity",
        "inodes",
        "quota",
        "touched",
    )

    def __init__(self, scheduler: Scheduler, choices: Choices, capacity: int, inodes: int) -> None:
        self._scheduler = scheduler
        self._choices = choices
        self._full = capacity, inodes
        self._stalled: dict[str, Event] = {}
        self.none()

    def none(self) -> None:
        """Heal: nothing fails any more, there is room, and stalled calls go on."""
        self.capacity, self.inodes = self._full
        self.quota: int | None = None
        self._rules: dict[str, list[_Rule]] = {}
        self._slow: dict[str, tuple[float, float, float]] = {}
        self._short = 0.0
        self._read_only = False
        stalled, self._stalled = self._stalled, {}
        for event in stalled.values():
            event.set()
        self.active = False
        self.touched: set[str] = set()

    def fail(
        self,
        call: str,
        error: int,
        *,
        times: float = 1,
        chance: float = 1.0,
        after: int = 0,
    ) -> None:
        """
        Let calls fail.

        :param call: name of a method of `Files`; files that are synced at once by
            ``fsync_all`` fail as ``fsync`` does, each by itself.
        :param error: the ``errno``.  ``EIO`` of a sync loses what is not on the device.
        :param times: how many fail; infinity is for ever.
        :param chance: how likely each is to fail.
        :param after: how many succeed before.
        """
        self._rules.setdefault(call, []).append(_Rule(error, chance, times, after))
        self._touch(call)

    def slow(self, call: str, low: float, high: float, chance: float = 1.0) -> None:
        """Let calls take a time between two, in seconds."""
        self._slow[call] = low, high, chance
        self._touch(call)

    def stall(self, call: str) -> None:
        """Let calls take until `none` is called."""
        self._stalled.setdefault(call, Event(self._scheduler))
        self._touch(call)

    def shorten(self, chance: float) -> None:
        """Let writes, also by splice and copy, write only a part."""
        self._short = chance
        self.active = True

    def make_read_only(self) -> None:
        """Let all changes fail with ``EROFS``, also of files that are open."""
        self._read_only = True
        self._touch(*CHANGES)

    def _touch(self, *calls: str) -> None:
        self.active = True
        self.touched.update(calls)

    @property
    def read_only(self) -> bool:
        """Whether all changes fail."""
        return self._read_only

    # What the calls ask

    def before(self, call: str) -> None:
        """Wait, if the call is slow, and fail if it fails; called only for `touched` ones."""
        number = self.error(call)
        self.wait(call)
        if number:
            raise OSError(number, os.strerror(number))

    def error(self, call: str) -> int:
        """Return the ``errno`` with which a call fails, or 0."""
        if self._read_only and call in CHANGES:
            return errno.EROFS
        rules = self._rules.get(call)
        if rules:
            for rule in rules:
                if rule.times <= 0:
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif rule.chance >= 1.0 or self._choices.chance(rule.chance):
                    rule.times -= 1
                    return rule.error
        return 0

    def wait(self, call: str) -> None:
        """Wait, if the call is slow and made by a task: nothing else runs in a reactor's turn."""
        if self._scheduler.current is None:
            return
        slow = self._slow.get(call)
        if slow is not None and self._choices.chance(slow[2]):
            self._scheduler.pause(self._choices.between(slow[0], slow[1]))
        stalled = self._stalled.get(call)
        if stalled is not None:
            stalled.wait()

    def shortened(self, size: int) -> int:
        """Return how many of so many bytes are written."""
        if size > 1 and self._short and self._choices.chance(self._short):
            return 1 + self._choices.below(size)
        return size
