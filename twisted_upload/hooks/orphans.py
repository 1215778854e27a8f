"""
Orphans: ``--on-upload`` programs, and their children, that survive after the
processes that supervised them have been killed.

A program and its children have the locked marker of their file open
(`twisted_upload.hooks.hook_spawner`).  The lock therefore identifies every process that
still works on the file, even if the daemon, the spawner and the program itself are
gone.

No other process is killed: no daemon (recognized by the markers' folder, which it has
open), no process of another user, and none that holds a lock of another kind.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator

from twisted_upload.hooks import hook_spawner

__all__ = ["kill_orphans"]

# A daemon recognizes the spawner of another version by this name: do not rename the file.
_STARTER = os.path.basename(hook_spawner.__file__).encode()

# See proc_pid_fdinfo(5): an exclusive lock of flock(2).
_LOCK = re.compile(rb"^lock:\s+\d+: FLOCK\s+\S+\s+WRITE\s", re.MULTILINE)
_UIDS = re.compile(rb"^Uid:\s+(\d+)\s+(\d+)\s", re.MULTILINE)


def kill_orphans(descriptor: int, folder: int) -> int:
    """
    Kill the processes that hold a file's lock, unless a daemon or a spawner is among
    them: that one ends them itself.

    :param descriptor: descriptor of the file.
    :param folder: descriptor of the folder that contains it; every daemon has this
        folder open.
    :return: the number of processes killed.
    """
    file, markers = os.fstat(descriptor), os.fstat(folder)
    holders = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    holders = [pid for pid in holders if _holds(pid, file)]
    if any(_supervises(pid, markers) for pid in holders):
        return 0
    return sum(_kill(pid, file, markers) for pid in holders)


def _kill(pid: int, file: os.stat_result, markers: os.stat_result) -> bool:
    """Kill a process, but not another one that has taken over its pid since."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False  # it has ended
    try:
        if not _is_ours(pid) or not _holds(pid, file) or _supervises(pid, markers):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def _holds(pid: int, file: os.stat_result) -> bool:
    """Return whether it holds the lock.  Having the file open, as a backup may, is not enough."""
    return any(_LOCK.search(_read(pid, f"fdinfo/{number}")) for number in _opened(pid, file))


def _supervises(pid: int, markers: os.stat_result) -> bool:
    """Return whether it is a daemon, or a daemon's spawner."""
    if pid in (os.getpid(), os.getppid()) or any(_opened(pid, markers)):
        return True
    words = _read(pid, "cmdline").split(b"\0")
    return any(os.path.basename(word) == _STARTER for word in words)


def _is_ours(pid: int) -> bool:
    """Return whether it runs as our user, even if we may inspect others' processes."""
    found = _UIDS.search(_read(pid, "status"))
    return found is not None and {int(uid) for uid in found.groups()} == {os.geteuid()}


def _opened(pid: int, file: os.stat_result) -> Iterator[str]:
    """Yield its descriptors of a file; none if it belongs to another user."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed in the meantime
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), file):
                    yield number


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
