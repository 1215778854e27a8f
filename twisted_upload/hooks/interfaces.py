"""
What a runner (`twisted_upload.hooks.runner`) needs of others.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_upload.disk.threads import IDisk
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool

__all__ = ["IHookCommand", "IHookCounts", "IHookThreads"]


class IHookCommand(Protocol):
    """What is done for each file: a program is started, or the file is forwarded."""

    def check(self) -> None:
        """
        Check whether it can be done, as far as this can be known.

        :raises CannotStart: it cannot.
        """

    def start(self) -> None:
        """
        Prepare for it.

        :raises CannotStart: this failed.
        """

    def run(self, spool: HookSpool, marker: Marker, attempt: int, held: int) -> HookEnd:
        """
        Do it for one file, in a thread that has nothing else to do.

        :param spool: the queue.
        :param marker: what is known of the file, with its SHA-256.
        :param attempt: 1, and one more for each failure.
        :param held: descriptor of the locked marker: nobody else does it at this time.
        """

    def end_orphans(self, held: int, folder: int) -> None:
        """
        End what is left of the work of a dead daemon, if the lock of a marker is held.

        :param held: descriptor of the marker, which another process has locked.
        :param folder: descriptor of its folder.
        """

    def stop(self) -> None:
        """End all that is running now, and all that is still begun."""

    def close(self) -> None:
        """Release everything; nothing is running."""


class IHookThreads(IDisk, Protocol):
    """Threads for programs: one for each that may run, and one to scan the queue."""

    def stop(self) -> Deferred[None]:
        """Accept no more jobs; fires when all accepted jobs are done."""


class IHookCounts(Protocol):
    """
    A runner's counts of work to do and done.  The runner updates them.

    :ivar waiting: files for which it has not succeeded yet, as of the last scan.
    :ivar oldest: arrival of the oldest of them, in seconds since the epoch; 0 if none.
    :ivar given_up: files that have been set aside, as of the last scan.
    :ivar running: files that are being worked on.
    """

    waiting: int
    oldest: float
    given_up: int
    running: int

    def ended(self, seconds: float, *, succeeded: bool) -> None:
        """Count an attempt."""
