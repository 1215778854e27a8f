"""
A world: daemons, senders, a disk and a network, and a plan of what happens to them.
"""

from __future__ import annotations

import gc
import hashlib
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

from twisted.logger import ILogObserver, globalLogPublisher

from tests.simulation.choices import Choices
from tests.simulation.daemon import Bound, Configurations, Daemon
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.history import History
from tests.simulation.network import Network, NetworkProfile
from tests.simulation.oracles.bounds import Quiet
from tests.simulation.oracles.durability import Durability
from tests.simulation.oracles.files import PlantedFiles
from tests.simulation.oracles.log import LogWatch
from tests.simulation.oracles.outcomes import Outcomes
from tests.simulation.oracles.partials import ToldOffsets
from tests.simulation.oracles.reports import Reports
from tests.simulation.oracles.senders import Fates
from tests.simulation.process import Machine, Process
from tests.simulation.queues import CRITICAL, Queues
from tests.simulation.reasons import expected_lines, facts_of
from tests.simulation.scheduler import Scheduler
from tests.simulation.senders.scene import Scene, Sizes, Target
from tests.simulation.system import SimulatedSystem
from tests.simulation.themes import UNIX
from tests.simulation.trace import Trace
from tests.simulation.workload import TOKEN, Plan
from twisted_upload.config.configuration import Configuration
from twisted_upload.daemon.listeners import NamedEndpoint
from twisted_upload.net.endpoints import InheritedEndpoint

__all__ = ["INBOX", "World"]

INBOX = "/inbox"
RAW, HTTP = 6666, 8080

RESTART = 1.0
"""Seconds until a daemon that cannot start is started again, as a service manager does."""


