"""
The bytes of one part of an upload, on their way to an object store: in memory, or, if there
are too many for that, in a file.

A part is collected in the reactor's thread.  It stays in memory if the memory of all uploads
is enough (`twisted_upload.stores.memory_budget`): the room for all of it is reserved before
it grows large, so that no upload ever waits for memory that another one holds.  Otherwise it
is *spilled*: written to a file on the disk of this node, within the reserve of that disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, cast

from twisted_upload.core.names import HEAD
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.stores.s3.bucket import SMALLEST_PART, Content
from twisted_upload.stores.s3.content import DescriptorFile

__all__ = ["CRUMB", "SMALL", "SPILL", "Abandoned", "CollectedPart", "Part"]

SMALL = 256 * 1024
"""Bytes that an upload may collect in memory before room is reserved for them."""

SPILL = 1024 * 1024
"""Bytes of a spilled part that are held before they are written."""

CRUMB = 1024
"""Pieces shorter than this many bytes are joined, because each separate piece takes 100
bytes of memory or more in addition to its content."""

_CHUNK = 1024 * 1024


class Abandoned(Exception):
    """Nobody waits for this upload any more."""


class Part:
    """
    One part of an upload, while it is collected.

    :param most: bytes that it may have.
    :param expected: bytes that it will have, if that is known; more are taken all the same.
    :param memory: the memory of all uploads.
    :param new_file: returns the file that it is spilled to.
    :ivar size: bytes that it has.
    :ivar waiting: bytes of them that are in memory.
    :ivar file: the file with the others, if it is spilled.
    """

    # One for each upload, of which thousands may be in flight.
    __slots__ = (
        *("_counted", "_crumbs", "_expected", "_memory", "_new_file", "_pieces", "_taken"),
        *("file", "most", "size", "waiting"),
    )

    def __init__(
        self,
        most: int,
        expected: int,
        memory: MemoryBudget,
        new_file: Callable[[], PartialFile],
    ) -> None:
        self.most = most
        self.size = 0
        self.waiting = 0
        self.file: PartialFile | None = None
        self._expected = expected
        self._memory = memory
        self._new_file = new_file
        self._counted = 0  # bytes in the memory of all: those waiting, taken, or reserved
        self._taken = 0
        self._pieces: list[bytes] = []
        self._crumbs: bytearray | None = None  # short pieces that follow `_pieces`

    @property
    def room(self) -> int:
        """How many more bytes it takes."""
        return self.most - self.size

    @property
    def held(self) -> int:
        """Bytes of it that are in memory, including those that are being written."""
        return self.waiting + self._taken

    def add(self, data: bytes) -> None:
        """Take the next bytes: at most `room`."""
        size = len(data)
        if self._pieces and size < CRUMB:
            if self._crumbs is None:
                self._crumbs = bytearray()
            self._crumbs += data
        else:
            self._gather()
            self._pieces.append(data)
        self.size += size
        self.waiting += size
        if self.held > self._counted:
            self._count()

    def _count(self) -> None:
        """Count what it holds; if that is too much, spill it."""
        if self.file is None and self.held > SMALL:
            expected = max(min(self._expected, self.most), self.held)
            if self.most <= SMALLEST_PART and self._memory.reserve(expected - self._counted):
                self._counted = expected
                return
            self.file = self._new_file()
        more, self._counted = self.held - self._counted, self.held
        if self._memory.take(more) and self.file is None:
            self.file = self._new_file()

    def _gather(self) -> None:
        if self._crumbs:
            self._pieces.append(bytes(self._crumbs))
            self._crumbs = None

    def take(self) -> list[bytes]:
        """Return what is in memory, to be written to its file; call `taken` after that."""
        self._gather()
        pieces, self._pieces = self._pieces, []
        self._taken, self.waiting = self.waiting, 0
        return pieces

    def taken(self) -> None:
        """Note that what was taken is not in memory any more."""
        self._taken = 0
        self._give_back(self._counted - self.waiting)

    def collected(self) -> CollectedPart:
        """Return it as it is now, complete; nothing is left in this object."""
        self._gather()
        self._give_back(self._counted - self.waiting)  # what was reserved, and is not needed
        whole = CollectedPart(self.size, tuple(self._pieces), self._counted, self.file)
        self._pieces, self.file = [], None
        self._counted = self.waiting = self.size = 0
        return whole

    def drop(self) -> None:
        """Forget what is in memory, except for what was taken."""
        self._pieces, self._crumbs, self.waiting = [], None, 0
        self._give_back(self._counted - self._taken)

    def _give_back(self, size: int) -> None:
        self._counted -= size
        self._memory.give_back(size)


class CollectedPart:
    """
    A part that is complete; it is sent in a thread.

    :param pieces: all of it, if it is in memory.
    :param held: bytes in memory, which count as held.
    :param file: all of it, if it is spilled.
    :ivar size: bytes that it has.
    :ivar counted: whether it counts as abandoned and still queued
        (`MemoryBudget.given_up`).
    """

    def __init__(
        self, size: int, pieces: tuple[bytes, ...], held: int, file: PartialFile | None
    ) -> None:
        self.size = size
        self.held = held
        self.counted = False
        self.file = file
        # In a list, from which either the thread or the reactor takes it.
        self._pieces = [pieces]

    def forget(self) -> bool:
        """Release its bytes, unless a thread is sending them; return whether it was not."""
        try:
            self._pieces.pop()
        except IndexError:
            return False
        return True

    # In a thread

    def open(self) -> OpenPart:
        """
        Begin to send it.

        :raises Abandoned: it was forgotten.
        """
        try:
            pieces = self._pieces.pop()
        except IndexError:
            raise Abandoned from None
        return OpenPart(self.size, pieces, self.file)


class OpenPart:
    """A part that a thread sends."""

    def __init__(self, size: int, pieces: Sequence[bytes], file: PartialFile | None) -> None:
        self.size = size
        self.pieces = pieces
        self._file = file

    def head(self) -> bytes:
        """Return its first bytes, which tell the kind of a file."""
        if self._file is not None:
            return self._read(HEAD, 0)
        head = b""
        for piece in self.pieces:
            head += piece[: HEAD - len(head)]
            if len(head) >= HEAD:
                break
        return head

    def update(self, hashed: Any) -> None:
        """Add it to a hash."""
        for piece in self.pieces:
            hashed.update(piece)
        offset = 0
        while self._file is not None and offset < self.size:
            chunk = self._read(_CHUNK, offset)
            if not chunk:
                raise OSError("a spilled part has become shorter")
            hashed.update(chunk)
            offset += len(chunk)

    def content(self) -> Content:
        """Return it as `IBucket.put_part` takes it."""
        if self._file is None:
            return self.pieces
        file = self._file
        content = DescriptorFile(file.folder.files, file.descriptor, self.size)
        return cast("BinaryIO", content)

    def _read(self, size: int, offset: int) -> bytes:
        assert self._file is not None
        return self._file.folder.files.read_at(self._file.descriptor, size, offset)
