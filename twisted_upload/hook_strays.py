"""
What is left of the programs of ``--on-upload`` when all that looked after them
has been killed.

A program, and what it starts, has the locked marker of its file open
(`twisted_upload.hook_starter`).  So whoever still works on that file can be found
by the lock, even where daemon, starter and the program itself are gone.
"""

from __future__ import annotations

import contextlib
import os
import signal

from twisted_upload import hook_starter

__all__ = ["end_strays"]

_STARTER = os.path.basename(hook_starter.__file__).encode()


def end_strays(descriptor: int) -> int:
    """
    Kill those who hold a file's lock, unless a process that starts programs is
    among them: that one sees to their end.

    :param descriptor: of the file.
    :return: how many.
    """
    strays = _holders(descriptor)
    if any(_is_starter(pid) for pid in strays):
        return 0
    for pid in strays:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(strays)


def _holders(descriptor: int) -> list[int]:
    """Who holds its lock.  To have the file open alone, as a backup may, is not enough."""
    status = os.fstat(descriptor)
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) != os.getpid() and _holds(name, status)
    ]


def _holds(process: str, wanted: os.stat_result) -> bool:
    try:
        for number in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.path.samestat(os.stat(f"/proc/{process}/fd/{number}"), wanted):
                    with open(f"/proc/{process}/fdinfo/{number}", "rb") as info:
                        if b"\nlock:" in info.read():
                            return True
    except OSError:
        pass  # it has ended, or is somebody else's
    return False


def _is_starter(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(word) == _STARTER for word in words)
