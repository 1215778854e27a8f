"""
The folder of partial uploads: ``.incoming/partial/``.

The files of an upload are named by its *key*, a hash of its id, so that a list of the
folder gives no id away, and nothing that was received is part of a path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import weakref

from twisted.logger import Logger

from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_private
from twisted_upload.errors import StoreFailed
from twisted_upload.stores.directory.folder import INCOMING, Folder

__all__ = [
    "COPY",
    "DATA",
    "PARTIAL",
    "RECORD",
    "DataLost",
    "InUse",
    "Missing",
    "PartialFolder",
    "key_of",
]

PARTIAL = "partial"
"""The folder of partial uploads, in ``.incoming/``."""

_REPLACED = errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM

COPY, DATA, RECORD = ".copy", ".data", ".record"
"""The suffixes of the files of an upload; ``.copy`` is data while it is being copied."""

MOST_UNNOTED = 10_000
"""Number of stored uploads that are remembered if that cannot be noted in their records."""


def key_of(identity: str) -> str:
    """Return the key of an upload."""
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


class Missing(Exception):
    """There is no such upload, or none any more."""


class InUse(Exception):
    """Another process, or another part of this one, uses the upload."""


class DataLost(Exception):
    """
    The disk has lost committed bytes of an upload, which has been removed.

    The text is for the operator.
    """


class PartialFolder:
    """
    The open folder of partial uploads.

    :param folder: the drop folder.
    :raises OSError: it cannot be used.
    :ivar descriptor: its file descriptor.
    :ivar acknowledged: the keys of uploads that are stored, durably, although that could not
        be noted in their records; at most `MOST_UNNOTED`.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.files: Files = folder.files
        self.descriptor = open_private(folder.incoming, PARTIAL, folder.files)
        self.acknowledged: set[str] = set()
        self._end = weakref.finalize(self, self.files.release, self.descriptor)

    def could_not_note(self, key: str) -> None:
        """Remember what could not be noted in the record of an upload: it is stored."""
        if len(self.acknowledged) < MOST_UNNOTED:
            self.acknowledged.add(key)

    @staticmethod
    def exists(folder: Folder) -> bool:
        """Return whether it exists, whatever it is."""
        try:
            folder.files.status_of(PARTIAL, folder=folder.incoming)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Close it, when no partial upload is in use."""
        if self._end.alive:
            self.files.unclaim(self.descriptor)
        self._end()

    @property
    def path(self) -> str:
        """Its path, for messages."""
        return f"{self.folder.path}/{INCOMING}/{PARTIAL}"

    def open_own(self, name: str) -> int:
        """
        Open a file of an upload.

        :raises FileNotFoundError: there is none.
        :raises StoreFailed: another program has replaced it: that concerns this upload only.
        """
        try:
            return self.files.open_record(self.descriptor, name, create=False)
        except OSError as error:
            if error.errno not in _REPLACED:
                raise
            raise self.spoilt(name, error) from None

    def has(self, name: str) -> bool:
        """Return whether there is a file."""
        try:
            self.files.status_of(name, folder=self.descriptor)
        except FileNotFoundError:
            return False
        return True

    def spoilt(self, name: str, error: OSError) -> StoreFailed:
        """Report what another program has done to a file, and return the answer to the client."""
        _log.error(
            "{path}: cannot use this file of a partial upload, has another program changed it? "
            "{error}",
            path=f"{self.path}/{name}",
            error=error.strerror,
        )
        return StoreFailed()

    def unpublish(self, key: str, name: str) -> None:
        """
        Take the data of an upload back from the drop folder.

        :param name: the name under which it was published.
        :raises OSError: it may still have that name.
        """
        folder, files, data = self.folder, self.files, key + DATA
        if folder.by_rename:
            files.rename(folder.final, name, self.descriptor, data)
            return
        with contextlib.suppress(FileExistsError):  # its publication was cut off
            files.link(folder.final, name, self.descriptor, data)
        files.unlink(folder.final, name)

    def remove(self, key: str) -> None:
        """
        Remove the files of an upload: first the record, since data without a record is
        nobody's.
        """
        self.acknowledged.discard(key)
        for name in key + RECORD, key + DATA:
            with contextlib.suppress(FileNotFoundError):
                self.files.unlink(self.descriptor, name)

    def sync(self) -> None:
        """Make what was created and removed in it durable."""
        if self.folder.durable:
            self.files.fsync(self.descriptor)

    def sync_unpublished(self) -> None:
        """
        Make it durable that an upload was taken back: until then, a power cut may leave its
        data the name in the drop folder, and it must not be written to, or cut off.

        :raises OSError: it may still have that name.
        """
        folder = self.folder
        if not folder.durable:
            return
        self.sync()
        try:
            self.files.fsync(folder.final)
        except OSError as error:  # which nobody else is told
            folder.sync_errors.append(error)
            raise


_log = Logger()
