"""
The program of ``--on-upload``, through the process that starts it.  ``test_hook_spawner.py``
tests how it runs.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import wait_until
from tests.support.processes import open_descriptors, until_gone
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.command import HookCommand

PATH = os.environ["PATH"]


class Commands:
    """Creates commands, and closes them."""

    def __init__(self) -> None:
        self._all: list[HookCommand] = []

    def __call__(self, *arguments: str, limit: float = 20.0, **environment: str) -> HookCommand:
        environment = {"PATH": PATH, **environment}
        self._all.append(HookCommand(arguments, limit, environment, grace=1.0))
        return self._all[-1]

    def close(self) -> None:
        for command in self._all:
            command.close()


@pytest.fixture
def command() -> Iterator[Any]:
    before = open_descriptors()
    commands = Commands()
    yield commands
    commands.close()
    assert len(open_descriptors()) <= len(before)


@pytest.mark.parametrize(
    ("script", "what", "succeeded"),
    [
        ("exit 0", "exit status 0", True),
        ("exit 3", "exit status 3", False),
        ("kill -9 $$", "killed by signal 9", False),
        ("sleep 600", "took longer than 200 ms", False),
    ],
)
def test_result(command: Any, script: str, what: str, succeeded: bool) -> None:
    """The result is described in words; only exit status 0 is success."""
    end = command("sh", "-c", script, limit=0.2 if "sleep" in script else 20.0).run({})
    assert (end.what, end.succeeded) == (what, succeeded)
    assert end.counts
    assert 0 < end.seconds < 10


def test_not_started(command: Any) -> None:
    """A program that cannot be started has failed, without using up an attempt."""
    end = command("/nowhere/program").run({})
    assert end.what == "cannot be started: No such file or directory"
    assert (end.succeeded, end.counts) == (False, False)
    end = command("true").run({"UPLOAD_PEER": "x" * 10_000_000})
    assert end.what == "cannot be started: Message too long"


def test_environment(command: Any, tmp_path: Path) -> None:
    """Its environment has the given variables and a few standard ones, and nothing else."""
    file = tmp_path / "said"
    ours = {"HOME": "/h", "LC_TIME": "C", "TZ": "UTC", "SECRET": "x", "TWISTED_UPLOAD_PORT": "1"}
    told = {"UPLOAD_NAME": "1.jpg", "UPLOAD_PEER": "unix:/a \udcff"}
    assert command("sh", "-c", f"env > {file}", **ours).run(told).succeeded
    text = file.read_text(errors="surrogateescape")
    found = dict(line.split("=", 1) for line in text.splitlines())
    for variable in "PWD", "OLDPWD", "_", "SHLVL":
        found.pop(variable, None)
    expected = {"HOME": "/h", "LC_TIME": "C", "TZ": "UTC", "PATH": PATH, **told}
    assert found == expected


def test_inherited(command: Any, tmp_path: Path) -> None:
    """It has the usual limit of file descriptors, which it may raise, and no ignored signal."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    said = tmp_path / "said"
    script = f"ulimit -Sn; ulimit -Hn; grep SigIgn /proc/self/status; ulimit -n {hard}"
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        assert command("sh", "-c", f"({script}) > {said}").run({}).succeeded
    finally:
        signal.signal(signal.SIGUSR1, before)
    soft, same, ignored = said.read_text().splitlines()
    assert (int(soft), int(same)) == (min(1024, hard), hard)
    assert int(ignored.split()[1], 16) == 0


def test_no_inherited_files(command: Any, tmp_path: Path) -> None:
    """The process that starts programs never has a file of the daemon open."""
    it = command("true")
    it.start()
    with (tmp_path / "file").open("w"):
        it.run({})
        pid = spawner(it)
        targets = [
            os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")
        ]
    assert not any(target.startswith(str(tmp_path)) for target in targets)


