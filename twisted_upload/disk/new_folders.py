"""
Folders that a start makes, and takes away again if it fails.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from twisted_upload.disk.files import Files

__all__ = ["NewFolders"]

_NEW_FOLDER_MODE = 0o750
_SETGID = 0o2000


class NewFolders:
    """
    Those of a drop folder that are not there yet.

    :param path: of the drop folder.
    :param inside: names of folders of ours that are in it, or in each other, the
        outermost first.
    """

    def __init__(self, path: str, inside: Sequence[str] = ()) -> None:
        self._drop_folder = os.path.abspath(path)
        missing = []
        folder = self._drop_folder
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        self._above = missing[::-1]
        ours = [os.path.join(self._drop_folder, name) for name in inside]
        self._inside = [folder for folder in ours if not os.path.lexists(folder)]

    def make(self, files: Files) -> None:
        """
        Create the drop folder and its parents, each durable in the one above it.

        :raises OSError: one cannot be created.
        """
        for folder in self._above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
                # The group of a setgid folder is passed on; not everybody may do that.
                inherited = os.stat(folder).st_mode & _SETGID
                with contextlib.suppress(PermissionError):
                    os.chmod(folder, _NEW_FOLDER_MODE | inherited)
            _sync_path(os.path.dirname(folder), files)

    def remove(self) -> None:
        """Remove those that are ours, and that nobody has begun to use."""
        for folder in reversed([*self._above, *self._inside]):
            with contextlib.suppress(OSError):
                if os.lstat(folder).st_uid == os.geteuid() and not _is_claimed(folder):
                    os.rmdir(folder)


def _is_claimed(path: str) -> bool:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return Files().is_claimed(folder)
    finally:
        os.close(folder)


def _sync_path(path: str, files: Files) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files.fsync(descriptor)
    finally:
        os.close(descriptor)
