"""
When the garbage collector of a process looks for garbage, and what it looks at.
"""

from __future__ import annotations

import gc

__all__ = ["Importing", "freeze_start"]


class Importing:
    """
    With this, what is imported is not looked through, now or later: it is no garbage.

    To look through it again and again, and once more at exit, takes a tenth of the time
    in which a command starts.
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
    From now on, leave alone what there is already: modules and what is in force.

    It lives as long as the process, and to look through it again and again took
    small uploads 6 % of their processor time and held them up: the slowest of a
    hundred came after 30 ms instead of 21.  Younger objects are collected as ever.
    For the process of a daemon, once it has started.
    """
    gc.collect()
    gc.freeze()
