"""
The queue of ``--on-upload``: the kept files for which a program is still to be
started, each as a *marker*.

**The state on disk is the queue.**  Before a file is published, its marker is
on disk, as durable as the file itself; it goes when the program has succeeded.
So a file that is visible has its marker, or its program has succeeded, whenever
the daemon is killed or the power fails:

=====================  ==============  ================  =======================
step                   the marker      the file          a crash right then
=====================  ==============  ================  =======================
write the file         none            in .incoming/     the file is swept
write the marker       in waiting/     in .incoming/     no such file is found:
                                                         the marker is removed
sync both, together    durable         durable           the same
publish                durable         visible           the program is started
                                                         after the next start
answer, start it       durable         visible           it is started again
it has succeeded       removed         visible           nothing is left to do
or has failed, often   in failed/      visible           an operator moves it
                                                         back to waiting/
=====================  ==============  ================  =======================

Both folders are in ``.on-upload/`` in the drop folder.

Its name, ``MILLISECONDS-SERIAL-ORIGIN.OWNER.json``, sorts by arrival, and says in
whose hands it is: each process that has the queue open holds a lock on a file
``owner-OWNER`` beside the folders.  When that lock is free, whoever looks takes
the marker over, by renaming it; of two who try, one succeeds.

**One bad marker stops only itself.**  What is not as we write it is moved to
``failed/``; what cannot be moved either stays, and is not looked at again.

Everything but `HookSpool.marker` and `HookSpool.release` waits for the disk.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_private
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.marker import Marker, MarkerFolders, note_reason
from twisted_upload.hooks.owners import (
    PASSES,
    become_owner,
    leave,
    lives,
    others,
    stay_owner,
)

__all__ = ["FAILED", "HOOKS", "HOOK_FOLDERS", "WAITING", "BadMarker", "HookSpool", "SpoolScan"]

HOOKS, WAITING, FAILED = ".on-upload", "waiting", "failed"
HOOK_FOLDERS = (HOOKS, f"{HOOKS}/{WAITING}", f"{HOOKS}/{FAILED}")

_MARKER = re.compile(r"(([0-9]+)-[0-9]+-[0-9a-f]{12})\.([0-9a-f]{12})\.json\Z")
_MOMENT = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class BadMarker:
    """
    One that is not as we write it.

    :ivar why: in words.
    :ivar aside: it was moved to ``failed/``.
    """

    name: str
    why: str
    aside: bool


@dataclass(frozen=True)
class SpoolScan:
    """
    What a look at the queue has found.

    :ivar markers: the oldest that nobody has in hand; now they are ours.
    :ivar more: there are others.
    :ivar gone: so many were removed: their files are not there, or never came.
    :ivar bad: they are not what we write.
    :ivar waiting: so many there are, known ones and those of others too.
    :ivar error: why some could not be read just now, if that was so.
    """

    markers: Sequence[Marker]
    more: bool
    gone: int
    bad: Sequence[BadMarker]
    waiting: int
    error: OSError | None = None


def check_folders(path: str, final: int, files: Files) -> None:
    """
    Try whether a queue could be opened, and take no part in it.

    :param path: of the drop folder.
    :param final: its descriptor.
    :raises CannotStart: it could not; the text says why.
    """
    with contextlib.ExitStack() as opened:
        above = final
        try:
            for name in HOOKS, WAITING, FAILED:
                folder = open_private(above, name, files)
                opened.callback(os.close, folder)
                above = folder if name == HOOKS else above
        except OSError as error:
            raise CannotStart(f"cannot use {path}/{HOOKS}: {error.strerror}") from error


class HookSpool:
    """
    The queue of one drop folder, and our share of it.

    :param path: of the drop folder, for people and for programs.
    :param final: its descriptor.
    :param durable: markers survive the machine, not only the daemon.
    :raises OSError: it cannot be used.
    """

    def __init__(self, path: str, files: Files, final: int, *, durable: bool) -> None:
        with contextlib.ExitStack() as undo:

            def ours(descriptor: int) -> int:
                undo.callback(os.close, descriptor)
                return descriptor

            # Not a duplicate: they would read the folder from one position.
            final = ours(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=final))
            hooks = self._hooks = ours(open_private(final, HOOKS, files))
            waiting = ours(open_private(hooks, WAITING, files))
            failed = ours(open_private(hooks, FAILED, files))
            owner, lock = become_owner(hooks, files)
            self._lock = ours(lock)
            for other in others(hooks, owner):
                lives(hooks, other)  # and where not, its lock goes
            undo.pop_all()
        self._folders = MarkerFolders(path, files, final, waiting, failed, owner, durable, set())
        # Markers have the folders, and may outlive the queue.
        self._stuck: set[str] = set()  # identities of the bad ones that cannot be moved
        descriptors = (final, hooks, waiting, failed, lock)
        at_end = weakref.finalize(self._folders, leave, hooks, owner, descriptors)
        self.close: Callable[[], object] = at_end  # at once: nobody has a marker of it

    @property
    def path(self) -> str:
        """Of the drop folder."""
        return self._folders.path

    @property
    def waiting(self) -> int:
        """Descriptor of the folder of the markers, to be synced when there is a new one."""
        return self._folders.waiting

    def marker(
        self, moment: tuple[int, int], *, listener: str, peer: str, arrived: float
    ) -> Marker:
        """
        The marker for an upload, not written yet.

        :param moment: of its name: no other upload of this process has it.
        :param arrived: seconds since the epoch.
        """
        milliseconds, serial = moment
        identity = f"{milliseconds:013d}-{serial:06d}-{self._folders.owner}"
        return Marker(self._folders, identity, listener=listener, peer=peer, arrived=arrived)

    def release(self, marker: Marker) -> None:
        """Its upload is kept: from now on `next` finds it, if it is still there."""
        self._folders.in_hand.discard(marker.identity)

    def next(self, most: int, known: Collection[str]) -> SpoolScan:
        """
        Look for markers whose uploads are over, and whose owners are, too, or
        are we.

        :param known: identities of those that are not to be looked for.
        """
        passing: list[OSError] = []
        try:
            stay_owner(self._hooks, self._folders.owner, self._lock, self._folders.files)
        except OSError as error:
            passing.append(error)
        waiting, owned = self._names(known)
        names = heapq.nsmallest(most + 1, owned)
        markers: list[Marker] = []
        bad: list[BadMarker] = []
        for name in names[:most]:
            try:
                marker = self._take(name)
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno in PASSES:
                    passing.append(error)
                else:
                    bad.append(self._put_aside(name, error))
            else:
                if marker is not None:
                    markers.append(marker)
        found, gone = self._find_files(markers, passing)
        more = len(names) > most
        return SpoolScan(found, more, gone, bad, waiting(), passing[0] if passing else None)

    def set_aside(self) -> int:
        """How many markers are in ``failed/``."""
        with os.scandir(self._folders.failed) as entries:
            return sum(_MARKER.match(entry.name) is not None for entry in entries)

    # Within

    def _names(self, known: Collection[str]) -> tuple[Callable[[], int], Iterator[str]]:
        """
        Names of markers that we may take; and, when all have been looked at, how
        many there are.
        """
        in_hand = self._folders.in_hand
        living = {self._folders.owner: False}  # by whose death what we have is to be taken
        count = 0

        def owned() -> Iterator[str]:
            nonlocal count
            with os.scandir(self.waiting) as entries:
                for entry in entries:
                    match = _MARKER.match(entry.name)
                    if match is None or match[1] in in_hand:
                        continue
                    count += 1
                    if match[1] in known or match[1] in self._stuck:
                        continue
                    owner = match[3]
                    if owner not in living:
                        living[owner] = lives(self._hooks, owner)
                    if not living[owner]:
                        yield entry.name

        return lambda: count, owned()

    def _take(self, name: str) -> Marker | None:
        """
        Make a marker ours; None if somebody else has been quicker.

        :raises ValueError: it is not a marker.
        """
        match = _MARKER.match(name)
        assert match is not None
        identity = match[1]
        ours = self._folders.name_of(identity)
        try:
            if name != ours:
                self._folders.files.replace(self.waiting, name, self.waiting, ours)
            marker = Marker(self._folders, identity, listener="", peer="", arrived=0.0)
            marker.read()
        except FileNotFoundError:
            return None
        return marker

    def _put_aside(self, name: str, error: Exception) -> BadMarker:
        """Move what is not a marker of ours out of the way, and say there why."""
        match = _MARKER.match(name)
        assert match is not None
        why = getattr(error, "strerror", None) or str(error)
        folders, ours = self._folders, self._folders.name_of(match[1])
        for present in (ours, name):  # it may have become ours before it was read
            try:
                folders.files.replace(folders.waiting, present, folders.failed, ours)
            except FileNotFoundError:
                continue
            except OSError as cannot:
                self._stuck.add(match[1])
                return BadMarker(present, f"{why}; {cannot.strerror}", aside=False)
            with contextlib.suppress(OSError, ValueError):
                note_reason(folders.failed, ours, why)
            break
        return BadMarker(ours, why, aside=True)

    def _find_files(
        self, markers: Sequence[Marker], passing: list[OSError]
    ) -> tuple[list[Marker], int]:
        """
        Find the files of markers, and remove markers that have none.

        :param passing: errors are added to it; their markers are left for later.
        :return: the markers that have files, and how many were removed.
        """
        left = [marker for marker in markers if marker.name and not marker.name_is_certain]
        unknown = self._find_names(left, passing)
        found = [marker for marker in markers if marker.name_is_certain]
        gone = 0
        for marker in markers:
            if not marker.name_is_certain and marker not in unknown:
                try:
                    marker.remove()
                    gone += 1
                except OSError as error:
                    passing.append(error)
        return found, gone

    def _find_names(self, markers: Sequence[Marker], passing: list[OSError]) -> set[Marker]:
        """
        Find under which names files were published.

        Nearly always it is the one that was meant; another one where others
        share the folder.

        :return: those of which that cannot be known just now.
        """
        others: dict[str, list[Marker]] = {}
        unknown = set()
        for marker in markers:
            try:
                if not marker.is_at(marker.name):
                    others.setdefault(_moment(marker.name), []).append(marker)
            except OSError as error:
                unknown.add(marker)
                passing.append(error)
        if not others:
            return unknown
        with os.scandir(self._folders.final) as entries:
            for entry in entries:
                for marker in others.get(_moment(entry.name), ()):
                    if not marker.name_is_certain and marker.is_at(entry.name):
                        break
        return unknown


def _moment(name: str) -> str:
    """The digits with which the name of a kept file begins."""
    match = _MOMENT.match(name)
    return match[0] if match is not None else ""
