"""
Reading a journal of uploads line by line, however long it is.

It consists of the current file, to which lines are appended, and older ones; ``FILE.1``
is the most recent of those.  Anything else with such a name (a directory, a named pipe,
a file without read permission) is skipped and reported.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, cast

__all__ = ["Reader", "Record", "open_journal"]

LONGEST_LINE = 64 * 1024
"""Bytes; a longer line is not a record."""

Record = dict[str, Any]

_ATTEMPTS = 20

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that are due to this process or the system, not to a file."""

NotRead = Callable[[str, str], object]
"""Called with the path of a file that cannot be read, and the reason."""


class Reader:
    """
    Reads a journal from its beginning.  Anything unreadable is skipped and counted.

    :param path: path of the current file.
    :ivar unreadable: number of lines so far that are not records.
    :ivar not_read: the files that could not be read, or not to their end, each
        with the reason.
    """

    def __init__(self, path: str) -> None:
        self.unreadable = 0
        self.not_read: dict[str, str] = {}
        self._path = path
        self._seen: tuple[int, int] | None = None  # inode and offset

    def records(self) -> Iterator[Record]:
        """
        Yield all records appended since the last call, beginning with the older files.
        A line that has no end yet is left for the next call.

        :raises OSError: the current file cannot be read, or there is no file at all.
        """
        with open_journal(self._path, self.not_read.__setitem__) as files:
            if not files:
                return
            last = files[-1]
            for file in self._unread(files):
                yield from self._records_in(file, last=file is last)
            with contextlib.suppress(*_CANNOT_READ):
                self._seen = os.fstat(last.fileno()).st_ino, last.tell()

    def _unread(self, files: Sequence[IO[bytes]]) -> Sequence[IO[bytes]]:
        """Return the files that may have more; the first is positioned where that begins."""
        if self._seen is None:
            return files
        inode, offset = self._seen
        for index, file in enumerate(files):
            stat = os.fstat(file.fileno())
            if stat.st_ino == inode:
                if isinstance(file, gzip.GzipFile):  # these are never appended to
                    return files[index + 1 :]
                if offset <= stat.st_size:  # otherwise it was truncated: start over
                    file.seek(offset)
                return files[index:]
        return files[-1:]  # the others were read before they were compressed or removed

    def _records_in(self, file: IO[bytes], *, last: bool) -> Iterator[Record]:
        """
        Yield the records of one file.

        :param last: whether it is the current file: an unfinished line is left for
            later.
        """
        lines = self._lines(file, last=last)
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except _CANNOT_READ as error:
                why = getattr(error, "strerror", None) or "it is truncated, or not a gzip file"
                self.not_read[file.name] = why
                return
            record = _record(line)
            if record is not None:
                yield record
            else:
                self.unreadable += 1

    def _lines(self, file: IO[bytes], *, last: bool) -> Iterator[bytes]:
        """Yield the lines; of a line that is too long, only a part."""
        begin = file.tell()
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE:
                    rest = line
                    while rest and not rest.endswith(b"\n"):
                        rest = file.readline(LONGEST_LINE)
                elif last:
                    file.seek(begin)
                    return
            yield line
            begin = file.tell()


_CANNOT_READ = (OSError, EOFError, zlib.error)


def _record(line: bytes) -> Record | None:
    try:
        record = _decode(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not _MOMENT.fullmatch(str(record.get("time"))):
        return None
    if not isinstance(record.get("event"), str):
        return None
    for name, value in record.items():
        if not _KINDS.get(name, _is_simple)(value):
            return None
    return record


def _number(text: str) -> float:
    """
    Parse a number with a fraction or an exponent.

    :raises ValueError: it is not finite, so JSON cannot represent it.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_decode = json.JSONDecoder(parse_float=_number, parse_constant=_number).decode

_MOMENT = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?Z"
)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1 << 63


def _is_simple(value: Any) -> bool:
    return not isinstance(value, list | dict)


_KINDS = {
    **dict.fromkeys(("listener", "peer", "name", "code"), _is_text),
    **dict.fromkeys(("original_name", "content_type", "label", "folder"), _is_text),
    **dict.fromkeys(("size", "seconds", "lines"), _is_amount),
}


@contextlib.contextmanager
def open_journal(
    path: str, not_read: NotRead = lambda path, why: None
) -> Iterator[list[IO[bytes]]]:
    """
    Open all files of a journal, including compressed ones (``FILE.2.gz``), oldest first.

    :param not_read: called for each older file that is skipped.
    :raises OSError: the current file cannot be read, or there is no file at all.
    """
    for _ in range(_ATTEMPTS):
        names = _names(path)
        if not names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        before = [_identity(name) for name in names]
        with contextlib.ExitStack() as stack:
            files: list[IO[bytes]] = []
            failed: dict[str, OSError] = {}
            for name in names:
                try:
                    files.append(stack.enter_context(_open(name)))
                except OSError as error:
                    error.filename = name
                    failed[name] = error
            if before != [_identity(name) for name in _names(path)]:
                continue  # renamed in the meantime
            for name, failure in failed.items():
                if name == path or failure.errno in _EXHAUSTED:
                    raise failure
                not_read(name, failure.strerror or str(failure))
            yield files
            return
    raise OSError(errno.EBUSY, "it keeps being renamed", path)


def _identity(name: str) -> tuple[int, int]:
    """Return device and inode of a name, which show a rename; (0, 0) if it does not exist."""
    for look in (os.stat, os.lstat):
        with contextlib.suppress(OSError):
            status = look(name)
            return status.st_dev, status.st_ino
    return 0, 0


def _names(path: str) -> list[str]:
    """Return the paths of the files that exist, oldest first."""
    folder, name = os.path.split(path)
    numbered = re.compile(re.escape(name) + r"(?:\.([0-9]{1,9})(?:\.gz)?)?")
    matches = [numbered.fullmatch(entry) for entry in os.listdir(folder or ".")]
    found = sorted((-int(match[1] or 0), match[0]) for match in matches if match is not None)
    return [os.path.join(folder, entry) for _, entry in found]


def _open(path: str) -> IO[bytes]:
    # Without O_NONBLOCK, opening a named pipe waits for a writer, perhaps forever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    file = open(path, "rb", opener=lambda *_: descriptor)  # noqa: SIM115
    return cast(IO[bytes], _Compressed(file)) if path.endswith(".gz") else file


class _Compressed(gzip.GzipFile):
    """A compressed file that also closes the underlying file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file.name, "rb", fileobj=file)
        self._below = file

    def close(self) -> None:
        """Close both files."""
        super().close()
        self._below.close()
