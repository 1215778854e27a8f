"""
Real clients in simulated processes, each on another machine with another disk.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from tests.simulation.choices import Choices
from tests.simulation.client_system import SimulatedClientSystem
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.network.tcp import TCPStream
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Killed, Scheduler
from twisted_upload.client.resume_state import ResumeState
from twisted_upload.client.sending import Upload
from twisted_upload.client.upload import start_upload
from twisted_upload.receipt import Receipt

__all__ = ["STATE", "ClientMachine", "RunningUpload"]

STATE = "/home/state"
"""Where clients remember interrupted uploads."""


class ClientMachine:
    """
    A machine on which clients run.

    :param name: for the trace.
    :param address: of the machine in the network.
    :param profile: of its file system.
    :param names: the addresses of each name of a server.
    :param preemption: how likely it is that another thread runs before a system call.
    :ivar disk: its file system.
    :ivar processes: those that have run here.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        network: Any,
        choices: Choices,
        name: str,
        *,
        address: str,
        profile: str = "ext4",
        names: dict[str, list[str]] | None = None,
        preemption: float = 0.0,
    ) -> None:
        self.scheduler = scheduler
        self.network = network
        self.name = name
        self.address = address
        self.machine = Machine(name)
        self.disk = FileSystem(scheduler, choices.fork("disk"), PROFILES[profile])
        self.disk.plant_folder("/home")
        self.processes: list[Process] = []
        self._names = names or {}
        self._preemption = preemption

    def start(self) -> Process:
        """Start a process."""
        number = len(self.processes) + 1
        process = Process(
            self.scheduler,
            f"{self.name}.{number}",
            self.machine,
            preemption=self._preemption,
        )
        self.processes.append(process)
        return process

    def system(self, process: Process) -> SimulatedClientSystem:
        """Return what a process of this machine asks of its kernel."""
        return SimulatedClientSystem(
            process, self.disk, self.network, address=self.address, names=self._names
        )

    def connections(self) -> list[TCPStream]:
        """Return the connections of its processes."""
        return [
            thing
            for process in self.processes
            for thing in process.descriptors.things().values()
            if isinstance(thing, TCPStream)
        ]

    def break_connections(self) -> None:
        """Break its connections, as a router does that has forgotten them."""
        for stream in self.connections():
            if stream.connected and not stream.dead and stream.other is not None:
                other = stream.other
                stream.break_off(errno.ECONNRESET)
                if not other.dead:
                    other.break_off(errno.ECONNRESET)

    def cut(self) -> None:
        """Cut its power: its connections end without a word, and it starts again at once."""
        for stream in self.connections():
            stream.vanish()
        for process in self.processes:
            process.kill()
        self.disk.cut()


class RunningUpload:
    """
    A process that sends one file, as a program with `twisted_upload.sync.upload` does, or one
    with Twisted.

    :param machine: on which it runs.
    :param source: a path, anything else that can be sent, or what makes it for a system.
    :param target: where to, as on the command line.
    :param ended: called a moment after the process has ended, in whatever way.
    :param resumes: whether it remembers an interrupted upload for its successor.
    :param by_twisted: whether it is sent by a program with Twisted.
    :param arguments: others of `Upload`.
    :ivar process: the process.
    :ivar receipt: what it has returned.
    :ivar error: what it has raised.
    """

    def __init__(
        self,
        machine: ClientMachine,
        source: Any,
        target: str,
        *,
        ended: Callable[[], object] = lambda: None,
        resumes: bool = False,
        by_twisted: bool = False,
        **arguments: Any,
    ) -> None:
        self.process = process = machine.start()
        self.receipt: Receipt | None = None
        self.error: Exception | None = None
        self._system = system = machine.system(process)
        state = ResumeState(STATE, system=system) if resumes else None
        source = source(system) if callable(source) else source
        self._upload = Upload(source, target, state=state, system=system, **arguments)
        self._reactor = machine.network.reactor(process) if by_twisted else None
        process.on_death.append(lambda: machine.scheduler.call_soon(ended))
        main = self._main_of_twisted if by_twisted else self._main
        machine.scheduler.spawn(main, process, "main")

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is dead."""
        return not self.process.alive

    def _main(self) -> None:
        try:
            self.receipt = self._upload.run()
        except Exception as error:
            self.error = error
        self.process.kill()

    def _main_of_twisted(self) -> None:
        reactor = self._reactor
        assert reactor is not None

        def begin() -> None:
            start_upload(self._upload, reactor).addCallbacks(succeed, fail).addBoth(stop)

        def succeed(receipt: Receipt) -> None:
            self.receipt = receipt

        def fail(failure: Failure) -> None:
            error = failure.value
            if isinstance(error, Killed):
                return
            self.error = error if isinstance(error, Exception) else RuntimeError(repr(error))

        def stop(_: object) -> None:
            reactor.stop()

        reactor.addSystemEventTrigger("after", "shutdown", self.process.kill)
        reactor.callWhenRunning(begin)
        reactor.run()
