"""
The queues of a directory store: the program that is started for its files, and the
forwarding to an object store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, gatherResults

from twisted_upload.hooks.folders import FORWARD, HOOKS
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import Arrival

__all__ = ["IHooks", "Mark", "Queues", "end_marks"]

Mark = tuple[HookSpool, Marker]
"""A marker of a file, and the queue that it is for."""


def end_marks(marks: Sequence[Mark], *, keep: bool) -> None:
    """
    Remove the markers of a file that is not stored, or leave them to the queues.

    :param keep: the file is visible all the same: without a marker, nobody would ever start
        its program, or forward it.
    """
    for spool, marker in marks:
        if keep:
            spool.release(marker)
        else:
            spool.withdraw(marker)


class IHooks(Protocol):
    """Does something for each stored file: `twisted_upload.hooks.runner.HookRunner`."""

    def check(self) -> None:
        """
        :raises CannotStart: for example, the program cannot be started.
        """

    def start(self, queue: Callable[[], HookSpool | None]) -> None:
        """
        Begin.

        :param queue: returns the current queue, which may be replaced.
        """

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        """
        Begin with a file that was stored and whose sender has been answered.

        Called in the reactor's thread.
        """

    def stop(self, seconds: float) -> Deferred[None]:
        """See `DirectoryStore.stop`."""


class Queues:
    """
    The queues of one store, and who works on them.

    :param program: starts a program for each file.
    :param forward: forwards each file.
    :param objects: the files become objects, for which the program is started: their
        store writes the markers of that queue itself.
    :ivar names: names of the queues.
    :ivar of_files: those in which each file has a marker.
    """

    def __init__(self, program: IHooks | None, forward: IHooks | None, *, objects: bool) -> None:
        both = {HOOKS: program, FORWARD: forward}
        self._runners = {name: one for name, one in both.items() if one is not None}
        self.names = tuple(self._runners)
        self.of_files = tuple(name for name in self.names if not (objects and name == HOOKS))

    def check(self) -> None:
        """
        :raises CannotStart: the program or the forwarding cannot be started.
        """
        for runner in self._runners.values():
            runner.check()

    def start(self, queue: Callable[[str], HookSpool | None]) -> None:
        """
        Begin to work on the queues.

        :param queue: returns the current queue of a name.
        """
        for name, runner in self._runners.items():
            runner.start(_one(queue, name))

    def stop(self, seconds: float) -> Deferred[None]:
        """See `DirectoryStore.stop`."""
        ends = [runner.stop(seconds) for runner in self._runners.values()]
        return gatherResults(ends, consumeErrors=True).addCallback(lambda _: None)

    def marks(
        self,
        queues: Mapping[str, HookSpool],
        moment: tuple[int, int],
        arrival: Arrival,
        arrived: float,
    ) -> Sequence[Mark]:
        """Create the markers of a file, without writing them yet: see `HookSpool.marker`."""
        return [
            (queues[name], queues[name].marker(moment, arrival, arrived)) for name in self.of_files
        ]

    def tell(self, spool: HookSpool, marker: Marker) -> None:
        """Begin with a file that was stored and whose sender has been answered."""
        self._runners[spool.name].stored(spool, marker)


def _one(queue: Callable[[str], HookSpool | None], name: str) -> Callable[[], HookSpool | None]:
    return lambda: queue(name)
