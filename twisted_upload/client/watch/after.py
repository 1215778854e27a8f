"""
What becomes of a file that was stored: it stays, is deleted, or is moved.

Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from twisted_upload.client.files import ClientFiles, make_durable_folders
from twisted_upload.client.watch.folder import WatchedFolder

__all__ = ["Delete", "IAfter", "Keep", "Move"]

_MOST_NAMES = 10_000


class IAfter(Protocol):
    """What becomes of a file that was stored."""

    keeps: bool
    """Whether it stays in the folder."""

    def __call__(self, folder: WatchedFolder, path: str) -> str:
        """
        Do it.

        :param path: relative to the folder.
        :return: what was done, in words; empty if nothing was.  It is durable: the record then
            forgets the file, and it would be sent again if it came back.
        :raises OSError: it cannot be done at the moment; it is tried again.
        """


class Keep:
    """The file stays where it is."""

    keeps = True

    def __call__(self, folder: WatchedFolder, path: str) -> str:
        """See `IAfter`."""
        return ""


class Delete:
    """The file is deleted."""

    keeps = False

    def __call__(self, folder: WatchedFolder, path: str) -> str:
        """See `IAfter`."""
        with contextlib.suppress(FileNotFoundError):
            folder.files.remove(folder.absolute(path))
        _sync(folder, path)
        return "deleted"


class Move:
    """
    The file is moved to another folder, under the same relative path.  It never replaces
    another one there: it then gets a number.

    :param target: the folder, on the same file system.
    """

    keeps = False

    def __init__(self, target: str) -> None:
        self._target = target

    def __call__(self, folder: WatchedFolder, path: str) -> str:
        """See `IAfter`."""
        target = os.path.join(self._target, path)
        files, above = folder.files, os.path.dirname(target)
        if not _is_there(files, above):
            make_durable_folders(files, os.path.abspath(above))
        name = _free_name(files, target)
        with contextlib.suppress(FileNotFoundError):
            files.replace(folder.absolute(path), name)
        files.sync_folder(above)
        _sync(folder, path)
        return f"moved to {name}"


def _sync(folder: WatchedFolder, path: str) -> None:
    """Sync the folder that a file was in, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        folder.files.sync_folder(os.path.dirname(folder.absolute(path)))


def _is_there(files: ClientFiles, path: str) -> bool:
    try:
        files.status_of(path)
    except FileNotFoundError:
        return False
    return True


def _free_name(files: ClientFiles, path: str) -> str:
    """Return this path, or one with a number that nothing has."""
    stem, suffix = os.path.splitext(path)
    for number in range(_MOST_NAMES):
        name = f"{stem}-{number}{suffix}" if number else path
        if not _is_there(files, name):
            return name
    raise FileExistsError(17, "too many files of this name", path)
