"""
What tests ask the kernel about processes, their own too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

__all__ = ["command_line", "gone", "no_descriptors", "open_descriptors", "state_of", "until_gone"]


def state_of(pid: int) -> str:
    """In one letter, as ``ps`` has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def command_line(pid: int) -> bytes:
    """Of a process; nothing, where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not: init may be slow to bury it."""
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
    """What this process has open in a folder, and below it; deleted files too."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sorted(path for path in found if path.startswith(os.fspath(under)))


def no_descriptors(_: int) -> None:
    """A system call that fails because the process has as many descriptors as it may."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
