"""
Pipes through which bytes go from a socket to a file inside the kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

__all__ = ["PIPE_SIZE", "Pipes"]

PIPE_SIZE = 1024 * 1024
"""Bytes that a pipe holds, where the system allows it."""


class Pipes:
    """Pipes that are used again, each by one thread at a time."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[int, int]]:
        """
        The reading and the writing end of an empty pipe.

        Leave it empty, or leave with an exception.
        """
        try:
            ends = self._idle.pop()
        except IndexError:
            ends = os.pipe2(os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # an unprivileged user has had his share
                fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        try:
            yield ends
        except BaseException:
            os.close(ends[0])
            os.close(ends[1])
            raise
        self._idle.append(ends)

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            for end in self._idle.pop():
                os.close(end)
