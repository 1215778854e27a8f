"""
What may be left when all is quiet: nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any, cast

from tests.simulation.filesystem.content import File
from tests.simulation.filesystem.descriptions import OpenFile, PipeEnd
from tests.simulation.history import History
from twisted_upload.disk.files import Files
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.name_record import RECORD as NAMES
from twisted_upload.stores.directory.partial_folder import DATA, PARTIAL, RECORD
from twisted_upload.stores.directory.partial_record import OPEN, PartialRecord
from twisted_upload.stores.s3.notes import PENDING

__all__ = ["Quiet"]


class Quiet:
    """
    What processes and folders have when nobody sends anything.

    :param collect: collects garbage.
    """

    def __init__(self, history: History, collect: Callable[[], object] = gc.collect) -> None:
        self._history = history
        self._collect = collect
        self._descriptors: dict[str, int] = {}

    def note(self, process: Any) -> None:
        """Note what a process has open before anybody connects."""
        self._descriptors[process.name] = len(process.descriptors)

    def check_descriptors(self, process: Any, spare: int = 0, *, pipes: int = 0) -> None:
        """
        A process has no more open than before the first connection, and no removed file.

        :param spare: descriptors that it may have opened once and for all since.
        :param pipes: pipes that it may have opened, too: one for each thread that splices.
        """
        before = self._descriptors[process.name]
        if _open(process, pipes) > before + spare:  # a folder that was replaced is garbage
            self._collect()
        if _open(process, pipes) > before + spare:
            things = [type(it).__name__ for it in process.descriptors.things().values()]
            raise self._history.wrong(
                f"{process.name} has {len(things)} descriptors, {before} at the beginning: {things}"
            )
        for number, thing in process.descriptors.things().items():
            inode = thing.inode if isinstance(thing, OpenFile) else None
            if isinstance(inode, File) and not inode.links:
                what = f"descriptor {number} of {process.name}"
                raise self._history.wrong(f"{what} is a file that has no name any more")

    def check_frontends(self, frontends: Iterable[Any]) -> None:
        """No front end has a connection, a slot, or an upload."""
        for frontend in frontends:
            left = {
                "connections": len(frontend.protocols),
                "uploads": frontend.uploads_in_flight,
                "slots": frontend.slots.taken,
                "sockets that are lent": frontend.slots.splices,
                "address groups": len(frontend.gate.admission),
            }
            if any(left.values()):
                raise self._history.wrong(f"left when all is quiet: {left}")

    def check_budgets(self, budgets: Iterable[Any]) -> None:
        """No store holds memory for an upload."""
        for budget in budgets:
            if budget.held:
                raise self._history.wrong(f"{budget.held} bytes are held for nobody")

    def check_incoming(self, file_system: Any, directory: str, *, whole: bool = False) -> None:
        """
        Nothing is unfinished in a drop folder but partial uploads, each with its record.

        :param whole: nothing has happened that leaves bytes that are not committed.
        """
        folder = f"{directory}/{INCOMING}"
        left = [
            name
            for name in file_system.names(folder)
            if name not in (PARTIAL, NAMES, PENDING, "invitations")
        ]
        if left:
            raise self._history.wrong(f"left in {folder}: {left}")
        if not file_system.exists(f"{folder}/{PARTIAL}"):
            return
        names = dict.fromkeys(file_system.names(f"{folder}/{PARTIAL}"))
        for name in names:
            key = name.removesuffix(DATA)
            if key != name and key + RECORD not in names:
                raise self._history.wrong(f"data without a record: {name}")
            if key != name and whole:
                self._check_size(file_system, f"{folder}/{PARTIAL}/{key}")

    def _check_size(self, file_system: Any, path: str) -> None:
        """What was discarded of a partial upload takes no space."""
        record = _Content(file_system.content(path + RECORD))
        state = PartialRecord.load(cast("Files", record), 0).state
        size = len(file_system.content(path + DATA))
        if state.phase == OPEN and size > state.offset:
            raise self._history.wrong(f"{path}: {size} bytes, {state.offset} of them committed")


class _Content:
    """A file that can be read, as `PartialRecord.load` asks for it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_at(self, _: int, length: int, offset: int) -> bytes:
        """See `Files.read_at`."""
        return self._content[offset : offset + length]


def _open(process: Any, pipes: int) -> int:
    """Return how much a process has open, besides so many pipes."""
    things = process.descriptors.things().values()
    ends = sum(isinstance(it, PipeEnd) for it in things)
    return len(things) - min(ends, 2 * pipes)
