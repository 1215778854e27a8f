"""
Scanning the ``--on-upload`` queue, in order of arrival: for markers left by other
daemons, moved back by an operator, or left by this process.

A scan takes the markers whose uploads are over: our own, and those of dead owners.  The
latter are taken over by renaming; if two processes try, one succeeds.  The file of each
marker is looked up, and a marker without a file is removed.

**A bad marker affects only itself.**  An invalid marker, which is not as we write it, is
moved to ``failed/``.  If it cannot be moved either, it stays where it is and is ignored
from then on.

Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from twisted_upload.disk.folders import open_own_file
from twisted_upload.disk.owners import TEMPORARY_ERRORS
from twisted_upload.hooks.marker import LARGEST_MARKER, Marker
from twisted_upload.hooks.spool import MARKER_NAME, HookSpool

__all__ = ["BadMarker", "SpoolScan", "scan", "take_back"]

_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class BadMarker:
    """
    An invalid marker.

    :ivar why: the reason in words.
    :ivar aside: whether it was moved to ``failed/``.
    """

    name: str
    why: str
    aside: bool


@dataclass(frozen=True)
class SpoolScan:
    """
    The result of a scan.

    :ivar markers: the oldest markers that were free; they are ours now.
    :ivar more: whether there are more.
    :ivar gone: number of markers removed because their files are gone or were never
        published.
    :ivar bad: invalid markers.
    :ivar waiting: number of markers in the queue, including known ones and those of
        other owners.
    :ivar error: why some markers could not be read at the moment, if any.
    :ivar oldest: arrival of the oldest of them, in seconds since the epoch; 0 if there
        are none.
    """

    markers: Sequence[Marker]
    more: bool
    gone: int
    bad: Sequence[BadMarker]
    waiting: int
    error: OSError | None = None
    oldest: float = 0.0


def scan(spool: HookSpool, most: int, known: Collection[str]) -> SpoolScan:
    """
    Look for markers whose uploads are over and which are ours or a dead owner's.

    :param most: the maximum number of markers to take.
    :param known: identities of markers to skip.
    """
    return _Scan(spool).look(most, known)


def take_back(spool: HookSpool, before: float, most: int) -> int:
    """
    Move markers from ``failed/`` back to ``waiting/``, except unusable ones.

    :param before: those that were set aside before this moment, in seconds since the
        epoch.
    :param most: the maximum number of them.
    :return: the number of markers moved.
    """
    if before <= 0:
        return 0
    moved = 0
    with spool.files.scan(spool.failed) as names:
        for name in names:
            match = MARKER_NAME.match(name)
            if match is None or moved >= most:
                continue
            try:
                status = spool.files.status_of(name, folder=spool.failed)
                if status.st_mtime < before and _was_tried(spool, name):
                    ours = spool.name_of(match[1])
                    spool.files.replace(spool.failed, name, spool.waiting, ours)
                    moved += 1
            except (OSError, ValueError):
                continue  # another process has taken it, or it is not as we write it
    return moved


def _was_tried(spool: HookSpool, name: str) -> bool:
    """
    Return whether a marker was set aside because it failed too often, not as unusable.

    :raises ValueError: it is not our file.
    """
    files = spool.files
    descriptor = open_own_file(spool.failed, name, os.O_RDONLY, files)
    try:
        end = max(0, files.status(descriptor).st_size - LARGEST_MARKER)
        *_, last = files.read_at(descriptor, LARGEST_MARKER, end).rstrip(b"\n").split(b"\n")
    finally:
        files.close(descriptor)
    return b'"attempts"' in last


class _Scan:
    def __init__(self, spool: HookSpool) -> None:
        self._spool = spool
        self._temporary_errors: list[OSError] = []

    def look(self, most: int, known: Collection[str]) -> SpoolScan:
        spool = self._spool
        try:
            spool.stay_owner()
        except OSError as error:
            self._temporary_errors.append(error)
        spool.remove_withdrawn()
        waiting, owned = self._names(known)
        names = heapq.nsmallest(most + 1, owned)
        markers: list[Marker] = []
        taken: set[str] = set()
        bad: list[BadMarker] = []
        for name in names[:most]:
            try:
                marker = self._take(name)
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno in TEMPORARY_ERRORS:
                    self._temporary_errors.append(error)
                else:
                    bad.append(self._set_aside(name, error))
            else:
                # Not twice, if it had two names: see `_remove_other_names`.
                if marker is not None and marker.identity not in taken:
                    taken.add(marker.identity)
                    markers.append(marker)
        found, gone = self._find_files(markers)
        temporary = self._temporary_errors[0] if self._temporary_errors else None
        number, oldest = waiting()
        return SpoolScan(found, len(names) > most, gone, bad, number, temporary, oldest)

    def _names(
        self, known: Collection[str]
    ) -> tuple[Callable[[], tuple[int, float]], Iterator[str]]:
        """
        Return a function for the number of markers and the time of the oldest, valid after
        the second value is exhausted; and the names of the markers that we may take.
        """
        spool = self._spool
        living = {spool.owner: False}  # as if dead: our own markers may be taken
        count, oldest = 0, ""

        def owned() -> Iterator[str]:
            nonlocal count, oldest
            with spool.files.scan(spool.waiting) as names:
                for name in names:
                    match = MARKER_NAME.match(name)
                    if match is None or match[1] in spool.being_stored:
                        continue
                    count += 1
                    if not oldest or match[2] < oldest:
                        oldest = match[2]
                    if match[1] in known or match[1] in spool.stuck:
                        continue
                    owner = match[3]
                    if owner not in living:
                        living[owner] = spool.is_alive(owner)
                    if not living[owner]:
                        yield name

        return lambda: (count, int(oldest or 0) / 1000), owned()

    def _take(self, name: str) -> Marker | None:
        """
        Take a marker over.  Return None if another process was faster.

        :raises ValueError: it is not a marker.
        """
        match = MARKER_NAME.match(name)
        assert match is not None
        spool, identity = self._spool, match[1]
        ours = spool.name_of(identity)
        try:
            if name != ours:
                spool.files.replace(spool.waiting, name, spool.waiting, ours)
            marker = Marker(identity)
            try:
                spool.read(marker)
            except ValueError:
                if not self._remove_other_names(identity):
                    raise
                spool.read(marker)
        except FileNotFoundError:
            return None
        return marker

    def _remove_other_names(self, identity: str) -> bool:
        """
        Remove the names of a marker besides ours, and return whether there were any.

        A file system that does not rename atomically may leave both names of a marker that
        was taken over or moved when the machine crashed.
        """
        spool, files = self._spool, self._spool.files
        ours = spool.name_of(identity)
        status, removed = files.status_of(ours, folder=spool.waiting), False
        if status.st_nlink < 2:
            return False
        for folder in (spool.waiting, spool.failed):
            with files.scan(folder) as names:
                found = [name for name in names if name.startswith(f"{identity}.")]
            for name in found:
                if folder == spool.waiting and name == ours:
                    continue
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    if os.path.samestat(files.status_of(name, folder=folder), status):
                        files.unlink(folder, name)
                        removed = True
        return removed

    def _set_aside(self, name: str, error: Exception) -> BadMarker:
        """Move an invalid marker to ``failed/``, and append the reason to it."""
        match = MARKER_NAME.match(name)
        assert match is not None
        why = getattr(error, "strerror", None) or str(error)
        spool, ours = self._spool, self._spool.name_of(match[1])
        for present in (ours, name):  # it may have been renamed before the error
            try:
                spool.files.replace(spool.waiting, present, spool.failed, ours)
            except FileNotFoundError:
                continue
            except OSError as cannot:
                spool.stuck.add(match[1])
                return BadMarker(present, f"{why}; {cannot.strerror}", aside=False)
            with contextlib.suppress(OSError, ValueError):
                spool.note_reason(ours, why)
            break
        return BadMarker(ours, why, aside=True)

    def _find_files(self, markers: Sequence[Marker]) -> tuple[list[Marker], int]:
        """
        Find the files of markers, and remove markers that have none.

        :return: the markers that have files, and the number of markers removed.
        """
        left = [marker for marker in markers if marker.name and not marker.name_is_certain]
        unknown = self._find_names(left)
        found = [marker for marker in markers if marker.name_is_certain]
        gone = 0
        for marker in markers:
            if not marker.name_is_certain and marker not in unknown:
                try:
                    self._spool.remove(marker)
                    gone += 1
                except OSError as error:
                    self._temporary_errors.append(error)
        return found, gone

    def _find_names(self, markers: Sequence[Marker]) -> set[Marker]:
        """
        Find the names under which files were published.

        Nearly always it is the intended name.  It can be another one if other processes
        share the folder.

        :return: markers for which this cannot be determined at the moment.
        """
        spool = self._spool
        others: dict[str, list[Marker]] = {}
        unknown = set()
        for marker in markers:
            try:
                if not spool.is_at(marker, marker.name):
                    others.setdefault(_leading_digits(marker.name), []).append(marker)
            except OSError as error:
                unknown.add(marker)
                self._temporary_errors.append(error)
        if not others:
            return unknown
        with spool.files.scan(spool.final) as names:
            for name in names:
                for marker in others.get(_leading_digits(name), ()):
                    if not marker.name_is_certain and spool.is_at(marker, name):
                        break
        return unknown


def _leading_digits(name: str) -> str:
    """Return the digits with which the name of a stored file begins."""
    match = _DIGITS.match(name)
    return match[0] if match is not None else ""
