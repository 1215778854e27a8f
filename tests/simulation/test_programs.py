"""
Simulated programs, and what is checked of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.simulation.bucket import ObjectStore
from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.history import History, Violation
from tests.simulation.oracles.objects import EverythingForwarded, ForwardedFiles
from tests.simulation.oracles.programs import MOMENT, ProgramRuns
from tests.simulation.process import Machine, Process
from tests.simulation.programs import FATES, Program, Programs
from tests.simulation.scheduler import Scheduler
from twisted_upload.hooks.command import GRACE, HookEnd
from twisted_upload.stores.s3.bucket import MARK, About

ABOUT = About("text/plain", {MARK: "0" * 32})
NAME = "1795328130123.jpg"
MARKER = "/inbox/.on-upload/waiting/1795328130123-000000-0123456789ab.0123456789ab.json"
LIMIT = 30.0


class World:
    """A drop folder with one file, and a daemon that starts programs for it."""

    def __init__(self, **ways: float) -> None:
        self.scheduler = Scheduler(Choices("world"))
        self.disk = FileSystem(self.scheduler, Choices("disk"), PROFILES["ext4"])
        self.disk.plant(f"/inbox/{NAME}", b"content")
        self.disk.plant(MARKER, b"marker", mode=0o600)
        self.history = History(lambda: self.scheduler.now)
        self.oracle = ProgramRuns(self.history, self.disk, "/inbox", attempts=3)
        self.programs = Programs(
            self.scheduler,
            Choices("programs"),
            ways=ways or {"well": 1.0},
            seconds=(1.0, 2.0),
            begins=self.oracle.begins,
        )
        self.process, self.program = self.daemon("daemon1")
        self.ends: list[HookEnd] = []
        self.told = {
            "UPLOAD_NAME": NAME,
            "UPLOAD_PATH": f"/inbox/{NAME}",
            "UPLOAD_SIZE": "7",
            "UPLOAD_SHA256": hashlib.sha256(b"content").hexdigest(),
            "UPLOAD_ATTEMPT": "1",
        }

    def daemon(self, name: str) -> tuple[Process, Program]:
        process = Process(self.scheduler, name, Machine("one"))
        process.on_death.append(lambda: self.oracle.died(process))
        listener: Any = SimpleNamespace(settings=SimpleNamespace(on_upload_timeout=LIMIT))
        return process, self.programs.program(process, listener)

    def spawn(self, process: Process, program: Program, **told: str) -> None:
        """Start a program in a thread."""

        def run() -> None:
            held = self.lock(process)
            if held is not None:
                self.ends.append(program.run({**self.told, **told}, held))
                process.descriptors.close(held)

        self.scheduler.spawn(run, process, "thread")

    def lock(self, process: Process) -> int | None:
        files = self.disk.files(process)
        descriptor = files.open(MARKER, 2)
        if files.lock(descriptor):
            return descriptor
        files.close(descriptor)
        return None

    def run(self, **told: str) -> HookEnd:
        """Start a program, and wait for its end."""
        self.spawn(self.process, self.program, **told)
        self.scheduler.run()
        return self.ends[-1]


@pytest.mark.parametrize(
    ("way", "what", "succeeded"),
    [
        ("well", "exit status 0", True),
        ("code", "exit status 1", False),
        ("signal", "killed by signal 9", False),
        ("hangs", "took longer than 30 s", False),
        ("cannot be started", "cannot be started", False),
        ("the spawner dies", "the process that starts programs has died", False),
    ],
)
def test_ends(way: str, what: str, *, succeeded: bool) -> None:
    """A program ends as its choices say; one that cannot be started uses up no attempt."""
    world = World(**{way: 1.0})
    end = world.run()
    assert (end.what, end.succeeded) == (what, succeeded)
    assert end.counts == (way != "cannot be started")
    assert (end.seconds >= LIMIT) == (way == "hangs")
    assert len(world.process.descriptors) == 0


def test_stopped() -> None:
    """A program is ended when its daemon has no more time; no other is started."""
    world = World(hangs=1.0)
    world.scheduler.call_later(3.0, world.program.stop)
    end = world.run()
    assert end.what == "stopped with the daemon"
    assert 3.0 <= end.seconds <= 3.0 + GRACE
    assert world.run().what == "stopped with the daemon"
    assert len(world.programs.runs) == 1


@pytest.mark.parametrize("fate", FATES)
def test_daemon_dies(fate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program outlives its daemon, its marker is locked; an orphan can be ended."""
    monkeypatch.setattr("tests.simulation.programs.FATES", {fate: 1.0})
    world = World(hangs=1.0)
    world.spawn(world.process, world.program)
    world.scheduler.run(until=1.0)
    world.process.kill()
    other, program = world.daemon("daemon2")
    assert world.lock(other) is None
    world.scheduler.run(until=1.0 + GRACE)
    held = world.lock(other)
    assert (held is None) == (fate == "orphan")
    if fate == "orphan":
        descriptor = world.disk.files(other).open(MARKER, 2)
        program.end_orphans(descriptor, -1)
        assert world.lock(other) is not None
    assert world.ends == []


def test_power_cut() -> None:
    """A power cut ends all programs."""
    world = World(hangs=1.0)
    world.spawn(world.process, world.program)
    world.scheduler.run(until=1.0)
    world.process.kill()
    world.programs.power_cut()
    assert world.lock(world.daemon("daemon2")[0]) is not None


