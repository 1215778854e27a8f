"""
Programs of ``--on-upload`` when processes of the daemon are killed: each program ends
soon, no two programs run for the same file at the same time, and each file gets its
program eventually.
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

SPAWNER = os.path.basename(hook_spawner.__file__)
"""Identifies the processes that start programs."""


class Hanging:
    """
    A program that hangs, with a child that hangs, until it is allowed to end.

    Each run is recorded, and so is a run that finds another one for the same file.
    """

    def __init__(self, folder: Path, *, ignores_sigterm: bool) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self._ran = folder / "ran"
        self._twice = folder / "twice"
        self._go = folder / "go"
        self._ran.touch()
        self.script = folder / "program"
        self.script.write_text(
            "#!/bin/sh\n"
            + ("trap '' TERM\n" if ignores_sigterm else "")
            + f'exec 8> {folder}/"$UPLOAD_NAME.lock"\n'
            f'flock --nonblock 8 || echo "$UPLOAD_NAME" >> {self._twice}\n'
            f'echo "$UPLOAD_NAME $$" >> {self._ran}\n'
            f"[ -e {self._go} ] && exit 0\n"
            "sleep 600 & wait; wait; sleep 600\n"
        )
        self.script.chmod(0o755)

    def daemon(self, *options: str) -> Daemon:
        """Return a daemon that starts the program."""
        return Daemon(
            self.folder, f"--on-upload={self.script}", f"--on-upload-jobs={JOBS}", *options
        )

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Return file and process id of each run."""
        lines = [line.split() for line in self._ran.read_text().splitlines()]
        return [(name, int(pid)) for name, pid in lines]

    def hanging(self) -> list[str]:
        """Return the files of the programs that have not ended, one name for each."""
        return [name for name, pid in self.runs if str(self.script).encode() in command_line(pid)]

    def wait_for(self, runs: int) -> None:
        """Wait for a number of runs."""
        wait_until(lambda: len(self.runs) >= runs, f"{runs} programs")

    def allow_end(self) -> None:
        """From now on, programs end at once."""
        self._go.touch()

    def finish(self) -> None:
        """Check that each file gets its program, and that none ran twice at the same time."""
        wait_until(lambda: waiting(self.inbox) == [], "an empty queue")
        wait_until(lambda: self.hanging() == [], "the end of all")
        assert not self._twice.exists(), self._twice.read_text()

    def clean(self) -> None:
        """Leave nothing behind, even after a failure."""
        for _, pid in self.runs:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def hanging(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hanging]:
    hanging = Hanging(tmp_path, ignores_sigterm=getattr(request, "param", False))
    yield hanging
    hanging.clean()


