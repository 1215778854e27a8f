"""
A runner of ``--on-upload`` whose programs and threads are controlled by the test.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import implementer

from tests.support.hook_markers import hooked_folder, queue_of, store_marked
from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.orphans import kill_orphans
from twisted_upload.hooks.program import ProgramCommand
from twisted_upload.hooks.runner import HookRunner
from twisted_upload.interfaces import NO_METADATA, Metadata
from twisted_upload.observability.counters import ProgramCounts

SUCCESS = HookEnd("exit status 0", succeeded=True, seconds=0.1)
FAILURE = HookEnd("exit status 3", succeeded=False, seconds=0.1)
NOT_STARTED = HookEnd("cannot be started: x", succeeded=False, seconds=0.1, counts=False)

NAME = f"{MILLISECONDS}.bin"


class Programs:
    """
    Programs that end as they are told to: see `IHookCommand`.

    :ivar ends: how they end, by name of the file; by default they succeed.
    :ivar told: the variables that they were given.
    """

    def __init__(self) -> None:
        self.ends: dict[str, deque[HookEnd]] = defaultdict(deque)
        self.told: list[Mapping[str, str]] = []
        self.checked = 0
        self.started = False
        self.stopped = False
        self.closed = False

    def check(self) -> None:
        self.checked += 1

    def start(self) -> None:
        self.started = True

    def run(self, variables: Mapping[str, str], held: int | None = None) -> HookEnd:
        assert held is not None
        self.told.append(variables)
        ends = self.ends[variables["UPLOAD_NAME"]]
        return ends.popleft() if ends else SUCCESS

    def end_orphans(self, held: int, folder: int) -> None:
        kill_orphans(held, folder)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True

    @property
    def names(self) -> list[str]:
        """The files that they were started for."""
        return [variables["UPLOAD_NAME"] for variables in self.told]


@implementer(ILogObserver)
class Hooks:
    """A runner whose threads work when the test tells them to."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.path = path
        self.folder = hooked_folder(path)
        self.queue = queue_of(self.folder)
        self.programs = Programs()
        self.counts = ProgramCounts()
        self.threads = ManualDisk()
        self.clock = Clock()
        more = {"jobs": 2, "attempts": 3, "chance": lambda: 0.5, **more}
        self.runner = HookRunner(
            ProgramCommand(self.programs),
            self.threads,
            self.clock,
            lambda: MILLISECONDS / 1000,
            self.counts,
            **more,
        )
        self.logged: list[str] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "twisted_upload.hooks.log":
            self.logged.append(f"{event['log_level'].name}: {formatEvent(event)}")

    def start(self) -> None:
        """Start, and process what is there."""
        self.runner.start(lambda: self.queue)
        self.clock.advance(0)
        self.threads.work()

    def store(self, serial: int = 0, *, tell: bool = True, metadata: Metadata = NO_METADATA) -> str:
        """Store a file, and return its name."""
        stored, marker = store_marked(self.folder, (MILLISECONDS, serial), b"hello", metadata)
        if tell:
            self.runner.stored(self.queue, marker)
        else:
            self.queue.release(marker)
        return stored.name

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do what is due then."""
        self.clock.advance(seconds)
        self.threads.work()


@contextlib.contextmanager
def open_hooks(path: Path, **more: Any) -> Iterator[Hooks]:
    """Open a runner for the duration of a test, and collect everything that it logs."""
    hooks = Hooks(path, **more)
    globalLogPublisher.addObserver(hooks)
    try:
        yield hooks
    finally:
        globalLogPublisher.removeObserver(hooks)
        hooks.runner.stop(0)
        hooks.threads.work()
