"""
Runs one seed.
"""

from __future__ import annotations

import gc
import hashlib
import traceback
from dataclasses import dataclass, field

from tests.simulation.daemon import Configurations
from tests.simulation.history import Violation
from tests.simulation.scheduler import Deadlock
from tests.simulation.story import tell
from tests.simulation.workload import Plan
from tests.simulation.world import World

__all__ = ["Outcome", "Runner"]


COLLECT_EVERY = 3
"""Runs after which garbage is collected: soon, as long as it is in the caches of the CPU."""


@dataclass
class Outcome:
    """
    How a run has ended.

    :ivar plan: what happened in it.
    :ivar violation: the promise that was broken; empty if none was.
    :ivar where: the check that noticed it.
    :ivar uploads: attempts of all senders.
    :ivar seconds: of virtual time.
    :ivar lines: the trace, if it was recorded.
    """

    plan: Plan
    violation: str = ""
    where: str = ""
    uploads: int = 0
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The SHA-256 of the trace: the same wherever the same seed is run."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


class Runner:
    """Runs worlds, one after the other."""

    def __init__(self) -> None:
        self._configurations = Configurations()
        self._runs = 0

    def run(self, plan: Plan, *, recording: bool = False) -> Outcome:
        """
        Run a plan.

        :param recording: keep a trace of what happens.
        """
        self._runs += 1
        if self._runs % COLLECT_EVERY == 0:
            gc.collect()
        # Finalizers close files: garbage must not be collected at any moment.
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._run(plan, recording=recording)
        finally:
            if collects:
                gc.enable()

    def _run(self, plan: Plan, *, recording: bool) -> Outcome:
        outcome = Outcome(plan)
        with World(plan, self._configurations, recording=recording) as world:
            try:
                tell(world)
            except (Violation, Deadlock) as error:
                outcome.violation = str(error)
                outcome.where = _where(error)
            except Exception as error:  # of the code, or of the world: both are to be fixed
                outcome.violation = f"{type(error).__name__}: {error}"
                outcome.where = _where(error)
            if world.history.violations and not outcome.violation:
                outcome.violation = world.history.violations[0]
            outcome.uploads = len(world.history.attempts)
            outcome.seconds = world.scheduler.now
            if recording:
                outcome.lines = [*world.scheduler.trace.lines()]
        return outcome


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if "/simulation/oracles/" in frame.filename or "/twisted_upload/" in frame.filename:
            return f"{frame.filename.rpartition('/')[2].removesuffix('.py')}.{frame.name}"
    last = frames[-1]
    return f"{last.filename.rpartition('/')[2].removesuffix('.py')}.{last.name}"
