"""
Files before they are published, committed one by one and several together.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile

MOMENT = MILLISECONDS, 0

NAME = f"{MILLISECONDS}.bin"

WRITE_BACK = 64 * 1024


class OrderedFiles(FaultyFiles):
    """
    :ivar order: the calls that were made.
    :ivar synced: what was synced.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.synced: list[str] = []

    def fsync(self, descriptor: int) -> None:
        self.synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        super().fsync(descriptor)

    def _before(self, call: str) -> int | None:
        self.order.append(call)
        return super()._before(call)


def open_faulty(
    path: Path, files: FaultyFiles, *, by_rename: bool = True, durable: bool = True
) -> Folder:
    if not by_rename:
        files.fail("rename", errno.EINVAL)
    folder = open_folder(
        str(path),
        files=files,
        suffix=lambda _: ".bin",
        mode=0o666,  # more than a umask leaves: this needs a chmod
        durable=durable,
    )
    assert folder.by_rename == by_rename
    files.calls.clear()
    return folder


def store_file(folder: Folder, *pieces: bytes, digest: bool = False) -> StoredFile:
    """Take an upload the whole way in several jobs, as the store does."""
    part = PartialFile(folder, MOMENT, digest=digest)
    try:
        for piece in pieces:
            part.append([piece])
    except BaseException:
        part.discard()
        raise
    return commit_one(folder, part, [])


def store_by_name(folder: Folder, *pieces: bytes) -> str:
    """Do the same, and return its name."""
    return store_file(folder, *pieces).name


def store_small(folder: Folder, *pieces: bytes) -> str:
    """Take an upload the whole way in one job, and return its name."""
    stored = commit_one(folder, PartialFile(folder, MOMENT, digest=True), pieces)
    assert stored.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert stored.size == len(b"".join(pieces))
    return stored.name


ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG]
