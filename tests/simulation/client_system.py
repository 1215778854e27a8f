"""
The kernel of a simulated client: what `twisted_upload.client.system.ClientSystem` is in a world.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.simulation.network.sockets import SimulatedSocket
from tests.simulation.network.stream import ERR, HUP, IN, OUT
from tests.simulation.network.unix import UnixStream
from tests.simulation.process import Process
from tests.simulation.scheduler import Event, Mutex, Scheduler
from twisted_upload.client.files import ClientFiles
from twisted_upload.client.sockets import READ, WRITE, Address, ClientSockets
from twisted_upload.client.system import ClientSystem, ICondition, IEvent, IThread

__all__ = ["SimulatedClientSystem"]

_THE_SAME = (
    *("open", "close", "duplicate", "status", "status_of", "read", "read_at", "seek"),
    *("write", "truncate", "fsync", "remove", "make_folder", "lock", "random"),
)
"""Calls that take the same arguments in both classes."""

_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+\Z")


class SimulatedClientFiles(ClientFiles):
    """
    The system calls about files.

    :param files: those of the process (`tests.simulation.filesystem.SimulatedFiles`).
    """

    can_read_at = True
    has_pipes = False

    def __init__(self, files: Any) -> None:
        self._files = files
        vars(self).update({name: getattr(files, name) for name in _THE_SAME})

    def names(self, folder: str) -> list[str]:
        """See `ClientFiles.names`."""
        descriptor = self._files.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found: list[str] = self._files.names(descriptor)
        finally:
            self._files.close(descriptor)
        return found

    def real_path(self, path: str) -> str:
        """See `ClientFiles.real_path`: there are no links."""
        return os.path.normpath(path)

    def is_blocking(self, descriptor: int) -> bool:
        """See `ClientFiles.is_blocking`."""
        return True

    def sync_folder(self, folder: str) -> None:
        """See `ClientFiles.sync_folder`."""
        descriptor = self._files.open(folder, os.O_RDONLY)
        try:
            self._files.fsync(descriptor)
        finally:
            self._files.close(descriptor)

    def replace(self, path: str, new_path: str) -> None:
        """See `ClientFiles.replace`."""
        self._files.replace(None, path, None, new_path)

    def make_folders(self, path: str, mode: int = 0o777) -> None:
        """See `ClientFiles.make_folders`."""
        above = os.path.dirname(path)
        if above != path:
            try:
                self._files.status_of(above, follow=True)
            except FileNotFoundError:
                self.make_folders(above)
        with contextlib.suppress(FileExistsError):
            self._files.make_folder(path, mode)


class SimulatedClientSockets(ClientSockets):
    """
    The system calls about sockets.

    :param network: the simulated network.
    :param address: of the machine.
    :param names: the addresses of each name of a server.
    :param files: for `send_file`.
    """

    sends_files = True

    def __init__(
        self, network: Any, process: Process, address: str, names: dict[str, list[str]], files: Any
    ) -> None:
        self._network = network
        self._process = process
        self._address = address
        self._names = names
        self._files = files

    def look_up(self, host: str, port: int, *, is_address: bool = False) -> list[Address]:
        """See `ClientSockets.look_up`."""
        process = self._process
        process.step("look up", host)
        if _IPV4.match(host):
            return [(socket.AF_INET, (host, port))]
        if not is_address:
            process.scheduler.pause(process.choices.between(0.0, 0.1))
            if host in self._names:
                return [(socket.AF_INET, (address, port)) for address in self._names[host]]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def stream(self, family: int) -> Any:
        """See `ClientSockets.stream`."""
        made = self._network.socket(self._process, family)
        if family == socket.AF_INET:
            made.thing.name = self._address, self._network.free_port()
        return made

    def pair(self) -> Any:
        """See `ClientSockets.pair`."""
        process = self._process
        process.step("socketpair")
        process.descriptors.check_room(2)
        ends: list[Any] = [UnixStream(self._network), UnixStream(self._network)]
        for end, other in (ends, ends[::-1]):
            end.other, end.connected, end.name, end.peer_name = other, True, "", ""
        return tuple(
            SimulatedSocket(self._network, process, process.descriptors.add(end)) for end in ends
        )

    def wait(self, wanted: dict[int, int], seconds: float | None) -> list[tuple[int, int]]:
        """See `ClientSockets.wait`."""
        process = self._process
        process.step("poll", *wanted)
        scheduler = process.scheduler
        things = {number: process.descriptors.get(number) for number in wanted}
        end = None if seconds is None else scheduler.now + seconds
        while True:
            ready = [
                (number, events)
                for number, thing in things.items()
                if (events := _events(thing.poll(), wanted[number]))
            ]
            left = None if end is None else end - scheduler.now
            if ready or (left is not None and left <= 0):
                return ready
            waking = _Waking(scheduler)
            for number, thing in things.items():
                thing.watch(waking, number)
            try:
                waking.event.wait(left)
            finally:
                for thing in things.values():
                    thing.unwatch(waking)

    def send_file(self, connection: int, file: int, offset: int, size: int) -> int:
        """See `ClientSockets.send_file`."""
        process = self._process
        process.step("sendfile", connection, file, offset, size)
        stream = process.descriptors.get(connection)
        room = max(1, stream.send_buffer - getattr(stream, "queued", 0))
        data = self._files.read_at(file, min(size, room), offset)
        return int(stream.send(data)) if data else 0


class _Waking:
    """Wakes a task when something has happened to a descriptor."""

    __slots__ = ("event",)

    def __init__(self, scheduler: Scheduler) -> None:
        self.event = Event(scheduler)

    def note(self, descriptor: int) -> None:
        """See `tests.simulation.network.stream.IWatcher`."""
        self.event.set()


def _events(bits: int, wanted: int) -> int:
    """Return events as `selectors` does."""
    found = 0
    if bits & (OUT | ERR | HUP):
        found |= WRITE
    if bits & (IN | ERR | HUP):
        found |= READ
    return found & wanted


class _Thread:
    """A thread that others can wait for."""

    def __init__(self, scheduler: Scheduler, function: Callable[[], object]) -> None:
        self._function = function
        self._ended = Event(scheduler)

    def run(self) -> None:
        """Do its work."""
        try:
            self._function()
        finally:
            self._ended.set()

    def join(self) -> None:
        """See `IThread.join`."""
        self._ended.wait()


class _Condition(Mutex):
    """See `ICondition`."""

    __slots__ = ("_waiting",)

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._waiting: deque[Event] = deque()

    def wait(self) -> object:
        """See `ICondition.wait`."""
        event = Event(self._scheduler)
        self._waiting.append(event)
        self.__exit__()
        event.wait()
        return self.__enter__()

    def notify(self) -> None:
        """See `ICondition.notify`."""
        if self._waiting:
            self._waiting.popleft().set()


class SimulatedClientSystem(ClientSystem):
    """
    What a simulated client asks of its kernel.

    :param disk: the file system of its machine.
    :param address: of its machine.
    :param names: the addresses of each name of a server.
    :param most: how many threads it may start.
    """

    def __init__(
        self,
        process: Process,
        disk: Any,
        network: Any,
        *,
        address: str = "10.0.0.7",
        names: dict[str, list[str]] | None = None,
        most: int = 1000,
    ) -> None:
        self._process = process
        self._scheduler = process.scheduler
        files = disk.files(process)
        self.files = SimulatedClientFiles(files)
        self.sockets = SimulatedClientSockets(network, process, address, names or {}, files)
        self._left = most

    def now(self) -> float:
        """See `ClientSystem.now`."""
        return self._process.now()

    def monotonic(self) -> float:
        """See `ClientSystem.monotonic`."""
        return self._scheduler.now + 1000.0

    def pause(self, seconds: float) -> None:
        """See `ClientSystem.pause`."""
        self._process.step("pause", seconds)
        self._scheduler.pause(max(0.0, seconds))

    def chance(self) -> float:
        """See `ClientSystem.chance`."""
        return self._process.choices.random()

    def start(self, function: Callable[[], object], name: str) -> IThread:
        """See `ClientSystem.start`."""
        self._process.step("clone", name)
        if self._left <= 0:
            raise RuntimeError("can't start new thread")
        self._left -= 1
        thread = _Thread(self._scheduler, function)
        self._scheduler.spawn(thread.run, self._process, name)
        return thread

    def mutex(self) -> AbstractContextManager[object]:
        """See `ClientSystem.mutex`."""
        return Mutex(self._scheduler)

    def event(self) -> IEvent:
        """See `ClientSystem.event`."""
        return Event(self._scheduler)

    def condition(self) -> ICondition:
        """See `ClientSystem.condition`."""
        return _Condition(self._scheduler)
