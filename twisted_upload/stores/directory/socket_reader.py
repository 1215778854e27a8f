"""
Reading a socket inside the kernel, in a disk thread: for as long as its sender sends.

A sender that does not send, or bit by bit, is waited for no longer than `A_MOMENT`:
the thread is for those that do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted_upload.disk.files import PIPE_SIZE, Files
from twisted_upload.interfaces import SpliceResult

__all__ = ["LITTLE", "LONGEST", "read_socket"]

A_MOMENT = 0.002
"""Seconds for which a thread waits for the sender of a large file, because giving
the socket back, and getting it again, costs more than a fast sender takes."""

LITTLE = 4096
"""Bytes that are too few to take at a time: more are waited for, for a moment."""

LONGEST = 0.5
"""Seconds for which a thread has a socket at the most: then it is the turn of
others, whatever still comes."""

_NOTHING, _LOST = -1, -2  # instead of bytes


def read_socket(
    files: Files,
    socket: int,
    pipe: int,
    most: int,
    drain: Callable[[int], None],
    *,
    given_up: Callable[[], bool],
    seconds: float = LONGEST,
) -> SpliceResult:
    """
    Move what a socket has to give into a pipe.

    :param pipe: its writing end; the pipe is empty.
    :param most: bytes at the most.
    :param drain: called with how many bytes are in the pipe; leaves it empty.
    :param given_up: whether nobody wants them any more.
    :param seconds: after which it ends, though there may be more.
    """
    end = time.monotonic() + seconds
    size, waited = 0, False
    while size < most:
        received = _receive(files, socket, pipe, most - size)
        # Something that is there and cannot be had in this way, because it is
        # behind an urgent mark, is not asked for again.
        if received == 0 or (received == _NOTHING and waited):
            return SpliceResult(size, dry=True)
        if received == _LOST:
            return SpliceResult(size, lost=True)
        if received > 0:
            drain(received)
            size += received
        if given_up() or time.monotonic() >= end:
            break
        waited = received < LITTLE
        if waited and not files.has_more(socket, A_MOMENT):
            return SpliceResult(size, dry=True)
    return SpliceResult(size)


def _receive(files: Files, socket: int, pipe: int, most: int) -> int:
    try:
        return files.receive(socket, pipe, min(PIPE_SIZE, most))
    except BlockingIOError:
        return _NOTHING
    except OSError:
        return _LOST
