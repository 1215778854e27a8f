"""
The simulated program of ``--on-upload``: what it does, and what becomes of it when its daemon
dies.

A program is a separate process: it has inherited the locked marker of its file, which
stays locked until the program has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.simulation.choices import Choices
from tests.simulation.process import Process
from tests.simulation.scheduler import Event, Scheduler
from twisted_upload.config.listener import Listener
from twisted_upload.hooks.command import GRACE, HookEnd

__all__ = ["Program", "Programs", "Run"]

WAYS = {
    "well": 6.0,
    "code": 1.0,
    "signal": 0.3,
    "hangs": 0.3,
    "cannot be started": 0.2,
    "the spawner dies": 0.2,
}
"""How programs end, with weights."""

FATES = {"at once": 2.0, "late": 2.0, "orphan": 1.0}
"""What becomes of a program whose daemon dies: the spawner ends it, at once or after it was
asked to end; or the spawner dies, too, and nobody ends it."""


class Run:
    """
    One run of a program.

    :ivar name: of its file.
    :ivar variables: what it was told of that.
    :ivar parent: the process of its daemon.
    :ivar process: the one it is.
    :ivar began: when, in virtual seconds.
    :ivar ended: when; infinite before.
    :ivar succeeded: whether it has ended well, and its daemon could know.
    """

    __slots__ = ("began", "ended", "name", "parent", "process", "succeeded", "variables")

    def __init__(
        self, variables: Mapping[str, str], parent: Process, process: Process, began: float
    ) -> None:
        self.name = variables["UPLOAD_NAME"]
        self.variables = variables
        self.parent = parent
        self.process = process
        self.began = began
        self.ended = float("inf")
        self.succeeded = False

    def __repr__(self) -> str:
        end = f"until {self.ended:.3f}" if self.ended < float("inf") else "not ended"
        return f"<program for {self.name} of {self.parent.name}, from {self.began:.3f} {end}>"


class Programs:
    """
    The programs of all daemons.

    :param choices: decide what they do.
    :param ways: how they end, with weights; see `WAYS`.
    :param seconds: how long they take, at least and at most.
    :param begins: called when one begins; it sees what the program sees.
    :ivar runs: all of them, in order.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        choices: Choices,
        *,
        ways: Mapping[str, float] = WAYS,
        seconds: tuple[float, float] = (0.0, 2.0),
        begins: Callable[[Run], object] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.choices = choices
        self.ways = dict(ways)
        self.seconds = seconds
        self.runs: list[Run] = []
        self.orphans: dict[Run, None] = {}
        self._begins = begins

    def program(self, process: Process, listener: Listener) -> Program:
        """Return what starts programs in a daemon."""
        return Program(self, process, listener.settings.on_upload_timeout)

    def begin(self, variables: Mapping[str, str], parent: Process) -> Run:
        """Start one."""
        process = Process(
            self.scheduler, f"program{len(self.runs) + 1}", parent.machine, user=parent.user
        )
        run = Run(variables, parent, process, self.scheduler.now)
        process.on_death.append(lambda: self._ended(run))
        self.runs.append(run)
        if self._begins is not None:
            self._begins(run)
        return run

    def power_cut(self) -> None:
        """End all."""
        for run in self.runs:
            run.process.kill()

    def _ended(self, run: Run) -> None:
        run.ended = self.scheduler.now
        self.orphans.pop(run, None)

    def end_orphans(self, marker: Any) -> None:
        """End those that hold the lock of a marker and that nobody else ends."""
        for run in [*self.orphans]:
            if any(it.inode is marker.inode for it in run.process.descriptors.things().values()):
                run.process.kill()


class Program:
    """
    Starts programs in one process; see `twisted_upload.hooks.program.IProgram`.

    :param time_limit: seconds after which one is ended; 0 for no limit.
    """

    def __init__(self, programs: Programs, process: Process, time_limit: float) -> None:
        self._programs = programs
        self._process = process
        self._time_limit = time_limit
        self._stopped = Event(programs.scheduler)
        self._running: dict[Run, None] = {}
        process.on_death.append(self._dead)

    def check(self) -> None:
        """Nothing is wrong with it."""

    def start(self) -> None:
        """Start the spawner."""
        self._process.step("spawn")

    def end_orphans(self, held: int, folder: int) -> None:
        """See `IHookCommand.end_orphans`."""
        self._process.step("end orphans")
        self._programs.end_orphans(self._process.descriptors.get(held))

    def run(self, variables: Mapping[str, str], held: int | None = None) -> HookEnd:
        """Start a program, and wait until it ends."""
        process, programs = self._process, self._programs
        process.step("start a program", variables["UPLOAD_NAME"])
        choices, began = programs.choices, programs.scheduler.now
        way = choices.weighted(programs.ways)
        if self._stopped.is_set():
            return HookEnd("stopped with the daemon", succeeded=False, seconds=0.0)
        if way == "cannot be started":
            return HookEnd("cannot be started", succeeded=False, seconds=0.0, counts=False)
        run = programs.begin(variables, process)
        if held is not None:
            marker = process.descriptors.get(held)
            marker.holders += 1
            run.process.descriptors.add(marker)
        self._running[run] = None
        what = self._wait(way, choices.between(*programs.seconds))
        # Not if this process dies meanwhile: then others end the program.
        del self._running[run]
        run.succeeded = what == "exit status 0"
        run.process.kill()
        process.step("a program has ended", run.name, what)
        seconds = programs.scheduler.now - began
        return HookEnd(what, succeeded=run.succeeded, seconds=seconds)

    def _wait(self, way: str, seconds: float) -> str:
        """Wait until a program ends; return how."""
        limit = self._time_limit or float("inf")
        if way == "hangs":
            seconds = max(seconds, min(limit, 100.0))
        asked = self._stopped.wait(min(seconds, limit))
        if asked or seconds >= limit:
            self._process.scheduler.pause(self._programs.choices.between(0.0, GRACE))
            return "stopped with the daemon" if asked else f"took longer than {limit:.0f} s"
        words = {
            "code": "exit status 1",
            "signal": "killed by signal 9",
            "the spawner dies": "the process that starts programs has died",
        }
        return words.get(way, "exit status 0")

    def stop(self) -> None:
        """End all running programs, and any that is still started."""
        self._stopped.set()

    def close(self) -> None:
        """Disconnect from the spawner."""
        self._stopped.set()

    def _dead(self) -> None:
        programs = self._programs
        for run in self._running:
            fate = programs.choices.weighted(FATES)
            if fate == "orphan":
                programs.orphans[run] = None
                # Even an orphan comes to its end, but not soon.
                programs.scheduler.call_later(3600.0, run.process.kill)
            else:
                later = 0.0 if fate == "at once" else programs.choices.between(0.0, GRACE)
                programs.scheduler.call_later(later, run.process.kill)
