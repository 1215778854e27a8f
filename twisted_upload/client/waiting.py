"""
Waiting for sockets, in whichever thread carries out a conversation, until it is stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from twisted_upload.client.sockets import READ, WRITE
from twisted_upload.client.system import SYSTEM, ClientSystem

__all__ = ["READ", "WRITE", "Stop", "Stopped", "Waiter"]


class Stopped(BaseException):
    """The conversation is to end at once: nobody waits for its result any more."""


class Stop:
    """
    Stops a conversation from another thread.

    :param system: what is asked of the kernel.
    :raises OSError: out of file descriptors.
    """

    def __init__(self, system: ClientSystem = SYSTEM) -> None:
        self.is_set = False
        self._lock = system.mutex()
        self._instead: Callable[[], object] | None = None
        self._receiver, self._sender = system.sockets.pair()
        self._sender.setblocking(False)

    def set(self) -> None:
        """Stop it; harmless if it has ended."""
        with self._lock:
            self.is_set = True
            if self._instead is not None:
                self._instead()
        with contextlib.suppress(OSError):
            self._sender.send(b"\0")

    @contextlib.contextmanager
    def during(self, instead: Callable[[], object]) -> Iterator[None]:
        """
        Enter a call that nothing can interrupt.

        :param instead: called, in the other thread, if it is stopped meanwhile.
        :raises Stopped: it was stopped before or meanwhile.
        """
        with self._lock:
            if self.is_set:
                raise Stopped
            self._instead = instead
        try:
            yield
        finally:
            with self._lock:
                self._instead = None
        if self.is_set:
            raise Stopped

    def fileno(self) -> int:
        """Return a file descriptor that is readable once it is stopped."""
        return self._receiver.fileno()

    def close(self) -> None:
        """Release its file descriptors: the conversation has ended."""
        self._receiver.close()
        self._sender.close()


class Waiter:
    """
    Waits for one socket or file at a time.

    :param stop: ends each wait; `None` if nothing does.
    :param system: what is asked of the kernel.
    :ivar system: the same.
    """

    def __init__(self, stop: Stop | None, system: ClientSystem = SYSTEM) -> None:
        self.system = system
        self._stop = stop

    def check(self) -> None:
        """:raises Stopped: if it is stopped."""
        if self._stop is not None and self._stop.is_set:
            raise Stopped

    def blocked(self, instead: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
        """See `Stop.during`."""
        return contextlib.nullcontext() if self._stop is None else self._stop.during(instead)

    def wait(self, descriptor: int | None, events: int, seconds: float | None) -> int:
        """
        Wait until one of the events is there.

        :param descriptor: `None` to wait for the time only.
        :param seconds: at most; `None` for no limit.
        :return: the events; 0 if the time is over.
        :raises Stopped: it was stopped.
        """
        return self.wait_for_one({} if descriptor is None else {descriptor: events}, seconds)[1]

    def wait_for_one(self, wanted: dict[int, int], seconds: float | None) -> tuple[int, int]:
        """
        Wait for several; return a file descriptor and its events, or -1 and 0.

        :raises Stopped: it was stopped.
        """
        self.check()
        if not wanted and self._stop is None:
            self.system.pause(seconds or 0)
            return -1, 0
        watched = wanted
        if self._stop is not None:
            watched = {**wanted, self._stop.fileno(): READ}
        for descriptor, events in self.system.sockets.wait(watched, seconds):
            if descriptor in wanted:
                return descriptor, events
        self.check()
        return -1, 0
