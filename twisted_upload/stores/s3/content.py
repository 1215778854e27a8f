"""
Files as bodies of requests: those that consist of pieces, and a part of a larger file.

Both can be read again from the beginning: once to be signed, once to be sent, and once more
for each repetition.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from twisted_upload.disk.files import Files
from twisted_upload.stores.s3.bucket import Buffer, Content

__all__ = ["CHUNK", "Body", "ContentFailed", "DescriptorFile", "FilePart", "Pieces", "body_of"]

CHUNK = 256 * 1024
"""Bytes of a file that are read at a time."""


class ContentFailed(Exception):
    """
    What is to be sent cannot be read.

    :ivar error: why; it is nothing that an object store could be the cause of.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Body(io.RawIOBase):
    """
    A file of known size, in memory or on disk, that is only read.

    :param size: in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

    def __len__(self) -> int:
        """Return its size in bytes."""
        return self._size

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read again."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes: at most as many as were asked for."""
        left = self._size - self._at
        wanted = left if size is None or size < 0 else min(size, left)
        found = self._read(self._at, wanted) if wanted else b""
        self._at += len(found)
        return found

    def chunks(self) -> Iterator[Buffer]:
        """Yield all of it in order, without copying what is in memory."""
        self.seek(0)
        while chunk := self.read(CHUNK):
            yield chunk

    def _read(self, offset: int, size: int) -> bytes:
        raise NotImplementedError


class Pieces(Body):
    """A file that consists of pieces, which are not copied as a whole."""

    def __init__(self, pieces: Sequence[Buffer]) -> None:
        self._pieces = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        super().__init__(sum(map(len, self._pieces)))
        self._piece, self._begin = 0, 0  # where the piece that was read last begins

    def chunks(self) -> Iterator[Buffer]:
        """See `Body.chunks`."""
        return iter(self._pieces)

    def _read(self, offset: int, size: int) -> bytes:
        if offset < self._begin:
            self._piece, self._begin = 0, 0
        parts: list[memoryview] = []
        while size:
            piece = self._pieces[self._piece]
            if offset >= self._begin + len(piece):
                self._begin += len(piece)
                self._piece += 1
                continue
            start = offset - self._begin
            part = piece[start : start + size]
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return b"".join(parts)


class FilePart(Body):
    """
    A part of a larger file, from its position on.

    Reading it raises `ContentFailed` if the file cannot be read, or is shorter than it was.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(size)
        self._file = file
        self._from = file.tell()

    def _read(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(self._from + offset)
            found = self._file.read(size)
        except OSError as error:
            raise ContentFailed(error) from None
        if not found:
            raise ContentFailed(OSError(errno.EIO, "the file is shorter than it was"))
        return found


class DescriptorFile(Body):
    """A file that is open; its position is neither used nor changed."""

    def __init__(self, files: Files, descriptor: int, size: int) -> None:
        super().__init__(size)
        self._files = files
        self._descriptor = descriptor

    def _read(self, offset: int, size: int) -> bytes:
        return self._files.read_at(self._descriptor, size, offset)


def body_of(content: Content, size: int) -> Body:
    """
    Return a file that has this content.

    :raises ValueError: the content is in memory and has another size.
    """
    if isinstance(content, (bytes, bytearray, memoryview)):
        body: Body = Pieces([content])
    elif isinstance(content, Sequence):
        body = Pieces(cast("Sequence[Buffer]", content))
    else:
        return FilePart(content, size)
    if len(body) != size:
        raise ValueError(f"the size of a part is {len(body)}, not {size}")
    return body
