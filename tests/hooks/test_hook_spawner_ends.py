"""
How programs of ``--on-upload`` are ended, and how long their markers are locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hook_spawner import Starting, hear, in_time, pids, shell
from tests.support.processes import gone, state_of, until_gone

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


# -- the program ends ---------------------------------------------------------


def test_time_limit(tmp_path: Path) -> None:
    """A program that takes too long gets SIGTERM, with all its processes."""
    file = tmp_path / "pids"
    end = shell(f"sleep 600 & echo $! $$ > {file}; wait", limit=0.1)
    assert end == "late"
    for pid in file.read_text().split():
        until_gone(int(pid))


def test_stalled_machine(tmp_path: Path) -> None:
    """Time during which the machine is stalled does not count."""
    file, go = tmp_path / "pids", tmp_path / "go"
    script = f"echo $$ > {file}; until [ -e {go} ]; do sleep 0.01; done"
    with Starting("sh", "-c", script, limit=5.0) as starting:
        answer = starting.ask()
        (pid,) = pids(file)
        os.killpg(pid, signal.SIGSTOP)
        starting.process.send_signal(signal.SIGSTOP)
        time.sleep(6)  # not a synchronization: the time itself is tested
        starting.process.send_signal(signal.SIGCONT)
        in_time(lambda: state_of(starting.process.pid) == "S")
        assert not gone(pid)
        go.touch()
        os.killpg(pid, signal.SIGCONT)
        assert hear(answer)[0] == "exit 0"


def test_time_limit_ignored(tmp_path: Path) -> None:
    """A program that ignores SIGTERM is killed, with all its processes."""
    file = tmp_path / "pids"
    deaf = "trap '' TERM; "
    script = f"{deaf} (while :; do sleep 1; done) & echo $! $$ > {file}; while :; do sleep 1; done"
    assert shell(script, limit=0.1, grace=0.05) == "late"
    for pid in file.read_text().split():
        until_gone(int(pid))


def test_children_ignore_sigterm(tmp_path: Path) -> None:
    """Children that ignore SIGTERM are killed when their program has exited."""
    file = tmp_path / "pid"
    script = f"sh -c 'trap \"\" TERM; echo $$ > {file}; while :; do sleep 1; done' & wait"
    assert shell(script, limit=0.3) == "late"
    until_gone(int(file.read_text()))


def test_no_time_limit() -> None:
    """Without a limit a program runs on, and a very long limit is valid."""
    assert shell("sleep 0.05", limit=0) == "exit 0"
    assert shell("sleep 0.05", limit=10 * 365 * 86400) == "exit 0"


def test_children_in_other_groups(tmp_path: Path) -> None:
    """Children in other process groups or sessions are killed too."""
    file = tmp_path / "pids"
    script = (
        f"trap '' TERM; setsid sh -c 'echo $$ >> {file}; sleep 600' &"
        f" timeout 600 sh -c 'echo $$ >> {file}; sleep 600' & echo $$ >> {file}; wait"
    )
    with Starting("sh", "-c", script, limit=1.0, grace=0.1) as starting:
        answer = starting.ask()
        three = pids(file, 3)
        assert hear(answer)[0] == "late"
        for pid in three:
            until_gone(pid)


def test_hanging_program_does_not_block_others(tmp_path: Path) -> None:
    """A hanging program delays neither the start nor the end of others."""
    script = '[ "$HANG" ] || exit 5; exec sleep 600'
    with Starting("sh", "-c", script, limit=0, grace=0.1) as starting:
        hanging = [starting.ask(HANG="1") for _ in range(8)]
        for _ in range(20):
            assert hear(starting.ask())[0] == "exit 5"
        starting.control.send(b"stop")
        assert [hear(it)[0] for it in hanging] == ["stopped"] * 8


def test_stop(tmp_path: Path) -> None:
    """When the daemon stops, running programs are ended, and so are those being started."""
    script = f"mkfifo {tmp_path}/began-$$; exec sleep 600"
    with Starting("sh", "-c", script, limit=0) as starting:
        running = [starting.ask() for _ in range(3)]
        in_time(lambda: len(os.listdir(tmp_path)) == 3)
        starting.control.send(b"stop")
        starting.control.send(b"stop")
        assert [hear(it)[0] for it in running] == ["stopped"] * 3
        assert hear(starting.ask())[0] == "stopped"


# -- deaths -------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 600])
def test_daemon_dies(tmp_path: Path, limit: float) -> None:
    """If the daemon dies, running programs are ended, and then the spawner exits."""
    file = tmp_path / "pids"
    script = f"trap '' TERM; echo $$ >> {file}; while :; do sleep 600; done"
    with Starting("sh", "-c", script, limit=limit, grace=0.3) as starting:
        answers = [starting.ask() for _ in range(3)]
        three = pids(file, 3)
        for answer in answers:
            answer.close()
        starting.control.close()
        for pid in three:
            until_gone(pid)
        assert starting.process.wait(10) == 0


def test_daemon_dies_and_program_handles_sigterm(tmp_path: Path) -> None:
    """A program that handles SIGTERM can clean up."""
    file, order = tmp_path / "pids", tmp_path / "order"
    script = f"trap 'touch {order}; exit' TERM; echo $$ >> {file}; sleep 600 & wait"
    with Starting("sh", "-c", script) as starting:
        answer = starting.ask()
        pids(file)
        starting.control.close()
        assert starting.process.wait(4) == 0  # long before the grace is over
        assert order.exists()
        answer.close()


def test_spawner_dies(tmp_path: Path) -> None:
    """If the spawner is killed, no program outlives it."""
    file = tmp_path / "pids"
    with Starting("sh", "-c", f"trap '' TERM; echo $$ >> {file}; exec sleep 600") as starting:
        answer = starting.ask()
        (pid,) = pids(file)
        starting.process.kill()
        until_gone(pid)
        answer.close()


# -- the marker ---------------------------------------------------------------


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """A locked marker."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Whether a marker is not locked."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_marker_is_locked_while_it_runs(tmp_path: Path) -> None:
    """While a program runs, its marker is locked, even if all other processes are dead."""
    marker, file = tmp_path / "marker", tmp_path / "pids"
    with Starting("sh", "-c", f"(echo $$; sleep 600) >> {file}") as starting:
        with held(marker) as descriptor:
            answer = starting.ask(descriptor)
        pids(file)
        assert not is_free(marker)
        starting.process.send_signal(signal.SIGKILL)
        starting.process.wait()
        assert not is_free(marker)
        strays = [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and "sleep\x00600" in command(int(name)) and has_open(name, marker)
        ]
        assert strays
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        in_time(lambda: is_free(marker))
        answer.close()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def has_open(process: str, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(
            os.readlink(f"/proc/{process}/fd/{number}") == str(path)
            for number in os.listdir(f"/proc/{process}/fd")
        )
    return False


def test_marker_is_unlocked_at_the_end(tmp_path: Path) -> None:
    """When it has exited, its marker is unlocked, even if a background process remains."""
    marker, file = tmp_path / "marker", tmp_path / "pids"
    with Starting("sh", "-c", f"sleep 600 & echo $! >> {file}") as starting:
        with held(marker) as descriptor:
            answer = starting.ask(descriptor)
        assert hear(answer)[0] == "exit 0"
        (pid,) = pids(file)
        assert not gone(pid)
        assert is_free(marker)
        os.kill(pid, signal.SIGKILL)
