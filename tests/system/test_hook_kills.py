"""
What becomes of programs of ``--on-upload`` when something of ours is killed: each
ends soon, no file's program runs twice at the same time, and each file has its
program in the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.daemon import Daemon, wait_until
from tests.support.hook_markers import hooked_folder, queue_of, waiting
from tests.support.processes import command_line
from twisted_upload.hooks import hook_spawner
from twisted_upload.hooks.command import GRACE
from twisted_upload.hooks.orphans import kill_orphans
from twisted_upload.hooks.spool import HOOKS
from twisted_upload.hooks.spool_scan import scan

JOBS = 3

STARTER = os.path.basename(hook_spawner.__file__)
"""By this the processes that start programs are known."""


class Hanging:
    """
    A program that hangs, with a child that hangs, until it is allowed to end.

    Each writes down that it runs; one that finds another one for the same file
    writes that down.
    """

    def __init__(self, folder: Path, *, deaf: bool) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self._ran = folder / "ran"
        self._twice = folder / "twice"
        self._go = folder / "go"
        self._ran.touch()
        self.script = folder / "program"
        self.script.write_text(
            "#!/bin/sh\n"
            + ("trap '' TERM\n" if deaf else "")
            + f'exec 8> {folder}/"$UPLOAD_NAME.lock"\n'
            f'flock --nonblock 8 || echo "$UPLOAD_NAME" >> {self._twice}\n'
            f'echo "$UPLOAD_NAME $$" >> {self._ran}\n'
            f"[ -e {self._go} ] && exit 0\n"
            "sleep 600 & wait; wait; sleep 600\n"
        )
        self.script.chmod(0o755)

    def daemon(self, *options: str) -> Daemon:
        """A daemon that starts it."""
        return Daemon(
            self.folder, f"--on-upload={self.script}", f"--on-upload-jobs={JOBS}", *options
        )

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Each that was started: its file, and its process."""
        lines = [line.split() for line in self._ran.read_text().splitlines()]
        return [(name, int(pid)) for name, pid in lines]

    def hanging(self) -> list[str]:
        """The files of those that have not ended, a name for each."""
        return [name for name, pid in self.runs if str(self.script).encode() in command_line(pid)]

    def wait_for(self, runs: int) -> None:
        """Wait until so many have been started."""
        wait_until(lambda: len(self.runs) >= runs, f"{runs} programs")

    def let_end(self) -> None:
        """From now on they end when they are started."""
        self._go.touch()

    def finish(self) -> None:
        """Each file has its program, in peace; and none ran twice at once."""
        wait_until(lambda: waiting(self.inbox) == [], "an empty queue")
        wait_until(lambda: self.hanging() == [], "the end of all")
        assert not self._twice.exists(), self._twice.read_text()

    def clean(self) -> None:
        """Leave nothing behind, whatever has failed."""
        for _, pid in self.runs:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def hanging(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hanging]:
    hanging = Hanging(tmp_path, deaf=getattr(request, "param", False))
    yield hanging
    hanging.clean()


