"""
What the client asks of the kernel: one object, which all of it is given.

`ClientFiles` and `ClientSockets` are for files and sockets; here are time, chance, and threads.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

from twisted_upload.client.files import ClientFiles

if TYPE_CHECKING:
    from twisted_upload.client.sockets import ClientSockets

__all__ = ["SYSTEM", "ClientSystem", "ICondition", "IEvent", "IThread"]


class IThread(Protocol):
    """A thread that runs."""

    def join(self) -> None:
        """Wait until it has ended."""


class IEvent(Protocol):
    """One thread tells others that something has happened."""

    def set(self) -> None:
        """Tell them, for good."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until told, at most so many seconds; return whether we were."""


class ICondition(AbstractContextManager[object], Protocol):
    """A lock, and a way to wait for a change of what it protects."""

    def wait(self) -> object:
        """Release the lock, wait for the next `notify`, and take the lock again."""

    def notify(self) -> None:
        """Wake one thread that waits."""


class ClientSystem:
    """The real system."""

    @functools.cached_property
    def files(self) -> ClientFiles:
        """The calls about files."""
        return ClientFiles()

    @functools.cached_property
    def sockets(self) -> ClientSockets:
        """The calls about sockets; imported when they are needed."""
        from twisted_upload.client.sockets import ClientSockets  # noqa: PLC0415

        return ClientSockets()

    # Time and chance

    def now(self) -> float:
        """Return the time of day, in seconds since the epoch; it can be set."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary starting point; nobody can set them."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Block this thread for some time."""
        time.sleep(seconds)

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()  # noqa: S311 - spreads clients, and guards nothing

    # Threads

    def start(self, function: Callable[[], object], name: str) -> IThread:
        """
        Run something in a thread, for which nobody waits at the end of the program.

        :raises RuntimeError: out of threads.
        """
        thread = threading.Thread(target=function, name=name, daemon=True)
        thread.start()
        return thread

    def mutex(self) -> AbstractContextManager[object]:
        """Return a new lock between threads."""
        return threading.Lock()

    def event(self) -> IEvent:
        """Return a new event."""
        return threading.Event()

    def condition(self) -> ICondition:
        """Return a new condition."""
        return threading.Condition()


SYSTEM: Final = ClientSystem()
"""The real system; it has no state."""
