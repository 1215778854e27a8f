"""
The real process that starts the programs of ``--on-upload``, with real programs.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hook_spawner import Starting, descriptors_of, hear, in_time, run, said, shell
from tests.support.processes import gone
from twisted_upload.hooks import hook_spawner
from twisted_upload.hooks.hook_spawner import LAST_SAID

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", "exit 0"),
        ("exit 3", "exit 3"),
        ("kill -USR1 $$", f"signal {int(signal.SIGUSR1)}"),
    ],
)
def test_result(script: str, end: str) -> None:
    """Its exit status or its signal is reported."""
    assert shell(script) == end


def test_arguments_are_literal(tmp_path: Path) -> None:
    """Arguments do not pass through a shell."""
    file = tmp_path / "said"
    program = f"import sys; open({str(file)!r}, 'w').write(repr(sys.argv[1:]))"
    arguments = ["$HOME", "a b", "; exit 1", "*", ""]
    assert run(sys.executable, "-c", program, *arguments) == "exit 0"
    assert file.read_text() == repr(arguments)


def test_surroundings(tmp_path: Path) -> None:
    """It runs in /, in a new session, with nothing open but its standard streams."""
    said = tmp_path / "said"
    program = f"""
import os
open({str(said)!r}, "w").write(repr((
    os.getcwd(), os.getsid(0) == os.getpid() == os.getpgrp(),
    os.readlink("/proc/self/fd/0"), os.fstat(1) == os.fstat(2),
    [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{fd}}")],
)))
"""
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        assert run(sys.executable, "-c", program) == "exit 0"
    finally:
        os.close(inherited)
    where, alone, reads, one_stream, others = eval(said.read_text())
    assert (where, alone, reads, one_stream) == ("/", True, "/dev/null", True)
    assert len(others) == 4, "the file itself, and no other"


def test_default_signals(tmp_path: Path) -> None:
    """No signal that should end a program is blocked or ignored."""
    file = tmp_path / "said"
    assert shell(f"grep -E 'Sig(Blk|Ign)' /proc/self/status > {file}") == "exit 0"
    assert {line.split()[1] for line in file.read_text().splitlines()} == {"0" * 16}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo one; echo two >&2; exit 3", "one\ntwo\n"),
        ("exit 3", ""),
        (r"printf '\377\000\033'", "\xff\0\x1b"),
        ("head -c 100000 /dev/zero; echo end", "\0" * (LAST_SAID - 4) + "end\n"),
        ("seq 100000", "".join(f"{n}\n" for n in range(99_000, 100_001))[-LAST_SAID:]),
    ],
    ids=["both streams", "nothing", "any bytes", "end of long output", "end of many lines"],
)
def test_output(script: str, expected: str) -> None:
    """The end of its output is reported, byte for byte."""
    assert said(script) == expected


def test_gigabyte() -> None:
    """Output of any size neither slows it down more than /dev/null nor takes memory."""
    script = "head -c 1G /dev/zero && head -c 1G /dev/zero >&2; echo end"
    with Starting("sh", "-c", script, limit=50) as starting:
        end, last = hear(starting.ask())
        peak = Path(f"/proc/{starting.process.pid}/status").read_text()
        (kilobytes,) = [line.split()[1] for line in peak.splitlines() if "VmHWM" in line]
    assert (end, last[-4:]) == ("exit 0", "end\n")
    assert int(kilobytes) < 40_000


def test_background_process(tmp_path: Path) -> None:
    """A background process that inherits its output delays nothing, and is not killed."""
    file = tmp_path / "pid"
    end = shell(f"sleep 600 & echo $! > {file}")
    assert end == "exit 0"
    pid = int(file.read_text())
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_background_process_can_print(tmp_path: Path) -> None:
    """A background process can continue to print: that neither blocks nor ends it."""
    go, done = tmp_path / "go", tmp_path / "done"
    script = f"(until [ -e {go} ]; do sleep 0.01; done; head -c 1M /dev/zero && touch {done}) &"
    with Starting("sh", "-c", script) as starting:
        assert hear(starting.ask()) == ("exit 0", "")
        before = len(descriptors_of(starting))
        go.touch()
        in_time(done.exists)
        in_time(lambda: len(descriptors_of(starting)) < before)


def test_many_background_processes() -> None:
    """Any number of background processes does not use up the file descriptors."""
    script = "exec 8>&-; sleep 600 & echo $!"
    left: list[int] = []
    with Starting("sh", "-c", script) as starting:
        try:
            for _ in range(hook_spawner.MOST_LEFT + 20):
                end, said = hear(starting.ask())
                left.append(int(said))
                assert end == "exit 0"
            assert len(descriptors_of(starting)) < hook_spawner.MOST_LEFT + 20
            assert not any(gone(pid) for pid in left)
        finally:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        in_time(lambda: len(descriptors_of(starting)) < 20)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("/nowhere/program", "No such file or directory"),
        ("/", "Permission denied"),
        ("no-such-program", "No such file or directory"),
    ],
)
def test_not_started(program: str, why: str) -> None:
    """A program that cannot be started has failed."""
    assert run(program) == f"failed cannot be started: {why}"


def test_environment_too_large() -> None:
    """Variables that do not fit into an environment are a failure of that program only."""
    with Starting("true") as starting:
        for request in (b"{", b"[]", b'{"A": 5}', b'{"A": "\\u0000"}', b'{"A=": "", "": ""}'):
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(starting.control, [request], [theirs.fileno()])
            assert hear(ours)[0].startswith("failed cannot be started: "), request
        assert hear(starting.ask())[0] == "exit 0"


@pytest.mark.parametrize("left", range(6))
def test_no_descriptors_left(left: int) -> None:
    """Too few file descriptors are a failure, and none is leaked."""
    with Starting("sh", "-c", "[ $SLEEP ] && exec sleep 600") as starting:
        hear(starting.ask())
        before = descriptors_of(starting)
        free = sorted({*range(200)} - before)
        limit = free[left]
        _, hard = resource.prlimit(starting.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(starting.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        with starting.ask(SLEEP="1") as answer:
            heard = answer.recv(4096)
        assert b"Too many open files" in heard if left else heard == b""
        children = f"/proc/{starting.process.pid}/task/{starting.process.pid}/children"
        assert Path(children).read_text() == ""
        resource.prlimit(starting.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert hear(starting.ask())[0] == "exit 1"
        assert descriptors_of(starting) == before


def test_other_children() -> None:
    """Children of other code are not reaped."""
    with subprocess.Popen(["sh", "-c", "exit 7"]) as other:
        assert shell("exit 0") == "exit 0"
        assert other.wait() == 7
