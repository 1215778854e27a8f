"""
One run of the program of ``--on-upload``: real processes, started from here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import open_descriptors
from twisted_upload.hook_starter import Starter

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Nothing stays open."""
    before = open_descriptors()
    yield
    assert len(open_descriptors()) <= len(before)


def run(*arguments: str, limit: float = 20.0, grace: float = 5.0) -> str:
    starter = Starter(arguments, limit, grace)
    try:
        return starter.run(ENVIRONMENT)
    finally:
        starter.close()


def shell(script: str, limit: float = 20.0, grace: float = 5.0) -> str:
    """Run a script; how it ended."""
    return run("sh", "-c", script, limit=limit, grace=grace)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < end, f"{pid} is still there"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", "exit 0"),
        ("exit 3", "exit 3"),
        ("kill -USR1 $$", f"signal {int(signal.SIGUSR1)}"),
    ],
)
def test_how_it_ended(script: str, end: str) -> None:
    """Its exit status, or its signal, is told."""
    assert shell(script) == end


def test_arguments_as_they_are(tmp_path: Path) -> None:
    """No shell sees the arguments."""
    file = tmp_path / "said"
    program = f"import sys; open({str(file)!r}, 'w').write(repr(sys.argv[1:]))"
    arguments = ["$HOME", "a b", "; exit 1", "*", ""]
    assert run(sys.executable, "-c", program, *arguments) == "exit 0"
    assert file.read_text() == repr(arguments)


def test_where_it_runs(tmp_path: Path) -> None:
    """It runs in /, in a session of its own, with nothing open but /dev/null."""
    said = tmp_path / "said"
    program = f"""
import os
open({str(said)!r}, "w").write(repr((
    os.getcwd(), os.getsid(0) == os.getpid() == os.getpgrp(),
    sorted({{os.readlink(f"/proc/self/fd/{{fd}}") for fd in (0, 1, 2)}}),
    [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{fd}}")],
)))
"""
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        assert run(sys.executable, "-c", program) == "exit 0"
    finally:
        os.close(inherited)
    where, alone, streams, others = eval(said.read_text())
    assert (where, alone, streams) == ("/", True, ["/dev/null"])
    assert len(others) == 4, "the file itself, and no other"


def test_gigabyte() -> None:
    """What it prints, however much, goes nowhere."""
    assert shell("head -c 1G /dev/zero && head -c 1G /dev/zero >&2") == "exit 0"


def test_leaves_a_process(tmp_path: Path) -> None:
    """What it leaves running, with its output in hand, holds nobody up, and is let live."""
    file = tmp_path / "pid"
    end = shell(f"sleep 600 & echo $! > {file}")
    assert end == "exit 0"
    pid = int(file.read_text())
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_time_limit(tmp_path: Path) -> None:
    """What takes too long is told to end, with all that it has started."""
    file = tmp_path / "pids"
    end = shell(f"sleep 600 & echo $! $$ > {file}; wait", limit=0.1)
    assert end == "late"
    for pid in file.read_text().split():
        until_gone(int(pid))


def test_time_limit_deaf(tmp_path: Path) -> None:
    """What does not listen is killed, with all that it has started."""
    file = tmp_path / "pids"
    deaf = "trap '' TERM; "
    script = f"{deaf} (while :; do sleep 1; done) & echo $! $$ > {file}; while :; do sleep 1; done"
    assert shell(script, limit=0.1, grace=0.05) == "late"
    for pid in file.read_text().split():
        until_gone(int(pid))


def test_deaf_children(tmp_path: Path) -> None:
    """What listens, but has started something that does not, takes that along."""
    file = tmp_path / "pid"
    script = f"sh -c 'trap \"\" TERM; echo $$ > {file}; while :; do sleep 1; done' & wait"
    assert shell(script, limit=0.3) == "late"
    until_gone(int(file.read_text()))


def test_no_time_limit() -> None:
    """Without a limit there is none, and a very long one is no error."""
    assert shell("sleep 0.05", limit=0) == "exit 0"
    assert shell("sleep 0.05", limit=10 * 365 * 86400) == "exit 0"


def test_stop(tmp_path: Path) -> None:
    """When the daemon stops, what runs is ended, and so is what is still started."""
    it = Starter(["sh", "-c", f"mkfifo {tmp_path}/began-$$; exec sleep 600"], 0, 5.0)
    ends: list[str] = []
    running = [threading.Thread(target=lambda: ends.append(it.run(ENVIRONMENT))) for _ in range(3)]
    for thread in running:
        thread.start()
    while len(os.listdir(tmp_path)) < 3:
        time.sleep(0.005)
    it.stop()
    it.stop()
    for thread in running:
        thread.join(10)
    ends.append(it.run(ENVIRONMENT))
    it.close()
    assert ends == ["stopped"] * 4


@pytest.mark.parametrize(
    ("program", "why"),
    [("/nowhere/program", "No such file"), ("/", "Permission denied"), ("a\0b", "null byte")],
)
def test_not_started(program: str, why: str) -> None:
    """What cannot be started has failed."""
    end = run(program)
    assert end.startswith("failed cannot be started: ")
    assert why in end


def test_no_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be watched is not left running."""

    def none_left(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    assert shell("sleep 600") == "failed cannot be watched: Too many open files"


def test_not_reaped_by_others() -> None:
    """Nobody else's children are waited for."""
    with subprocess.Popen(["sh", "-c", "exit 7"]) as other:
        assert shell("exit 0") == "exit 0"
        assert other.wait() == 7
