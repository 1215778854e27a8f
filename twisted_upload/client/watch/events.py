"""
Events of a watched folder: which files were closed by their writers, or moved there.

They only save waiting: whatever is missed is found by the scans.  There are none for the
folders in the folder, and none for what another machine writes there (NFS, SMB).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from twisted.python.filepath import FilePath

__all__ = ["FolderEvents", "IFolderEvents"]


class IFolderEvents(Protocol):
    """Reports what happens in a folder."""

    def start(self) -> None:
        """Begin, if that is possible."""

    def stop(self) -> None:
        """End."""


class FolderEvents:
    """
    Reports what happens in a folder, if the system can (inotify, on Linux).

    :param path: the folder.
    :param closed: called with the name of each such file.
    """

    def __init__(self, reactor: Any, path: str, closed: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._path = path
        self._closed = closed
        self._notifier: Any = None

    def start(self) -> None:
        """Begin, if that is possible: the scans find everything without it."""
        try:
            from twisted.internet import inotify  # noqa: PLC0415 - Linux only
        except ImportError:
            return
        try:
            self._notifier = inotify.INotify(self._reactor)
            self._notifier.startReading()
            # Not the folders in it: Twisted would take the files of a new folder for closed.
            mask = inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO
            self._notifier.watch(FilePath(self._path), mask, callbacks=[self._event])
        except OSError:  # too many are watched
            self.stop()

    def stop(self) -> None:
        """End."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.loseConnection()

    def _event(self, _: object, path: FilePath[Any], mask: int) -> None:
        self._closed(os.fsdecode(path.basename()))
