"""What one command sends: a list of items, each of which is one upload."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from twisted_upload.errors import SourceFailed

if TYPE_CHECKING:
    from twisted_upload.client.tar_stream import TarStream

__all__ = [
    "STDIN",
    "ArchiveSource",
    "FailedSource",
    "FileSource",
    "Item",
    "Source",
    "StdinSource",
    "open_stdin",
]

STDIN = "-"


class Source(Protocol):
    """Where the bytes of an item come from."""

    def open(self) -> Any:
        """
        Return what `twisted_upload.upload` can send, from its beginning.

        :raises SourceFailed: it cannot be read.
        """

    def close(self) -> None:
        """Release what was opened last."""

    def can_be_read_again(self) -> bool:
        """Return whether it can be opened again after some of it has been read."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One upload.

    :ivar file: what it is called in the output: the path as given.
    :ivar name: the name that is sent along; `None` for standard input.
    :ivar size: in bytes; `None` if it is unknown.
    """

    file: str
    name: str | None
    size: int | None
    source: Source


class FileSource:
    """A file given by name; opened again for each attempt."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> str:
        """See `Source.open`."""
        return self._path

    def close(self) -> None:
        """Do nothing: what opens the path closes it."""

    def can_be_read_again(self) -> bool:
        """See `Source.can_be_read_again`."""
        try:
            return stat.S_ISREG(os.stat(self._path).st_mode)
        except OSError:
            return False


class StdinSource:
    """
    Standard input, which can be read again only if it is a file.

    :param opener: returns it; raises `SourceFailed`.
    """

    def __init__(self, opener: Callable[[], BinaryIO]) -> None:
        self._opener = opener
        self._file: BinaryIO | None = None
        self._start: int | None = None

    def open(self) -> BinaryIO:
        """See `Source.open`."""
        if self._file is None:
            self._file = self._opener()
            if self._file.seekable():
                self._start = self._file.tell()
        elif self._start is not None:
            self._file.seek(self._start)
        return self._file

    def close(self) -> None:
        """Leave it open: it belongs to the process."""

    def can_be_read_again(self) -> bool:
        """See `Source.can_be_read_again`."""
        return self._start is not None


class ArchiveSource:
    """Files and folders as one archive; its files are opened again for each attempt."""

    def __init__(self, archive: TarStream) -> None:
        self._archive = archive
        self._opened: TarStream | None = None

    def open(self) -> TarStream:
        """See `Source.open`."""
        self.close()
        self._opened = self._archive.again()
        return self._opened

    def close(self) -> None:
        """See `Source.close`."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def can_be_read_again(self) -> bool:
        """See `Source.can_be_read_again`."""
        return True


class FailedSource:
    """
    What should be sent, and cannot be read.

    :ivar why: for people.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def open(self) -> Any:
        """Raise `SourceFailed`."""
        raise SourceFailed(self.why)

    def close(self) -> None:
        """Do nothing."""

    def can_be_read_again(self) -> bool:
        """Return false."""
        return False


def open_stdin() -> BinaryIO:
    """
    Open standard input without a buffer: a thread that waits in a buffer of Python's
    would be a fatal error when the interpreter exits.

    :raises SourceFailed: there is no standard input that can be read.
    """
    if sys.stdin is None:
        raise SourceFailed("standard input is closed")
    try:
        return cast(BinaryIO, open(0, "rb", buffering=0, closefd=False))
    except OSError as error:
        raise SourceFailed("standard input cannot be read") from error
