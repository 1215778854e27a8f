"""
Removes a published file.  Everything here waits for the disk.

**Before the file of a resumable upload is removed, the name that its data had while it was
unfinished is removed, durably**: a crash may have left that name, or may bring it back
(see `twisted_upload.stores.directory.resumable_file`).  If it were the only one, the upload
would be taken for one that has not been published, and be stored a second time.
"""

from __future__ import annotations

import contextlib
import os

from twisted_upload.hooks.marked_file import remove_file
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import DATA, PARTIAL

__all__ = ["remove_published"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove_published(spool: HookSpool, marker: Marker) -> None:
    """
    Remove the file of a marker: see `remove_file`.  A resumable upload remains stored for
    its client.

    That costs one more sync, of ``.incoming/partial/``, for the file of such an upload only.

    :raises OSError: it cannot be removed.
    """
    if marker.partial:
        _remove_first_name(spool, marker)
    remove_file(spool, marker)


def _remove_first_name(spool: HookSpool, marker: Marker) -> None:
    files, name = spool.files, marker.partial + DATA
    try:
        folder = files.open(f"{INCOMING}/{PARTIAL}", _FOLDER, folder=spool.final)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            if spool.matches(marker, files.status_of(name, folder=folder)):
                files.unlink(folder, name)
        spool.sync_folder(folder)
    finally:
        files.close(folder)