@pytest.mark.parametrize(
    ("told", "violation"),
    [
        ({"UPLOAD_NAME": "other", "UPLOAD_PATH": "/inbox/other"}, "no such file"),
        ({"UPLOAD_PATH": "/inbox/other"}, "was told /inbox/other"),
        ({"UPLOAD_SIZE": "6"}, "a size of 6"),
        ({"UPLOAD_SHA256": "0" * 64}, "a wrong SHA-256"),
        ({"UPLOAD_ATTEMPT": "4"}, "is attempt 4"),
    ],
)
def test_told_wrongly(told: dict[str, str], violation: str) -> None:
    """A program is started for a file that is there, and as it is told."""
    with pytest.raises(Violation, match=violation):
        World().run(**told)


def _one_after_another(world: World, between: Callable[[], object]) -> None:
    world.run()
    between()
    world.spawn(*world.daemon("daemon2"))
    world.scheduler.run()


def test_again() -> None:
    """One that has succeeded is not started again, unless its daemon died, or after a cut."""
    world = World()
    with pytest.raises(Violation, match="has succeeded"):
        _one_after_another(world, lambda: None)
    world = World()
    _one_after_another(world, world.process.kill)

    def cut() -> None:
        world.oracle.cut = world.scheduler.now

    world = World()
    _one_after_another(world, cut)

    def late() -> None:
        world.scheduler.call_later(MOMENT + 1, world.process.kill)
        world.scheduler.run()

    world = World()
    with pytest.raises(Violation, match="has succeeded"):
        _one_after_another(world, late)


def test_put_again() -> None:
    """The program of an object that was there at a crash may succeed twice after that."""
    world = World()
    store = ObjectStore(world.scheduler, Choices("store"))
    store.put(NAME, b"content", ABOUT)
    world.oracle = ProgramRuns(world.history, world.disk, "/in", attempts=3, objects=store.objects)
    world.programs._begins = world.oracle.begins
    world.oracle.cut = world.scheduler.now
    for _ in range(2):
        world.run()
    with pytest.raises(Violation, match="has succeeded"):
        world.run()


def test_at_a_time() -> None:
    """Two are never started for one file at a time."""
    world = World(hangs=1.0)
    world.spawn(world.process, world.program)
    world.scheduler.run(until=1.0)
    world.disk.find(MARKER).locks = None  # as if nobody had locked it
    world.spawn(*world.daemon("daemon2"))
    with pytest.raises(Violation, match="while"):
        world.scheduler.run(until=2.0)


def test_what_a_program_was_told_of_stays() -> None:
    """A file that a program was told of survives a cut."""
    world = World()
    world.run()
    world.oracle.check_durable()
    world.disk.find("/inbox").entries.clear()  # type: ignore[attr-defined]
    with pytest.raises(Violation, match="a cut took away"):
        world.oracle.check_durable()


def test_finally() -> None:
    """In the end no file waits for its program, which has succeeded or was given up."""
    world = World(code=1.0)
    attempt = world.history.begin(1, "raw-whole", 7)
    attempt.complete = True
    world.history.stored(attempt, NAME)
    with pytest.raises(Violation, match="not started"):
        world.oracle.check_finally([NAME])
    waiting: Any = world.disk.find("/inbox/.on-upload/waiting")
    waiting.entries.clear()
    with pytest.raises(Violation, match="no program was told"):
        world.oracle.check_finally([NAME])
    world.disk.plant(MARKER, b"marker", mode=0o600)
    world.run()
    waiting.entries.clear()
    with pytest.raises(Violation, match="1 files without success"):
        world.oracle.check_finally([NAME])
    world.disk.plant(MARKER.replace("waiting", "failed"), b"marker")
    world.oracle.check_finally([NAME])


def test_forwarded() -> None:
    """A file is in the folder or in the object store; in the end it is an object, once."""
    world = World()
    store = ObjectStore(world.scheduler, Choices("store"))
    history, disk = world.history, world.disk
    for name in ("whole", "first"):
        attempt = history.begin(len(history.attempts) + 1, "raw-whole", 20)
        attempt.complete = True
        history.stored(attempt, name)
        disk.plant(f"/in/{name}", attempt.data())
    always = ForwardedFiles(history, disk, "/in", store)
    finally_ = EverythingForwarded(history, disk, "/in", store, removes=True)
    always.check()
    with pytest.raises(Violation, match="was not forwarded"):
        finally_.check_finally(cut=False)
    aside = "1795328130123-000000-0123456789ab.0123456789ab.json"
    disk.plant(f"/in/.forward/failed/{aside}", b"rejected, and tried again")
    assert finally_.waiting() == [aside]
    folder: Any = disk.find("/in")
    for name in ("whole", "first"):
        store.put(name, disk.content(f"/in/{name}"), ABOUT)
    with pytest.raises(Violation, match="still there"):
        finally_.check_finally(cut=False)
    assert finally_.waiting() == []
    folder.entries.clear()
    always.check()
    finally_.check()
    finally_.check_finally(cut=False)
    store.created["first"] = 2
    with pytest.raises(Violation, match="2 times"):
        finally_.check()
    del store.objects["first"]
    with pytest.raises(Violation, match="gone"):
        always.check()
