"""When the garbage collector of a process runs, and which objects it scans."""

from __future__ import annotations

import gc

__all__ = ["Importing", "freeze_start"]


class Importing:
    """
    A context manager: what is imported inside it is never scanned for garbage.

    Imported modules are no garbage.  Scanning them again and again, and once more at
    exit, takes a tenth of the time in which a command starts.
    """

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.freeze()
        if self._was_enabled:
            gc.enable()


def freeze_start() -> None:
    """
    Exclude everything that exists now, such as modules and the running configuration,
    from garbage collection.

    These objects live as long as the process.  Scanning them again and again cost small
    uploads 6 % of their CPU time and delayed them: the slowest in a hundred took 30 ms
    instead of 21 ms.  Younger objects are collected as usual.  Call it in the process
    of a daemon, once it has started.
    """
    gc.collect()
    gc.freeze()