def spawners_of(pid: int) -> list[int]:
    """Return the processes of a daemon, or of a worker, that start programs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if SPAWNER.encode() in command_line(int(child))]


def test_killed_repeatedly(hanging: Hanging) -> None:
    """If a daemon is killed repeatedly, no more programs hang than one daemon may run."""
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
    hanging.allow_end()
    with hanging.daemon():
        hanging.finish()


@pytest.mark.parametrize("hanging", [True], indirect=True)
def test_killed_while_programs_ignore_sigterm(hanging: Hanging) -> None:
    """Programs that ignore SIGTERM and have no time limit end too, after the grace period."""
    with hanging.daemon("--on-upload-timeout=0") as daemon:
        for number in range(JOBS):
            daemon.send(b"%d" % number)
        hanging.wait_for(JOBS)
        daemon.stop(signal.SIGKILL)
    killed = time.monotonic()
    hanging.allow_end()
    with hanging.daemon() as daemon:
        daemon.wait_for_line("waiting for the program of a killed daemon to exit")
        assert hanging.hanging()
        hanging.finish()
        assert GRACE / 2 < time.monotonic() - killed < GRACE + 10


def test_spawner_killed(hanging: Hanging) -> None:
    """If the process that starts programs is killed, so are they; another one restarts them."""
    with hanging.daemon() as daemon:
        daemon.send(b"x")
        hanging.wait_for(1)
        (starter,) = spawners_of(daemon.pid)
        hanging.allow_end()
        os.kill(starter, signal.SIGKILL)
        hanging.finish()
        assert len(hanging.runs) == 2
        assert daemon.lines("the process that starts programs has died")


@pytest.mark.parametrize("hanging", [True, False], indirect=True)
def test_all_killed(hanging: Hanging) -> None:
    """If all is killed at once, the next daemon ends the remaining programs."""
    with hanging.daemon() as daemon:
        daemon.send(b"x")
        hanging.wait_for(1)
        for pid in [*spawners_of(daemon.pid), daemon.pid]:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for_end()
    (_, program), *_ = hanging.runs
    wait_until(lambda: str(hanging.script).encode() not in command_line(program), "its end")
    assert in_group(program), "its children remain: no process supervised it"
    hanging.allow_end()
    with hanging.daemon():
        hanging.finish()
    assert not in_group(program)


def test_worker_killed(hanging: Hanging) -> None:
    """Programs of a killed worker end, and another worker starts them again."""
    with hanging.daemon("--workers=2") as daemon:
        daemon.send(b"x")
        hanging.wait_for(1)
        ((_, program),) = hanging.runs
        hanging.allow_end()
        for worker in daemon.workers():
            if any(program in children(starter) for starter in spawners_of(worker)):
                os.kill(worker, signal.SIGKILL)
        hanging.finish()
        assert len(hanging.runs) == 2


def in_group(group: int) -> list[int]:
    """Return the processes of a group."""
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
    """A process that has a file open, possibly locked, and further file descriptors."""
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
    """A process that holds the lock is killed."""
    with holding(marker) as stray:
        assert strays(marker) == 1
        assert stray.wait(10) == -signal.SIGKILL
    assert strays(marker) == 0


def test_readers_are_not_killed(marker: Path, tmp_path: Path) -> None:
    """A process that only has the file open, as for a backup, or another file, is not."""
    other = tmp_path / "other"
    other.touch()
    with holding(marker, kind=None) as reader, holding(other) as busy:
        assert strays(marker) == 0
        assert (reader.poll(), busy.poll()) == (None, None)


def test_supervised_programs_are_not_killed(marker: Path, tmp_path: Path) -> None:
    """If the process that started them is alive, it ends them itself."""
    script = tmp_path / SPAWNER
    script.write_text("import subprocess; subprocess.run(['sleep', '600'], close_fds=False)")
    with holding(marker, sys.executable, str(script)) as starter:
        wait_until(lambda: children(starter.pid), "its program")
        assert strays(marker) == 0
        assert starter.poll() is None
        assert children(starter.pid)
        for pid in children(starter.pid):
            os.kill(pid, signal.SIGKILL)


def test_program_with_a_common_name_is_killed(marker: Path, tmp_path: Path) -> None:
    """A program that is also called ``spawner.py`` is killed like any other."""
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


def test_other_locks_are_ignored(marker: Path) -> None:
    """Locks of other kinds do not mark a program: shared ones, or those of fcntl(2)."""
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


def test_daemons_are_not_killed(marker: Path) -> None:
    """A process that has the folder of the markers open is a daemon, and is not killed."""
    folder = os.open(marker.parent, os.O_RDONLY)
    with holding(marker, more=[folder]) as daemon:
        os.close(folder)
        assert strays(marker) == 0
        assert daemon.poll() is None


def test_own_processes_are_not_killed(marker: Path) -> None:
    """The daemon does not kill itself or its children, even if they have the lock."""
    with marker.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with holding(marker, kind=None, more=[file.fileno()]) as program:
            assert strays(marker) == 0
            assert program.poll() is None


def test_processes_of_other_users_are_not_killed(marker: Path) -> None:
    """A daemon that runs as root kills no process of another user."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run as another user too")
    with holding(marker, user=65534) as process:
        assert strays(marker) == 0
        assert process.poll() is None


def test_reused_process_id(marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is checked again once it has a pidfd, because its id may have been reused."""
    real = os.pidfd_open
    with holding(marker) as stray:

        def end_first(pid: int) -> int:
            held = real(pid)
            signal.pidfd_send_signal(held, signal.SIGKILL)
            stray.wait()
            return held

        monkeypatch.setattr(os, "pidfd_open", end_first)
        monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed by its id"))
        assert strays(marker) == 0


SIBLING = """
import sys
from pathlib import Path
from tests.support.hook_markers import *
from twisted_upload.hooks.orphans import kill_orphans
folder = hooked_folder(Path(sys.argv[1]))
_, marker = store_marked(folder, (1795328130123, 0), b"hello")
held = queue_of(folder).lock(marker, kill_orphans)
print(flush=True)
sys.stdin.read()
"""


def test_lock_of_a_live_worker_is_removed(tmp_path: Path) -> None:
    """
    A worker that has not yet passed the locked marker to its program is not killed, even if
    another worker has taken it for dead.
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
        assert queue.lock(marker, kill_orphans) is None
        sibling.communicate()
    assert sibling.returncode == 0
    held = queue.lock(marker, kill_orphans)
    assert held is not None
    os.close(held)
