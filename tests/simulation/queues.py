"""
What the queues of a world need: programs, an object store, and what is checked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.simulation.bucket import BucketFaults, ObjectStore
from tests.simulation.choices import Choices
from tests.simulation.filesystem import FileSystem
from tests.simulation.history import History
from tests.simulation.oracles.files import StoredFiles
from tests.simulation.oracles.objects import (
    EverythingForwarded,
    ForwardedFiles,
    Pendings,
    StoredObjects,
)
from tests.simulation.oracles.programs import ProgramRuns
from tests.simulation.process import Process
from tests.simulation.programs import WAYS, Programs
from tests.simulation.scheduler import Scheduler

__all__ = ["CRITICAL", "Queues"]

CRITICAL = ("GIVEN UP",)
"""What critical lines of the log say that have their reason: a program fails."""

FORWARDED_WITHIN = 4.0 * 3600
"""Seconds until everything has been forwarded and every program has ended: one that was set
aside waits for an hour."""

PENDING_WITHIN = 2.0 * 3600 + 600
"""Seconds after which nothing is pending that nobody sends: the lists of an object store are
looked at every hour, for what is older than an hour."""


class Queues:
    """
    The programs and the object store of a world.

    :param options: of its daemons.
    :ivar files: what is stored: in the folder, in the object store, or in one of them.
    :ivar store: the object store; it is there even if nobody uses it.
    :ivar descriptors: how many file descriptors a daemon may have.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        choices: Choices,
        history: History,
        disk: FileSystem,
        directory: str,
        options: Mapping[str, str],
    ) -> None:
        self._scheduler = scheduler
        self._history = history
        self.store = ObjectStore(scheduler, choices.fork("objects"))
        self.base = BucketFaults(seconds=choices.pick(((0.0, 0.0), (0.0, 0.1), (0.01, 2.0))))
        self.store.faults = self.base
        self.files = StoredFiles(history, disk, directory)
        self._forwarded: EverythingForwarded | None = None
        objects = None
        if "store" in options:
            self.files = StoredObjects(history, disk, directory, self.store)
            objects = self.store.objects
        if "forward" in options:
            self.files = ForwardedFiles(history, disk, directory, self.store)
            self._forwarded = EverythingForwarded(
                history,
                disk,
                directory,
                self.store,
                removes=options.get("after-forward") == "remove",
            )
        self._pending = Pendings(history, self.store)
        self._uses_objects = "store" in options or "forward" in options
        self.descriptors = 4096 if self._uses_objects else 1024
        self._durable = "no-fsync" not in options
        self._was_cut = False
        self._programs: ProgramRuns | None = None
        if "on-upload" in options:
            attempts = int(options.get("on-upload-attempts", 6))
            self._programs = ProgramRuns(
                history, disk, directory, attempts=attempts, objects=objects
            )
        ways = {name: weight * choices.pick((0.0, 1.0, 3.0)) for name, weight in WAYS.items()}
        ways["well"] = max(ways["well"], 1.0)
        self.programs = Programs(
            scheduler,
            choices.fork("programs"),
            ways=ways,
            seconds=choices.pick(((0.0, 0.0), (0.0, 1.0), (0.0, 30.0))),
            begins=None if self._programs is None else self._programs.begins,
        )

    def started(self, process: Process) -> None:
        """Note a new process of a daemon."""
        if self._programs is not None:
            oracle = self._programs
            process.on_death.append(lambda: oracle.died(process))

    def disk_fails(self) -> None:
        """Note that the disk of the daemons fails, or has failed."""
        self.files.disk_fails = True
        if self._programs is not None:
            self._programs.disk_fails = True

    def power_cut(self) -> None:
        """End all programs; called before the disk is cut."""
        self._was_cut = True
        self.programs.power_cut()
        if self._programs is not None:
            self._programs.cut = self._scheduler.now

    def check(self, *, cut: bool = False) -> None:
        """Check what must hold at any time."""
        if self._forwarded is not None:
            self._forwarded.check()
        if cut and self._programs is not None and self._durable:
            self._programs.check_durable()

    def fail(self, faults: Mapping[str, Any]) -> None:
        """Have the object store fail from now on."""
        changes = {"seconds": self.base.seconds, **faults}
        changes["seconds"] = tuple(changes["seconds"])
        self.store.faults = BucketFaults(**changes)

    def heal(self) -> None:
        """Have the object store work."""
        self.store.faults = self.base

    def check_finally(self, collect: Callable[[], object], *, clock_is_wrong: bool = False) -> None:
        """
        Let it be quiet, until nothing waits any more.

        :param collect: collects garbage.
        :param clock_is_wrong: the clock of the machine was set by an hour or more.
        :raises Violation: something waits for too long.
        """
        run, now = self._scheduler.run, self._scheduler.now
        self.programs.ways = {"well": 1.0}
        if self._programs is not None or self._forwarded is not None:
            run(until=now + FORWARDED_WITHIN, condition=lambda: not self._waiting())
            if self._waiting():  # a folder that was replaced lets go of its markers as garbage
                collect()
                since = self._scheduler.now
                run(until=since + FORWARDED_WITHIN, condition=lambda: not self._waiting())
            run(until=self._scheduler.now + 60.0)
        if self._forwarded is not None:
            self._forwarded.check_finally(cut=self._was_cut)
        if self._programs is not None and (self._durable or not self._was_cut):
            self._programs.check_finally(self.files.visible)
        # An object store refuses all requests of a machine whose clock is as wrong as that.
        if self._uses_objects and self.store.pending and not clock_is_wrong:
            latest = max(it.began for it in self.store.pending.values())
            run(
                until=max(latest, now) + PENDING_WITHIN + 1.0,
                condition=lambda: not self.store.pending,
            )
            self._pending.check(PENDING_WITHIN)

    def _waiting(self) -> bool:
        forwarded = self._forwarded is not None and self._forwarded.waiting()
        return bool(forwarded) or (self._programs is not None and bool(self._programs.waiting()))