class World:
    """
    A world, made from a plan; `tests.simulation.story` makes it go round.

    :param plan: what happens.
    :param configurations: makes configurations; shared by worlds.
    :ivar daemons: the living and the dead, by their place: each place has one at a time.
    :ivar visitors: other processes that use the disk of the daemons.
    """

    def __init__(
        self, plan: Plan, configurations: Configurations, *, recording: bool = False
    ) -> None:
        choices = Choices(plan.seed).fork("world")
        self.plan = plan
        self.scheduler = Scheduler(choices.fork("order"), Trace(recording=recording))
        self.choices = choices
        self.machine = Machine("receiver")
        self.disk = FileSystem(self.scheduler, choices.fork("disk"), PROFILES[plan.file_system])
        self.network = Network(
            self.scheduler, choices.fork("network"), _network_profile(plan.network)
        )
        self.history = History(lambda: self.scheduler.now)
        self.history.ends_by_idle = "finish-after-idle" in plan.options
        alone = plan.daemons == 1 and "store" not in plan.options
        self.history.repeats_once = alone and not plan.events and not plan.faults
        unix = [Target(UNIX, 0)] if "listen" in plan.options else []
        self.scene = Scene(
            self.scheduler,
            self.network,
            self.history,
            raw=[Target("127.0.0.1", RAW), *unix],
            http=[Target("127.0.0.1", HTTP)] if plan.http else [],
            addresses=[f"10.0.0.{number + 1}" for number in range(plan.addresses)],
            facts=facts_of(plan),
            sizes=Sizes(**plan.sizes) if plan.sizes else None,
        )
        self.options: dict[str, str] = _options(plan)
        self.queues = Queues(
            self.scheduler, choices.fork("queues"), self.history, self.disk, INBOX, self.options
        )
        self.files = self.queues.files
        self.offsets = ToldOffsets(self.history, self.disk, INBOX, self.files)
        self.planted = PlantedFiles(self.history, self.disk)
        self.durability: Durability | None = None
        if "no-fsync" not in self.options and "store" not in self.options:
            self.durability = Durability(self.history, self.disk, INBOX)
            self.history.on_stored = self.durability.check_told
        self.outcomes = Outcomes(self.history)
        self.quiet = Quiet(self.history, self.collect)
        self.reports = Reports(self.history, self.outcomes)
        self.fates = Fates(self.scene)
        self.log = LogWatch(self.history)
        self.log.expected = (*CRITICAL, *expected_lines(plan))
        self.daemons: list[Daemon | None] = [None] * plan.daemons
        self.visitors: list[Process] = []
        self.preemption = choices.weighted({0.0: 4, 0.01: 2, 0.05: 1, 0.3: 0.3})
        self._configurations = configurations
        self._generation = 0
        self._supervisor: Process | None = None
        self._down: dict[int, float] = {}
        self._cut: dict[int, float] = {}
        self._stopping = self._collecting = False
        self._observer = cast("ILogObserver", self._logged)
        self._plant()

    # Its beginning and end

    def __enter__(self) -> Self:
        globalLogPublisher.addObserver(self._observer)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping = True
        self.scheduler.end()
        globalLogPublisher.removeObserver(self._observer)

    def _logged(self, event: dict[str, Any]) -> None:
        """Pass on what a living process logs."""
        task = self.scheduler.current
        if not self._collecting and (task is None or task.owner.alive):
            self.log(event)

    def collect(self) -> None:
        """Collect garbage: some of it is that of earlier worlds, whose failures are not ours."""
        self._collecting = True
        gc.collect()
        self._collecting = False

    def _plant(self) -> None:
        if "tokens" in self.options:
            digest = hashlib.sha256(TOKEN.encode()).hexdigest()
            self.disk.plant("/etc/tokens", f"ours:{digest}\n".encode())
        if "journal" in self.options:
            self.disk.plant("/var/keep", b"")
        for name, content in ((".hidden", b"not ours"), ("readme.txt", b"theirs")):
            self.planted.plant(f"{INBOX}/{name}", content)
            self.files.plant([name])

    # Daemons

    @property
    def living(self) -> list[Daemon]:
        """The daemons that serve."""
        return [it for it in self.daemons if it is not None and it.serves]

    def start_all(self) -> None:
        """Start a daemon at each place that has none."""
        for place, daemon in enumerate(self.daemons):
            if daemon is None or not daemon.process.alive:
                self.start(place)

    def start(self, place: int) -> None:
        """Start a daemon at a place, if it has none; it is started again when it dies."""
        daemon = self.daemons[place]
        if self._stopping or (daemon is not None and daemon.process.alive):
            return
        self._generation += 1
        name = f"daemon{place}.{self._generation}"
        process = Process(
            self.scheduler,
            name,
            self.machine,
            preemption=self.preemption,
            limit=self.queues.descriptors,
        )
        process.on_death.append(lambda: self._died(place, process))
        self.queues.started(process)
        reactor = self.network.reactor(process)
        self.daemons[place] = Daemon(
            process,
            SimulatedSystem(
                process,
                self.disk,
                self.network,
                program=self.queues.programs.program,
                bucket=self.queues.store.bucket,
            ),
            reactor,
            self.options,
            configurations=self._configurations,
            endpoints=None if len(self.daemons) == 1 else self._inherited,
            started=self._started,
        )

    def _started(self, daemon: Daemon) -> None:
        assert daemon.service is not None
        observe = self.outcomes.observer(daemon.process.name)
        observers = [observe]
        if self.durability is not None:
            observers.append(self.durability.observer(daemon.process.name))
        for frontend in daemon.service.frontends:
            frontend.observers = (*frontend.observers, *observers)
        self.quiet.note(daemon.process)
        self.reports.started(daemon.process.name, daemon.service)

    def _died(self, place: int, process: Process) -> None:
        daemon = self.daemons[place]
        if daemon is None or daemon.process is not process:
            return
        if not daemon.ended:
            self.history.disturbances.append(self.scheduler.now)
        down = self._cut.pop(place, None)
        if down is not None:
            self.scheduler.call_soon(self.cut_power, down)
        wait = RESTART if daemon.refused else self._down.pop(place, 0.0)
        self.scheduler.call_later(wait, self.start, place)

    def _inherited(self, daemon: Daemon, configuration: Configuration) -> Bound:
        """Have a daemon share the listening sockets, as workers do."""
        supervisor = self._supervisor
        if supervisor is None:
            supervisor = self._supervisor = Process(self.scheduler, "supervisor", self.machine)
        numbers = supervisor.descriptors.things()
        if not numbers:
            for port in (RAW, HTTP)[: len(configuration.listeners)]:
                listening = self.network.socket(supervisor, socket.AF_INET)
                listening.bind(("0.0.0.0", port))
                listening.listen(1024)
            numbers = supervisor.descriptors.things()
        endpoints = []
        for name, number in zip(configuration.listeners, numbers, strict=True):
            descriptor = self.network.share(supervisor, number, daemon.process)
            endpoint = InheritedEndpoint(
                daemon.reactor,
                descriptor,
                socket.AF_INET,
                lasting=True,
                sockets=self.network.sockets(daemon.process),
            )
            endpoints.append([NamedEndpoint(name.name, endpoint)])
        return endpoints

    def kill(self, place: int, down: float) -> None:
        """Kill a daemon (SIGKILL); it is started again after some seconds."""
        daemon = self.daemons[place]
        if daemon is not None and daemon.process.alive:
            self._down[place] = down
            daemon.process.kill()

    def kill_before(self, place: int, call: str, after: int, down: float) -> None:
        """Kill a daemon at a system call to come."""
        daemon = self.daemons[place]
        if daemon is not None and daemon.process.alive:
            self._down[place] = down
            daemon.process.kill_before[call] = after

    def do_before(self, place: int, call: str, after: int, what: Callable[[], object]) -> None:
        """Do something at a system call of a daemon to come."""
        daemon = self.daemons[place]
        if daemon is not None and daemon.process.alive:
            daemon.process.do_before[call] = after, what

    def cut_before(self, place: int, call: str, after: int, down: float) -> None:
        """Cut the power at a system call of a daemon to come."""
        if place not in self._cut:
            self.kill_before(place, call, after, down)
            self._cut[place] = down

    def disarm(self) -> None:
        """Kill no daemon at a call to come: it may be long until that comes."""
        for daemon in self.daemons:
            if daemon is not None:
                daemon.process.kill_before.clear()
                daemon.process.do_before.clear()
        self._cut.clear()

    def stop(self, place: int, down: float) -> None:
        """Stop a daemon in order (SIGTERM); it is started again after some seconds."""
        self.history.stops.append(self.scheduler.now)
        daemon = self.daemons[place]
        if daemon is not None and daemon.process.alive:
            self._down[place] = down
            daemon.stop()

    def stop_all(self) -> None:
        """Stop all daemons in order, for good."""
        self._stopping = True
        for daemon in self.daemons:
            if daemon is not None and daemon.process.alive:
                daemon.stop()

    def start_again(self) -> None:
        """Start all daemons again that were stopped for good."""
        self._stopping = False
        self.start_all()

    def cut_power(self, down: float) -> None:
        """Cut the power of the machine, and compare what is on its disk."""
        self.history.disturbances.append(self.scheduler.now)
        stopping, self._stopping = self._stopping, True
        for daemon in self.daemons:
            if daemon is not None:
                daemon.process.kill()
        if self._supervisor is not None:
            self._supervisor.kill()
            self._supervisor = None
        for process in self.visitors:
            process.kill()
        self.visitors.clear()
        self._stopping = stopping
        self.queues.power_cut()
        self.disk.cut()
        self.check(cut=True)
        self.scheduler.call_later(down, self.start_all)

    def reload(self, place: int, options: Mapping[str, Any]) -> None:
        """Change options of a daemon (SIGHUP)."""
        self.options = {**self.options, **{name: str(it) for name, it in options.items()}}
        daemon = self.daemons[place]
        if daemon is not None:
            daemon.reload(self.options)

    # What must hold

    def check(self, *, cut: bool = False, deep: bool = False) -> None:
        """Compare the disk with what senders have sent and were told."""
        self.files.check(cut=cut, deep=deep)
        self.offsets.check()
        self.planted.check()
        self.queues.check(cut=cut)
        for call in self.network.hangs:
            raise self.history.wrong(f"a reactor waits for one socket: {call}")


def _options(plan: Plan) -> dict[str, str]:
    options = {"directory": INBOX, "port": str(RAW)}
    if plan.http:
        options["http"] = str(HTTP)
    flags = ("receipts", "allow-empty", "no-fsync")
    for name, value in plan.options.items():
        if name in flags:
            if value:
                options[name] = ""
        else:
            options[name] = str(value)
    return options


def _network_profile(changes: Mapping[str, Any]) -> NetworkProfile:
    given: dict[str, Any] = {
        name: tuple(it) if isinstance(it, list) else it for name, it in changes.items()
    }
    return NetworkProfile(**given)
