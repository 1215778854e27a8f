"""
The kernel of a simulated process, for the composition root of the real daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tests.simulation.process import Process
from tests.simulation.threads import SimulatedThreads
from twisted_upload.config.listener import Listener
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.daemon.system import System
from twisted_upload.disk.threads import DiskThreads

__all__ = ["IDisks", "INetwork", "SimulatedSystem"]


class IDisks(Protocol):
    """A simulated file system: `tests.simulation.filesystem`."""

    def files(self, process: Process) -> Any:
        """Make the system calls of a process."""


class INetwork(Protocol):
    """The simulated network: `tests.simulation.network`."""

    def sockets(self, process: Process) -> Any:
        """Make the system calls of a process."""

    def reactor(self, process: Process) -> Any:
        """Make the reactor of a process."""


class SimulatedSystem(System):
    """
    What a simulated process gets from its kernel.

    :param program: makes what starts the program of a listener.
    :param bucket: makes the client of an object store.
    """

    lag_interval = 15.0  # each look costs a turn, and nothing is late in virtual time

    def __init__(
        self,
        process: Process,
        disks: IDisks,
        network: INetwork,
        *,
        program: Callable[[Process, Listener], Any] | None = None,
        bucket: Callable[[Process, ObjectURL], Any] | None = None,
    ) -> None:
        self.process = process
        self._disks = disks
        self._network = network
        self._program = program
        self._bucket = bucket
        self._threads = SimulatedThreads(process)

    def now(self) -> float:
        """Return the time of day of its machine."""
        return self.process.now()

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        return self.process.choices.random()

    def files(self, times: Any = None) -> Any:
        """Make the system calls for its disk; nobody is told how long they take."""
        return self._disks.files(self.process)

    def threads(self, reactor: Any, size: int, name: str = "disk") -> DiskThreads:
        """Make real `DiskThreads` with simulated threads."""
        return DiskThreads(reactor, size, name, self._threads)

    def descriptors(self) -> int:
        """Return its limit of file descriptors."""
        return self.process.descriptors.limit

    def sockets(self) -> Any:
        """Make the system calls for connections."""
        return self._network.sockets(self.process)

    def hook_command(self, listener: Listener) -> Any:
        """Make what starts the program of a listener, if it has one."""
        if not listener.settings.on_upload or self._program is None:
            return None
        return self._program(self.process, listener)

    def bucket(self, url: ObjectURL, counts: Any, deadline: float) -> Any:
        """Make the client of an object store."""
        assert self._bucket is not None
        return self._bucket(self.process, url)
