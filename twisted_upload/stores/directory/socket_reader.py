"""
Reads a socket inside the kernel, in a disk thread, as long as its sender sends.

The thread waits at most `A_MOMENT` for a sender that pauses or sends slowly, because it
is meant for fast senders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from twisted_upload.disk.files import PIPE_SIZE, Files
from twisted_upload.interfaces import SpliceResult

__all__ = ["LITTLE", "LONGEST", "read_socket"]

A_MOMENT = 0.002
"""Seconds for which a thread waits for the sender of a large file: returning the socket and
getting it again takes longer than a fast sender's pause."""

LITTLE = 4096
"""If fewer bytes than this were read, wait a moment for more."""

LARGE = 256 * 1024
"""If fewer bytes than this are still to be read, wait for as many as there are."""

LONGEST = 0.5
"""Maximum seconds for which a thread reads one socket; then it is available for others,
even if more bytes come."""

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
    Move the available bytes from a socket into a pipe.

    :param pipe: the write end of an empty pipe.
    :param most: maximum number of bytes.
    :param drain: called with the number of bytes in the pipe; must empty it.
    :param given_up: returns whether the upload has been abandoned.
    :param seconds: time after which to end, even if there are more bytes.
    """
    end = files.monotonic() + seconds
    size, waited = 0, False
    while size < most:
        received = _receive(files, socket, pipe, most - size)
        # Bytes that are there but cannot be read in this way, because they follow an
        # urgent mark, are not requested again.
        if received == 0 or (received == _NOTHING and waited):
            return SpliceResult(size, dry=True)
        if received == _LOST:
            return SpliceResult(size, lost=True)
        if received > 0:
            drain(received)
            size += received
        if given_up() or files.monotonic() >= end:
            break
        waited = received < LITTLE and size < most
        if waited and most - size < LARGE:
            # The socket may have been set to wait for more bytes than that.
            with contextlib.suppress(OSError):  # then it waits in vain, for a moment
                files.wake_for(socket, most - size)
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
