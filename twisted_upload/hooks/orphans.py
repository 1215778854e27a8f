"""
What is left of the programs of ``--on-upload`` when all that looked after them
has been killed.

A program, and what it starts, has the locked marker of its file open
(`twisted_upload.hooks.spawner`).  So whoever still works on that file can be found
by the lock, even where daemon, starter and the program itself are gone.

Nobody else is killed: no daemon, which is known by the folder of the markers that
it has open, no process of another user, and none that has a lock of another kind.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator

from twisted_upload.hooks import spawner

__all__ = ["kill_orphans"]

_STARTER = os.path.basename(spawner.__file__).encode()

# See proc_pid_fdinfo(5): an exclusive lock of flock(2).
_LOCK = re.compile(rb"^lock:\s+\d+: FLOCK\s+\S+\s+WRITE\s", re.MULTILINE)
_UIDS = re.compile(rb"^Uid:\s+(\d+)\s+(\d+)\s", re.MULTILINE)


def kill_orphans(descriptor: int, folder: int) -> int:
    """
    Kill those who hold a file's lock, unless a daemon, or a process that starts
    programs, is among them: that one sees to their end.

    :param descriptor: of the file.
    :param folder: of the folder that it is in, which every daemon has open.
    :return: how many.
    """
    file, markers = os.fstat(descriptor), os.fstat(folder)
    holders = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    holders = [pid for pid in holders if _holds(pid, file)]
    if any(_looks_after_them(pid, markers) for pid in holders):
        return 0
    return sum(_kill(pid, file, markers) for pid in holders)


def _kill(pid: int, file: os.stat_result, markers: os.stat_result) -> bool:
    """Kill a process, and nobody who has got its number since it was found."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False  # it has ended
    try:
        if not _is_ours(pid) or not _holds(pid, file) or _looks_after_them(pid, markers):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def _holds(pid: int, file: os.stat_result) -> bool:
    """Whether it holds the lock.  To have the file open alone, as a backup may, is not enough."""
    return any(_LOCK.search(_read(pid, f"fdinfo/{number}")) for number in _opened(pid, file))


def _looks_after_them(pid: int, markers: os.stat_result) -> bool:
    """Whether it is a daemon, or starts programs for one."""
    if pid in (os.getpid(), os.getppid()) or any(_opened(pid, markers)):
        return True
    words = _read(pid, "cmdline").split(b"\0")
    return any(os.path.basename(word) == _STARTER for word in words)


def _is_ours(pid: int) -> bool:
    """Whether it is one of our user, whoever may look at it."""
    found = _UIDS.search(_read(pid, "status"))
    return found is not None and {int(uid) for uid in found.groups()} == {os.geteuid()}


def _opened(pid: int, file: os.stat_result) -> Iterator[str]:
    """The descriptors with which it has a file open; none if it is somebody else's."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), file):
                    yield number


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
