"""What is in the folders on the command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from twisted_upload.cli.patterns import Patterns

__all__ = ["Found", "Skipped", "entries", "kind_of"]


@dataclass(frozen=True, slots=True)
class Found:
    """
    A file, or, if they are wanted, a folder or a symbolic link.

    :ivar path: where it is.
    :ivar name: its path in the folder on the command line, with ``/``; empty for that
        folder itself.
    :ivar status: of it, not of what it links to.
    :ivar target: what a symbolic link contains.
    """

    path: str
    name: str
    status: os.stat_result
    target: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """
    What is not sent, although no pattern says so.

    :ivar path: where it is.
    :ivar why: one line for people.
    :ivar is_error: whether it should have been sent, and cannot be read.
    """

    path: str
    why: str
    is_error: bool


def entries(folder: str, patterns: Patterns, *, everything: bool) -> Iterator[Found | Skipped]:
    """
    Find what is in a folder, and in those inside it, in the order of the names.

    Symbolic links are not followed, except the folder itself.

    :param everything: find folders, before what is in them, and symbolic links too.
    """
    waiting = [(folder, "")]
    while waiting:
        path, name = waiting.pop()
        status = None
        try:
            status = os.stat(path) if name == "" else os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                inside = sorted(os.listdir(path), reverse=True)
            found = _found(path, name, status, everything=everything)
        except OSError as error:
            found, inside = Skipped(path, error.strerror or str(error), is_error=True), []
        is_folder = status is not None and stat.S_ISDIR(status.st_mode)
        included = name == "" or patterns.includes(name, is_folder=is_folder)
        if found is not None and (included or (is_folder and isinstance(found, Skipped))):
            yield found
        if is_folder:
            below = [(os.path.join(path, one), f"{name}/{one}".lstrip("/")) for one in inside]
            waiting += [one for one in below if not _excluded(patterns, *one)]


def _excluded(patterns: Patterns, path: str, name: str) -> bool:
    if not patterns.exclude:
        return False
    try:
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        is_folder = False
    return patterns.excludes(name, is_folder=is_folder)


def _found(
    path: str, name: str, status: os.stat_result, *, everything: bool
) -> Found | Skipped | None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return Found(path, name, status)
    if stat.S_ISDIR(mode):
        return Found(path, name, status) if everything else None
    if stat.S_ISLNK(mode) and everything:
        return Found(path, name, status, os.readlink(path))
    return Skipped(path, f"skipped: {kind_of(mode)}", is_error=False)


def kind_of(mode: int) -> str:
    """Return what a path is that is neither a file nor a folder, for people."""
    if stat.S_ISLNK(mode):
        return "a symbolic link, not followed"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
