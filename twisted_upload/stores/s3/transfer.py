"""
Puts a file that is on disk into a bucket.
"""

from __future__ import annotations

import contextlib
import errno
from typing import BinaryIO, cast

from twisted_upload.stores.s3.bucket import MARK, SMALLEST_PART, About, IBucket
from twisted_upload.stores.s3.content import DescriptorFile
from twisted_upload.stores.s3.errors import NameTaken, ObjectStoreError
from twisted_upload.stores.s3.parts import part_size

__all__ = ["put_file"]


def put_file(bucket: IBucket, name: str, file: DescriptorFile, about: About) -> None:
    """
    Store a file as an object: with one request if it is small, in parts if it is not.

    On return, the object is stored, whole.  It may be called again for the same file, with
    the same mark, until it succeeds.  Waits for the network, and for the disk.

    :param file: open for reading.
    :param about: its mark has to be the same each time.
    :raises NameTaken: another object has this name; it has not been changed.
    :raises ObjectStoreError: it is not known to be stored; its parts have been removed, if
        the object store could be reached.
    :raises OSError: the file cannot be read, or is shorter.
    """
    size = len(file)
    if size <= SMALLEST_PART:
        bucket.put(name, [_read(file, size)], about)
    else:
        _put_parts(bucket, name, file, size, about)


def _read(file: DescriptorFile, size: int) -> bytes:
    """Read a small file."""
    pieces: list[bytes] = []
    while piece := file.read(size):
        pieces.append(piece)
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(content) < size:
        raise OSError(errno.EIO, "the file is shorter than it was")
    return content


def _put_parts(bucket: IBucket, name: str, file: DescriptorFile, size: int, about: About) -> None:
    found = bucket.head(name)
    if found is not None:  # otherwise it would be replaced: parts have no condition
        if found.size == size and found.details.get(MARK) == about.details[MARK]:
            return
        raise NameTaken(f"{bucket.name}: another object has this name")
    identity = bucket.begin(name, about)
    try:
        etags: list[str] = []
        for offset in range(0, size, part_size(1, size)):
            part = min(part_size(1, size), size - offset)
            file.seek(offset)
            content = cast("BinaryIO", file)
            etags.append(bucket.put_part(name, identity, len(etags) + 1, content, part))
        bucket.complete(name, identity, etags, size, about)
    except BaseException:
        with contextlib.suppress(ObjectStoreError):  # what remains is removed later
            bucket.abort(name, identity)
        raise
