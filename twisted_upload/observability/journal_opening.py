"""
Opening all files of a journal to read them: the one that is appended to, and older
ones behind it, ``FILE.1`` the youngest of them.

Whatever else bears such a name (a directory, a named pipe, a file of somebody else)
is left out, and told.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import IO, cast

__all__ = ["open_journal"]

_ATTEMPTS = 20

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What is wrong with this process, and not with a file."""

NotRead = Callable[[str, str], object]
"""Is told the path of a file that cannot be read, and why."""


@contextlib.contextmanager
def open_journal(
    path: str, not_read: NotRead = lambda path, why: None
) -> Iterator[list[IO[bytes]]]:
    """
    All files of a journal, the oldest first, open; compressed ones (``FILE.2.gz``)
    too.

    :param not_read: is told of each older file that is left out.
    :raises OSError: the file of that very name cannot be read, or there is none at
        all.
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
                continue  # renamed meanwhile
            for name, failure in failed.items():
                if name == path or failure.errno in _EXHAUSTED:
                    raise failure
                not_read(name, failure.strerror or str(failure))
            yield files
            return
    raise OSError(errno.EBUSY, "it is renamed again and again", path)


def _identity(name: str) -> tuple[int, int]:
    """Of what bears a name: another one when it is renamed; no error where it has gone."""
    for look in (os.stat, os.lstat):
        with contextlib.suppress(OSError):
            status = look(name)
            return status.st_dev, status.st_ino
    return 0, 0


def _names(path: str) -> list[str]:
    """The files that there are, the oldest first."""
    folder, name = os.path.split(path)
    numbered = re.compile(re.escape(name) + r"(?:\.([0-9]{1,9})(?:\.gz)?)?")
    matches = [numbered.fullmatch(entry) for entry in os.listdir(folder or ".")]
    found = sorted((-int(match[1] or 0), match[0]) for match in matches if match is not None)
    return [os.path.join(folder, entry) for _, entry in found]


def _open(path: str) -> IO[bytes]:
    # Nobody may ever write to a named pipe, and that would be waited for.
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
    """A compressed file that closes the one below it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file.name, "rb", fileobj=file)
        self._below = file

    def close(self) -> None:
        """Close both."""
        super().close()
        self._below.close()
