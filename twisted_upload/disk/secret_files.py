"""
Small files that decide who may upload: tokens and keys.

They are read only if no other user can have written them, and replaced atomically: a
reader sees the old content or the new, also after a power cut.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import TypeVar

from twisted_upload.disk.files import Files
from twisted_upload.errors import WrongConfiguration

__all__ = ["LARGEST_SECRET_FILE", "change_secret_file", "parse_secret_file", "read_secret_file"]

T = TypeVar("T")

LARGEST_SECRET_FILE = 1024 * 1024
"""Maximum size of such a file in bytes."""

LOCK_TIME, LOCK_PAUSE = 10.0, 0.02
"""Seconds to wait for another process that changes the file, and between two attempts."""

_READ = os.O_RDONLY | os.O_NONBLOCK
_NEW = os.O_RDONLY | os.O_CREAT | os.O_EXCL


def read_secret_file(path: str, files: Files, *, private: bool) -> bytes:
    """
    Read a file that belongs to us or to root, and that no other user can write to.

    :param private: other users must not be able to read it either; its group may.
    :raises OSError: it cannot be read.
    :raises ValueError: it is not such a file; the text says what to change.
    """
    descriptor = files.open(path, _READ)
    try:
        return _read(descriptor, files, private=private)
    finally:
        files.close(descriptor)


def parse_secret_file(path: str, parse: Callable[[bytes], T], files: Files, *, private: bool) -> T:
    """
    Read and parse a file that the configuration names.

    :param parse: raises `ValueError` if the content is not valid.
    :param private: see `read_secret_file`.
    :raises WrongConfiguration: it cannot be used; the text says why.
    """
    try:
        return parse(read_secret_file(path, files, private=private))
    except OSError as error:
        raise WrongConfiguration(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WrongConfiguration(f"{path}: {error}") from error


def change_secret_file(
    path: str, change: Callable[[bytes], bytes], files: Files, *, private: bool
) -> None:
    """
    Replace the content of a file; create the file if it is missing.

    It keeps its owner and its permissions; a new one is readable by all, unless it is
    private (and the umask applies).  A symbolic link stays: what it points to is replaced.

    :param change: returns the new content for the old one, which is empty if the file is
        missing; what it raises is passed on, and nothing has changed.
    :raises OSError: it cannot be read or replaced; `TimeoutError`: another process is
        changing it all the time.
    :raises ValueError: see `read_secret_file`.
    """
    path = os.path.realpath(path)
    folder = files.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        name = os.path.basename(path)
        with _locked(folder, name, 0o600 if private else 0o644, files) as (descriptor, is_new):
            try:
                content = change(_read(descriptor, files, private=private))
                _replace(folder, name, content, files.status(descriptor), files)
            except BaseException:
                if is_new:
                    files.unlink(folder, name)
                raise
    finally:
        files.close(folder)


def _read(descriptor: int, files: Files, *, private: bool) -> bytes:
    status = files.status(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    if status.st_uid not in {files.user(), 0}:
        raise ValueError(f"it belongs to uid {status.st_uid}, not to this user or root")
    if status.st_mode & 0o022:
        raise ValueError("other users may write to it: chmod go-w")
    if private and status.st_mode & 0o007:
        raise ValueError("other users may read it: chmod o-rwx")
    content = b""
    while len(content) <= LARGEST_SECRET_FILE:
        more = files.read(descriptor, LARGEST_SECRET_FILE + 1 - len(content))
        if not more:
            return content
        content += more
    raise ValueError("it is larger than 1 MiB")


@contextlib.contextmanager
def _locked(folder: int, name: str, mode: int, files: Files) -> Iterator[tuple[int, bool]]:
    """Lock the file that has this name, and still has it when it is locked."""
    deadline = files.monotonic() + LOCK_TIME
    while True:
        descriptor, is_new = _open(folder, name, mode, files)
        try:
            if files.lock(descriptor) and _has_name(descriptor, folder, name, files):
                yield descriptor, is_new
                return
        finally:
            files.close(descriptor)
        if files.monotonic() > deadline:
            raise TimeoutError(0, "another command is changing it")
        files.pause(LOCK_PAUSE)


def _open(folder: int, name: str, mode: int, files: Files) -> tuple[int, bool]:
    while True:
        with contextlib.suppress(FileNotFoundError):
            return files.open(name, _READ | os.O_NOFOLLOW, folder=folder), False
        with contextlib.suppress(FileExistsError):
            return files.open(name, _NEW, mode, folder=folder), True


def _has_name(descriptor: int, folder: int, name: str, files: Files) -> bool:
    try:
        status = files.status_of(name, folder=folder)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, files.status(descriptor))


def _replace(folder: int, name: str, content: bytes, old: os.stat_result, files: Files) -> None:
    new = f".{name}.new"  # ours, because we hold the lock of the file
    with contextlib.suppress(FileNotFoundError):
        files.unlink(folder, new)
    descriptor = files.create(folder, new, 0o600)
    try:
        status = files.status(descriptor)
        if (status.st_uid, status.st_gid) != (old.st_uid, old.st_gid):
            files.set_owner(descriptor, old.st_uid, old.st_gid)
        files.chmod(descriptor, stat.S_IMODE(old.st_mode))
        left = memoryview(content)
        while left:
            left = left[files.write(descriptor, left) :]
        files.fsync(descriptor)
        files.replace(folder, new, folder, name)
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink(folder, new)
        raise
    finally:
        files.close(descriptor)
    files.fsync(folder)
