"""
System calls of a daemon that can be killed between any two of them.
"""

from __future__ import annotations

import os

from tests.support.stores import disclaim
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.stores.directory.partial_folder import DATA, RECORD

__all__ = ["Killed", "MortalFiles"]

OF_PARTIALS = DATA, RECORD


class Killed(BaseException):
    """The daemon is dead: none of its later system calls happens."""


class MortalFiles(FaultyFiles):
    """
    System calls of a daemon that can be killed between any two of them.

    :ivar calls_left: the number of calls before it dies; `None` for never.
    :ivar dead: whether it has died.
    :ivar opened: file descriptors of files.
    :ivar claimed: file descriptors of folders, and numbers claimed in them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls_left: int | None = None
        self.dead = False
        self._last_call = ""
        self.opened: set[int] = set()
        self.claimed: list[tuple[int, int]] = []

    def kill_after(self, call: str) -> None:
        """Let it die after the next call of a method."""
        self._last_call = call

    def _before(self, call: str) -> int | None:
        if call == self._last_call:
            self.calls_left = 1
        if self.calls_left is not None:
            if self.calls_left <= 0:
                self.dead = True
                raise Killed
            self.calls_left -= 1
        return super()._before(call)

    def create(self, directory: int, name: str, mode: int) -> int:
        descriptor: int = super().create(directory, name, mode)
        self.opened.add(descriptor)
        return descriptor

    def open_record(self, folder: int, name: str, create: bool) -> int:
        descriptor: int = super().open_record(folder, name, create)
        if name.endswith(OF_PARTIALS):
            self.opened.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        try:
            super().close(descriptor)
        except OSError:  # Linux closes all the same
            self.opened.discard(descriptor)
            raise
        except Killed:
            if descriptor not in self.opened:  # it is of a folder; `bury` does the rest
                os.close(descriptor)
            raise
        self.opened.discard(descriptor)

    def claim(self, folder: int, number: int) -> None:
        super().claim(folder, number)
        self.claimed.append((folder, number))

    def bury(self) -> None:
        """Do what the kernel does when a process dies."""
        self.calls_left = 0
        while self.opened:
            os.close(self.opened.pop())
        while self.claimed:
            disclaim(*self.claimed.pop())
