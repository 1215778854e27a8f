"""
The system calls about locks, and about the process itself, simulated.
"""

from __future__ import annotations

import contextlib
import errno
from contextlib import AbstractContextManager
from typing import Any

from tests.simulation.filesystem.descriptions import (
    OpenFile,
    Pipe,
    PipeEnd,
    failure,
    unlock,
)
from tests.simulation.filesystem.lookup import Lookup
from tests.simulation.scheduler import Event, Mutex
from twisted_upload.disk.file_calls import IEvent

__all__ = ["ProcessCalls"]


class ProcessCalls(Lookup):
    """Locks, claims, time, random bytes, pipes."""

    # Locks

    def lock(self, descriptor: int) -> bool:
        """See `FileCalls.lock`."""
        self._enter("lock", descriptor)
        return self._flock(self._opened(descriptor), exclusive=True)

    def lock_shared(self, descriptor: int) -> bool:
        """See `FileCalls.lock_shared`."""
        self._enter("lock_shared", descriptor)
        return self._flock(self._opened(descriptor), exclusive=False)

    def wait_for_lock(self, descriptor: int) -> None:
        """See `FileCalls.wait_for_lock`."""
        self._enter("wait_for_lock", descriptor)
        opened = self._opened(descriptor)
        while not self._flock(opened, exclusive=True):
            if opened.inode.unlocked is None:
                opened.inode.unlocked = Event(self._scheduler)
            opened.inode.unlocked.wait()

    def _flock(self, opened: OpenFile, *, exclusive: bool) -> bool:
        inode = opened.inode
        locks = inode.locks
        if not locks:
            inode.locks = {opened: exclusive}
            return True
        if locks.get(opened) == exclusive:
            return True
        if opened in locks:  # a lock that cannot be converted is lost: flock(2)
            unlock(inode, opened)
        if any(exclusive or other for other in locks.values()):
            return False
        locks[opened] = exclusive
        return True

    def unlock(self, descriptor: int) -> None:
        """See `FileCalls.unlock`."""
        self._enter("unlock", descriptor)
        opened = self._opened(descriptor)
        if opened.inode.locks and opened in opened.inode.locks:
            unlock(opened.inode, opened)

    # Claims

    def _claimant(self, descriptor: int) -> OpenFile | None:
        with contextlib.suppress(OSError):
            opened = self._opened(descriptor)
            return opened if opened.readable else None
        return None

    def claim(self, folder: int, number: int) -> None:
        """See `Files.claim`."""
        self._enter("claim", folder, number)
        opened = self._claimant(folder)
        if opened is not None:
            if opened.inode.claims is None:
                opened.inode.claims = {}
            opened.inode.claims.setdefault(opened, {})[number] = None

    def unclaim(self, folder: int, number: int | None = None) -> None:
        """See `Files.unclaim`."""
        self._enter("unclaim", folder, number)
        opened = self._claimant(folder)
        claims = opened.inode.claims if opened is not None else None
        if opened is not None and claims and opened in claims:
            if number is None:
                del claims[opened]
            else:
                claims[opened].pop(number, None)

    def is_claimed(self, folder: int, number: int | None = None) -> bool:
        """See `Files.is_claimed`."""
        self._enter("is_claimed", folder, number)
        with contextlib.suppress(OSError):
            opened = self._opened(folder)
            return any(
                other is not opened and (numbers if number is None else number in numbers)
                for other, numbers in (opened.inode.claims or {}).items()
            )
        return False

    # This process

    def user(self) -> int:
        """See `FileCalls.user`."""
        return self._user

    def now(self) -> float:
        """See `FileCalls.now`."""
        return self._time()

    def monotonic(self) -> float:
        """See `FileCalls.monotonic`."""
        return self._scheduler.now + 1000.0

    def pause(self, seconds: float) -> None:
        """See `FileCalls.pause`."""
        self._step("pause", seconds)
        self._scheduler.pause(seconds)

    def random(self, size: int) -> bytes:
        """See `FileCalls.random`."""
        return self._choices.bytes(size)

    def mutex(self) -> AbstractContextManager[object]:
        """See `FileCalls.mutex`."""
        return Mutex(self._scheduler)

    def event(self) -> IEvent:
        """See `FileCalls.event`."""
        return Event(self._scheduler)

    def pipe(self) -> tuple[int, int]:
        """See `Files.pipe`."""
        self._enter("pipe")
        self._descriptors.check_room(2)
        pipe = Pipe(self._system.profile.pipe_size)
        reading = self._descriptors.add(PipeEnd(pipe, writable=False))
        return reading, self._descriptors.add(PipeEnd(pipe, writable=True))

    def _socket(self, descriptor: int) -> Any:
        thing = self._thing(descriptor)
        if type(thing) in (OpenFile, PipeEnd):
            raise failure(errno.EINVAL)
        return thing
