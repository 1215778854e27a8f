"""
What a directory store needs of the programs that are started for its files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool

__all__ = ["IHooks"]


class IHooks(Protocol):
    """Starts a program for each stored file: `twisted_upload.hooks.runner.HookRunner`."""

    def check(self) -> None:
        """
        :raises CannotStart: the program cannot be started.
        """

    def start(self, queue: Callable[[], HookSpool | None]) -> None:
        """
        Begin.

        :param queue: returns the current queue, which may be replaced.
        """

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        """
        Start the program for a file that was stored and whose sender has been answered.

        Called in the reactor's thread.
        """

    def stop(self, seconds: float) -> Deferred[None]:
        """See `DirectoryStore.stop`."""
