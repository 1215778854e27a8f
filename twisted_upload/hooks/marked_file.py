"""
The file of a marker.  Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os

from twisted_upload.disk.files import Files
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool

__all__ = ["digest_of", "open_file", "remove_file", "sha256_of"]

_NOT_THERE = (errno.ENOENT, errno.ELOOP, errno.ENXIO)
_CHUNK = 1024 * 1024


def open_file(spool: HookSpool, marker: Marker) -> int | None:
    """
    Open the file of a marker for reading.

    :return: its descriptor; None if it is gone, or its name now belongs to another file.
    """
    files, flags = spool.files, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = files.open(marker.name, flags, folder=spool.final)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    if spool.matches(marker, files.status(descriptor)):
        return descriptor
    files.close(descriptor)
    return None


def digest_of(descriptor: int, files: Files) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest, offset = hashlib.sha256(), 0
    while piece := files.read_at(descriptor, _CHUNK, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


def sha256_of(spool: HookSpool, marker: Marker) -> str | None:
    """
    Return the SHA-256 of the file of a marker: the one computed during the upload, if there
    is one; otherwise, that of its current content, which is noted in the marker.

    :return: None if the file is gone, or its name now belongs to another file.  The SHA-256
        of an object is always known.
    """
    if marker.url:
        return marker.sha256
    if marker.sha256 is not None:
        return marker.sha256 if _is_there(spool, marker) else None
    descriptor = open_file(spool, marker)
    if descriptor is None:
        return None
    try:
        marker.sha256 = digest_of(descriptor, spool.files)
    finally:
        spool.files.close(descriptor)
    return marker.sha256


def _is_there(spool: HookSpool, marker: Marker) -> bool:
    try:
        status = spool.files.status_of(marker.name, folder=spool.final)
    except FileNotFoundError:
        return False
    return spool.matches(marker, status)


def remove_file(spool: HookSpool, marker: Marker) -> None:
    """
    Remove the file of a marker, if its name still belongs to it.

    The folder is not synced: if the machine crashes now, the file may be back, and its
    marker may be, too.  Nothing is lost then.  With its marker, it is forwarded and removed
    again; without, it stays.

    :raises OSError: it cannot be removed.
    """
    if _is_there(spool, marker):
        with contextlib.suppress(FileNotFoundError):
            spool.files.unlink(spool.final, marker.name)
