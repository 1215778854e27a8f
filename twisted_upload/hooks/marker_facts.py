"""
What a file of ours may be, and what it may say.

Whatever is read here was perhaps put there by somebody else.  It is opened only
if nobody else can have written it, and each thing that it says must be of the
kind, and within the bounds, of what we write.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["MarkerFields", "open_ours"]

_LARGEST_NUMBER = 2**64 - 1
_LATEST = 2.0**40  # seconds since the epoch


def open_ours(folder: int, name: str, flags: int) -> int:
    """
    Open a file, if it can be ours.

    :param folder: descriptor of the folder that it is in, which is ours
        (`twisted_upload.disk.folders`): what we make there has the same owner.
    :raises ValueError: it cannot; the text says why.
    """
    owner = os.fstat(folder).st_uid
    # Not even opened if it is no file: that may have an effect.
    _require_ours(os.stat(name, dir_fd=folder, follow_symlinks=False), owner)
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        _require_ours(os.fstat(descriptor), owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_ours(status: os.stat_result, owner: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    if status.st_uid != owner:
        raise ValueError(f"it belongs to uid {status.st_uid}")
    if status.st_mode & 0o022:
        raise ValueError("others may write to it")
    if status.st_nlink > 1:
        raise ValueError("it has another name, too")


class MarkerFields:
    """
    What a line says, if it is one of ours.

    :raises ValueError: it is not; the text says why.
    """

    def __init__(self, line: bytes) -> None:
        try:
            self._facts: dict[str, Any] = dict(**json.loads(line, parse_constant=_no_number))
        except (ValueError, TypeError, RecursionError):
            raise ValueError("it is not JSON as we write it") from None

    def __getitem__(self, key: str) -> Any:
        try:
            return self._facts[key]
        except KeyError:
            raise ValueError(f"it has no {key}") from None

    def text(self, key: str, is_right: Callable[[str], object]) -> str:
        """A text, if it is one that we write."""
        value = self[key]
        if not isinstance(value, str) or not is_right(value):
            raise ValueError(f"its {key} is none of ours")
        return value

    def number(self, key: str) -> int:
        """A whole number that is not negative."""
        value = self[key]
        if type(value) is not int or not 0 <= value <= _LARGEST_NUMBER:
            raise ValueError(f"its {key} is none of ours")
        return value

    def seconds(self, key: str) -> float:
        """A moment: seconds since the epoch."""
        value = self[key]
        if type(value) not in (int, float) or not 0 <= value < _LATEST:
            raise ValueError(f"its {key} is none of ours")
        return float(value)


def _no_number(_: str) -> NoReturn:
    raise ValueError("it is no number")
