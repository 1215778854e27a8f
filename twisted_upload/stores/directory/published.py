"""
What has to be done before a published file may be removed.  It waits for the disk.

**Before the file of a resumable upload is removed, the name that its data had while it was
unfinished is removed, durably**: a crash may have left that name, or may bring it back
(see `twisted_upload.stores.directory.resumable_file`).  If it were the only one, the upload
would be taken for one that has not been published, and be stored a second time.
"""

from __future__ import annotations

import contextlib
import os

from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import DATA, PARTIAL

__all__ = ["forget_first_name"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def forget_first_name(spool: HookSpool, marker: Marker) -> None:
    """
    Remove the first name of the file of a marker, if it is of a resumable upload, which
    remains stored for its client.

    Do it before the file is put anywhere, and not between that and its removal: a daemon that
    dies in between leaves a file that is put again, even if its object has been taken away.

    It costs one sync, of ``.incoming/partial/``.

    :raises OSError: it cannot be removed.
    """
    if not marker.partial:
        return
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
