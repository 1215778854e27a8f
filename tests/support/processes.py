"""
What tests ask the kernel about processes, including their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

__all__ = ["command_line", "gone", "no_descriptors", "open_descriptors", "state_of", "until_gone"]


def state_of(pid: int) -> str:
    """Return its state as one letter, as ``ps`` does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def command_line(pid: int) -> bytes:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not: init may be slow to reap it."""
    try:
        return state_of(pid) in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until_gone(pid: int) -> None:
    """Wait until a process has ended."""
    end = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < end, f"{pid} is still there"
        time.sleep(0.005)


def open_descriptors(under: os.PathLike[str] | str = "/") -> list[str]:
    """Return the paths that this process has open in and below a folder, deleted files included."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sorted(path for path in found if path.startswith(os.fspath(under)))


def no_descriptors(_: int) -> None:
    """Fail as a system call does if the process has reached its limit of file descriptors."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
