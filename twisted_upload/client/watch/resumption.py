"""
What is remembered of the uploads of a watched folder, so that none is stored twice.

An upload is remembered, durably, before its first byte is sent, and until its file is in the
record (`twisted_upload.client.watch.record`).  After a crash in between, the server is asked:
it tells how much it has, or gives the receipt again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from twisted_upload.client.content import Content
from twisted_upload.client.files import make_durable_folders
from twisted_upload.client.resume_state import ResumeState, SavedUpload
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.client.targets import Target
from twisted_upload.errors import UploadError
from twisted_upload.receipt import Metadata

__all__ = ["CannotRemember", "WatchedUploads"]


class CannotRemember(UploadError):
    """The state of the uploads cannot be used; nothing was sent."""


class _KeptUpload(SavedUpload):
    """One upload, which is remembered until `WatchedUploads.done`."""

    def _write(self) -> None:
        try:
            self.write()
            self.files.sync_folder(os.path.dirname(self.file))
        except OSError as error:
            raise CannotRemember(f"cannot write {self.file}: {error.strerror}") from error

    def forget(self) -> None:
        """Begin anew, if it goes on; what is remembered stays."""
        self.path, self.finishing = None, False

    def lost(self) -> None:
        """Remember it no more: to ask the server once more would be of no use."""
        super().forget()


class WatchedUploads(ResumeState):
    """
    The uploads of a watched folder.

    :param folder: where they are remembered.
    :param now: returns seconds since the epoch.
    :param system: what is asked of the kernel.
    :raises OSError: the folder cannot be created.
    """

    def __init__(
        self, folder: str, *, now: Callable[[], float], system: ClientSystem = SYSTEM
    ) -> None:
        super().__init__(folder, now=now, system=system)
        make_durable_folders(self.files, os.path.abspath(folder), 0o700)
        self._files: dict[str, str] = {}

    def remember(self, content: Content, target: Target, metadata: Metadata) -> SavedUpload:
        """
        See `ResumeState.remember`.

        :raises CannotRemember: that is not possible.
        """
        saved = super().remember(content, target, metadata)
        if saved is None or content.path is None:
            raise CannotRemember("the state of the uploads cannot be used")
        self._files[content.path] = saved.file
        return saved

    def saved(self, file: str, lock: Callable[[], None]) -> SavedUpload:
        """See `ResumeState.saved`."""
        return _KeptUpload(file, lock, self.files)

    def done(self, path: str) -> None:
        """
        Forget an upload: its file is in the record.

        :param path: the real path of the file.
        """
        file = self._files.pop(path, None)
        if file is not None:
            with contextlib.suppress(OSError):
                self.files.remove(file)
