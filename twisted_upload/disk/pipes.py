"""
Pipes through which bytes go from a socket to a file inside the kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

__all__ = ["PIPE_SIZE", "NoPipes", "Pipes"]

PIPE_SIZE = 1024 * 1024
"""Bytes that a pipe holds, where the system allows it."""


class NoPipes(Exception):
    """There are no descriptors for a pipe."""


class Pipes:
    """Pipes that are used again, each by one thread at a time."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[int, int]]:
        """
        The reading and the writing end of an empty pipe.

        Leave it empty, or leave with an exception.

        :raises NoPipes: there are no descriptors for one.
        """
        try:
            ends = self._idle.pop()
        except IndexError:
            try:
                ends = os.pipe2(os.O_CLOEXEC)
            except OSError as error:
                raise NoPipes(error.strerror) from error
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