def test_several_at_a_time(command: Any, tmp_path: Path) -> None:
    """Several programs run at a time, and each caller gets the result of its program."""
    it = command(
        "sh", "-c", f"mkdir {tmp_path}/$N; while [ ! -e {tmp_path}/go ]; do :; done; exit $N"
    )
    ends: dict[int, str] = {}

    def work(number: int) -> None:
        ends[number] = it.run({"N": str(number)}).what

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(os.listdir(tmp_path)) == 3, "all of them")
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(10)
    assert ends == {number: f"exit status {number}" for number in range(3)}


def test_stop(command: Any, tmp_path: Path) -> None:
    """When the daemon stops, running programs are ended, and so are those being started."""
    it = command("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(it.run({}).what))
    thread.start()
    wait_until(lambda: list(tmp_path.iterdir()), "the program")
    it.stop()
    it.stop()
    thread.join(10)
    ends.append(it.run({}).what)
    assert ends == ["stopped with the daemon"] * 2
    it.close()
    assert it.run({}).what == "cannot be started: the daemon is stopping"


def test_stop_while_starting(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is effective even while the process that starts programs is being started."""
    it = command("sleep", "600")
    real = it._start

    def start(theirs: socket.socket) -> Any:
        it.stop()
        return real(theirs)

    monkeypatch.setattr(it, "_start", start)
    assert it.run({}).what == "stopped with the daemon"


def test_stalled_spawner(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process that starts programs stalls, callers fail after a timeout."""
    monkeypatch.setattr("twisted_upload.hooks.command._SEND_TIMEOUT", 1)
    it = command("true")
    assert it.run({}).succeeded
    os.kill(spawner(it), signal.SIGSTOP)
    ends: list[str] = []
    threads = [
        threading.Thread(target=lambda: ends.append(it.run({"A": "x" * 100_000}).what), daemon=True)
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: ends, "one that has given up")
    assert {*ends} == {"cannot be started: Resource temporarily unavailable"}
    it.stop()  # this does not block either
    os.kill(spawner(it), signal.SIGCONT)
    for thread in threads:
        thread.join(20)
    assert len(ends) == 6


def spawner(it: HookCommand) -> int:
    """Return the id of the process that starts programs."""
    assert it._starter is not None
    return it._starter.pid


def test_spawner_dies(command: Any, tmp_path: Path) -> None:
    """If the process that starts programs dies, its programs have failed, and it is replaced."""
    it = command("sh", "-c", f"[ -e {tmp_path}/pid ] || (echo $$ > {tmp_path}/pid; exec sleep 600)")
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(it.run({}).what))
    thread.start()
    wait_until(
        lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the program"
    )
    pid = spawner(it)
    os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert ends == ["the process that starts programs has died"]
    os.killpg(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert it.run({}).succeeded
    assert spawner(it) != pid


def test_spawner_exits_with_the_daemon(command: Any) -> None:
    """The process that starts programs exits when the daemon has exited, and not before."""
    it = command("true")
    it.start()
    pid = spawner(it)
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        assert it.run({}).succeeded  # it has started by then
        os.kill(pid, number)
    assert it.run({}).succeeded
    assert spawner(it) == pid
    it._control.close()
    until_gone(pid)


def test_no_processes_left(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no process can be started at all, the start fails."""

    def none_left(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    it = command("true")
    monkeypatch.setattr(subprocess, "Popen", none_left)
    with pytest.raises(CannotStart, match="cannot start a process: Resource temporarily"):
        it.start()
    assert it.run({}).what == "cannot be started: Resource temporarily unavailable"


def test_check(command: Any, tmp_path: Path) -> None:
    """A program that cannot be started is an error at the start."""
    command("sh").check()
    command("/bin/sh").check()
    (tmp_path / "no-program").touch()
    for program in "/nowhere/program", str(tmp_path), str(tmp_path / "no-program"):
        with pytest.raises(CannotStart, match=f"--on-upload: {program} is not an executable"):
            command(program).check()
    with pytest.raises(CannotStart, match="no-such-program was not found on "):
        command("no-such-program").check()


def test_check_kernel(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is too old is an error at the start."""

    def no_such_call(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", no_such_call)
    with pytest.raises(CannotStart, match=r"Linux 5\.3"):
        command("sh").check()
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(CannotStart, match=r"Linux 5\.3"):
        command("sh").check()