def starters_of(pid: int) -> list[int]:
    """The processes of a daemon, or a worker, that start programs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if STARTER.encode() in command_line(int(child))]


def test_killed_again_and_again(hanging: Hanging) -> None:
    """However often a daemon is killed, no more programs hang than one may run."""
    seen = 0
    for life in range(5):
        with hanging.daemon() as daemon:
            if not life:
                for number in range(JOBS + 2):
                    daemon.send(b"%d" % number)
            hanging.wait_for(seen + JOBS)
            seen = len(hanging.runs)
            names = hanging.hanging()
            assert len(names) == len({*names}) <= JOBS
            daemon.stop(signal.SIGKILL)
    wait_until(lambda: hanging.hanging() == [], "the end of what the last one has started")
    hanging.let_end()
    with hanging.daemon():
        hanging.finish()


@pytest.mark.parametrize("hanging", [True], indirect=True)
def test_killed_with_the_deaf(hanging: Hanging) -> None:
    """Programs that do not listen, and have no limit, end too, in the time they are given."""
    with hanging.daemon("--on-upload-timeout=0") as daemon:
        for number in range(JOBS):
            daemon.send(b"%d" % number)
        hanging.wait_for(JOBS)
        daemon.stop(signal.SIGKILL)
    killed = time.monotonic()
    hanging.let_end()
    with hanging.daemon() as daemon:
        daemon.wait_for_line("waiting for the program of a killed daemon to exit")
        assert hanging.hanging()
        hanging.finish()
        assert GRACE / 2 < time.monotonic() - killed < GRACE + 10


def test_starter_killed(hanging: Hanging) -> None:
    """When the process that starts programs is killed, so are they; another one starts them."""
    with hanging.daemon() as daemon:
        daemon.send(b"x")
        hanging.wait_for(1)
        (starter,) = starters_of(daemon.pid)
        hanging.let_end()
        os.kill(starter, signal.SIGKILL)
        hanging.finish()
        assert len(hanging.runs) == 2
        assert daemon.lines("the process that starts programs has died")


@pytest.mark.parametrize("hanging", [True, False], indirect=True)
def test_all_killed(hanging: Hanging) -> None:
    """Where all is killed at once, the next daemon ends what is left of the programs."""
    with hanging.daemon() as daemon:
        daemon.send(b"x")
        hanging.wait_for(1)
        for pid in [*starters_of(daemon.pid), daemon.pid]:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for_end()
    (_, program), *_ = hanging.runs
    wait_until(lambda: str(hanging.script).encode() not in command_line(program), "its end")
    assert in_group(program), "what it has started is left: it was not looked after"
    hanging.let_end()
    with hanging.daemon():
        hanging.finish()
    assert not in_group(program)


def test_worker_killed(hanging: Hanging) -> None:
    """What a killed worker has started ends, and another worker starts it again."""
    with hanging.daemon("--workers=2") as daemon:
        daemon.send(b"x")
        hanging.wait_for(1)
        ((_, program),) = hanging.runs
        hanging.let_end()
        for worker in daemon.workers():
            if any(program in children(starter) for starter in starters_of(worker)):
                os.kill(worker, signal.SIGKILL)
        hanging.finish()
        assert len(hanging.runs) == 2


def in_group(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == group and fields[0] not in "ZX":
                    found.append(int(name))
    return found


def children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# -- strays -------------------------------------------------------------------


@contextlib.contextmanager
def holding(
    path: Path,
    *command: str,
    kind: int | None = fcntl.LOCK_EX,
    more: Sequence[int] = (),
    user: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a file open, and perhaps its lock, and more."""
    with path.open("r+") as file:
        if kind is not None:
            fcntl.flock(file, kind)
        process = subprocess.Popen(
            command or ["sleep", "600"],
            pass_fds=[file.fileno(), *more],
            start_new_session=True,
            user=user,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    path = tmp_path / "marker"
    path.touch()
    return path


def strays(path: Path) -> int:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with path.open() as file:
            return kill_orphans(file.fileno(), folder)
    finally:
        os.close(folder)


def test_strays_are_ended(marker: Path) -> None:
    """Who holds the lock is killed."""
    with holding(marker) as stray:
        assert strays(marker) == 1
        assert stray.wait(10) == -signal.SIGKILL
    assert strays(marker) == 0


def test_readers_are_let_live(marker: Path, tmp_path: Path) -> None:
    """Who only has the file open, such as a backup, is not; nor who holds another file."""
    other = tmp_path / "other"
    other.touch()
    with holding(marker, kind=None) as reader, holding(other) as busy:
        assert strays(marker) == 0
        assert (reader.poll(), busy.poll()) == (None, None)


def test_what_is_looked_after_is_let_live(marker: Path, tmp_path: Path) -> None:
    """Where the process that started them lives, it will end them itself."""
    script = tmp_path / STARTER
    script.write_text("import subprocess; subprocess.run(['sleep', '600'], close_fds=False)")
    with holding(marker, sys.executable, str(script)) as starter:
        wait_until(lambda: children(starter.pid), "its program")
        assert strays(marker) == 0
        assert starter.poll() is None
        assert children(starter.pid)
        for pid in children(starter.pid):
            os.kill(pid, signal.SIGKILL)


def test_a_program_of_a_common_name_is_ended(marker: Path, tmp_path: Path) -> None:
    """A program that happens to be called ``spawner.py`` is killed like any other."""
    script = tmp_path / "spawner.py"
    script.write_text("import time; time.sleep(600)")
    with holding(marker, sys.executable, str(script)) as stray:
        assert strays(marker) == 1
        assert stray.wait(10) == -signal.SIGKILL


POSIX_LOCK = """
import fcntl, os, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_other_locks_are_let_live(marker: Path) -> None:
    """A lock of another kind is no program's: a shared one, or one of fcntl(2)."""
    with holding(marker, kind=fcntl.LOCK_SH) as shared:
        assert strays(marker) == 0
        assert shared.poll() is None
    command = [sys.executable, "-c", POSIX_LOCK, str(marker)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert strays(marker) == 0
        assert other.poll() is None
        other.communicate()
    assert other.returncode == 0


def test_daemons_are_let_live(marker: Path) -> None:
    """Who has the folder of the markers open is a daemon, and sees to what it has started."""
    folder = os.open(marker.parent, os.O_RDONLY)
    with holding(marker, more=[folder]) as daemon:
        os.close(folder)
        assert strays(marker) == 0
        assert daemon.poll() is None


def test_ourselves_are_let_live(marker: Path) -> None:
    """Nor do we kill ourselves, whose program it may be, or what we have started."""
    with marker.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with holding(marker, kind=None, more=[file.fileno()]) as program:
            assert strays(marker) == 0
            assert program.poll() is None


def test_others_processes_are_let_live(marker: Path) -> None:
    """A daemon that runs as root kills no other user's process."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else too")
    with holding(marker, user=65534) as process:
        assert strays(marker) == 0
        assert process.poll() is None


def test_number_that_another_has_now(marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is looked at again when it is held fast, for its number may be another's now."""
    real = os.pidfd_open
    with holding(marker) as stray:

        def end_first(pid: int) -> int:
            held = real(pid)
            signal.pidfd_send_signal(held, signal.SIGKILL)
            stray.wait()
            return held

        monkeypatch.setattr(os, "pidfd_open", end_first)
        monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed by its number"))
        assert strays(marker) == 0


SIBLING = """
import sys
from pathlib import Path
from tests.support.hook_markers import *
folder = hooked_folder(Path(sys.argv[1]))
_, marker = store_marked(folder, (1795328130123, 0), b"hello")
held = queue_of(folder).lock(marker)
print(flush=True)
sys.stdin.read()
"""


def test_sibling_whose_lock_is_removed(tmp_path: Path) -> None:
    """
    A worker that has not given its program the locked marker yet lives, even if
    another one has taken it for dead.
    """
    command = [sys.executable, "-c", SIBLING, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as sibling:
        assert sibling.stdout is not None
        sibling.stdout.readline()
        for lock in (tmp_path / HOOKS).glob("owner-*"):
            lock.unlink()
        queue = queue_of(hooked_folder(tmp_path))
        (marker,) = scan(queue, 10, ()).markers
        assert queue.lock(marker) is None
        sibling.communicate()
    assert sibling.returncode == 0
    held = queue.lock(marker)
    assert held is not None
    os.close(held)
