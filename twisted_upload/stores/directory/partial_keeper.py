"""
Removes partial uploads: those that have expired, from time to time, and those that have
been idle the longest, when space is short.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_upload.core.text import counted, format_size
from twisted_upload.stores.directory.file_queue import IFolderStore
from twisted_upload.stores.directory.partial_folder import Missing, PartialFolder
from twisted_upload.stores.directory.partial_scan import (
    Entry,
    free_idle,
    list_records,
    read_entries,
)
from twisted_upload.stores.directory.partials import DirectoryPartials

__all__ = ["SCAN_EVERY", "PartialKeeper"]

SCAN_EVERY = 60.0
"""Seconds between two scans."""

AT_A_TIME = 200
"""Records that a disk thread reads in one job."""


class PartialKeeper:
    """
    :param path: the drop folder, for the log.
    """

    def __init__(
        self, path: str, store: IFolderStore, partials: DirectoryPartials, clock: IReactorTime
    ) -> None:
        self._path = path
        self._store = store
        self._partials = partials
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._started = False
        self._freed: deque[str] = deque()  # by disk threads
        self._offset = store.now() - clock.seconds()

    def start(self) -> None:
        """Scan now, and from time to time until `stop` is called."""
        self._started = True
        # At a start, the time of day may be wrong too.
        self._offset = -math.inf
        self.scan()

    def stop(self) -> None:
        """Stop scanning."""
        self._started = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def scan(self) -> Deferred[None]:
        """
        Look through all uploads; remove those that have expired.

        An upload has expired only if the time of day of the scan before says so too, with
        the time that has passed since then: a clock that is wrong for a moment removes
        nothing.

        :return: fires when it has been done, even if it has failed.
        """
        return Deferred.fromCoroutine(self._scan())

    async def _scan(self) -> None:
        removed, now = 0, self._steady_now()
        try:
            before = [*self._partials.index.entries]
            at = await self._store.run(self._partials.uses.at)
            listed = await self._store.run_in_background(lambda: list_records(at))
            self._forget_freed()
            index = self._partials.index
            for key in before:
                if key not in listed:
                    index.drop(key)
            for keys in _chunks(index.changed(listed, now)):
                read = await self._read(at, keys, now)
                for key, entry in read.items():
                    if entry is not None:
                        index.put(key, entry)
                    elif key in index.entries:
                        removed += not index.entries[key].stored
                        index.drop(key)
        except Missing:
            pass
        except Exception as error:
            _log.error(
                "{path}: cannot look through the partial uploads: {error}",
                path=self._path,
                error=error,
            )
        if removed:
            _log.info(
                "{path}: removed {count}: expired",
                path=self._path,
                count=counted(removed, "partial upload"),
            )
        self._later()

    def _steady_now(self) -> float:
        seconds, before = self._clock.seconds(), self._offset
        self._offset = self._store.now() - seconds
        return seconds + min(before, self._offset)

    def _read(
        self, at: PartialFolder, keys: list[str], now: float
    ) -> Deferred[dict[str, Entry | None]]:
        pinned = self._partials.index.pinned
        return self._store.run_in_background(
            lambda: read_entries(at, (key for key in keys if key not in pinned), now)
        )

    def _later(self) -> None:
        if self._started and self._timer is None:
            self._timer = self._clock.callLater(SCAN_EVERY, self._again)

    def _again(self) -> None:
        self._timer = None
        self.scan()

    def free(self, missing: int) -> bool:
        """
        Remove idle uploads until enough space is free.  Called in a disk thread.

        :param missing: number of bytes.
        :return: whether any was removed.
        """
        try:
            self._partials.uses.close_kept()
            before = self._store.now() - self._partials.limits.spared
            pinned = self._partials.index.pinned
            freed = free_idle(self._partials.uses.at(), missing, before, pinned)
        except (Missing, OSError):
            return False
        if not freed.keys:
            return False
        self._freed.extend(freed.keys)
        _log.warn(
            "{path}: space is short: removed {count}, {size}, idle for the longest time",
            path=self._path,
            count=counted(len(freed.keys), "partial upload"),
            size=format_size(freed.size),
        )
        return True

    def _forget_freed(self) -> None:
        while self._freed:
            self._partials.index.drop(self._freed.popleft())


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), AT_A_TIME):
        yield keys[start : start + AT_A_TIME]


_log = Logger()
