"""
The process that starts the programs of ``--on-upload``, and those: all of them real.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.helpers import open_descriptors
from twisted_upload.hooks import spawner as hook_starter
from twisted_upload.hooks.spawner import LAST_SAID

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Nothing stays open."""
    before = open_descriptors()
    yield
    assert len(open_descriptors()) <= len(before)


class Starting:
    """The process, and what is asked of it."""

    def __init__(self, *arguments: str, limit: float = 20.0, grace: float = 5.0) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = map(str, (theirs.fileno(), limit, grace))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", hook_starter.__file__, *numbers, *arguments],
                pass_fds=[theirs.fileno()],
                env={},
            )

    def __enter__(self) -> Starting:  # noqa: PYI034 - it is not to be inherited from
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        try:
            assert self.process.wait(20) in (0, -signal.SIGKILL)
        finally:
            self.process.kill()
            self.process.wait()

    def ask(self, held: int | None = None, **variables: str) -> socket.socket:
        """Have it started; where its end is told."""
        ours, theirs = socket.socketpair()
        request = json.dumps({**ENVIRONMENT, **variables}).encode()
        with theirs:
            descriptors = [theirs.fileno()] if held is None else [theirs.fileno(), held]
            socket.send_fds(self.control, [request], descriptors)
        return ours


def hear(answer: socket.socket) -> tuple[str, str]:
    """How it ended, and what it said."""
    with answer:
        heard = b""
        while piece := answer.recv(65536):
            heard += piece
    facts = json.loads(heard)
    return facts["end"], facts["said"]


def run(*arguments: str, limit: float = 20.0, grace: float = 5.0) -> str:
    """Run a program; how it ended."""
    with Starting(*arguments, limit=limit, grace=grace) as starting:
        return hear(starting.ask())[0]


def shell(script: str, limit: float = 20.0, grace: float = 5.0) -> str:
    """Run a script; how it ended."""
    return run("sh", "-c", script, limit=limit, grace=grace)


def said(script: str) -> str:
    """Run a script; what it said."""
    with Starting("sh", "-c", script) as starting:
        return hear(starting.ask())[1]


def in_time(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def pids(path: Path, number: int = 1) -> list[int]:
    """Those that programs have written down, once there are so many."""
    in_time(lambda: path.exists() and len(path.read_text().splitlines()) >= number)
    return [int(line) for line in path.read_text().split()]


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
    """It runs in /, in a session of its own, with nothing open but its standard streams."""
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


def test_signals_as_usual(tmp_path: Path) -> None:
    """It finds no signal blocked or ignored that a program expects to end it."""
    file = tmp_path / "said"
    assert shell(f"grep -E 'Sig(Blk|Ign)' /proc/self/status > {file}") == "exit 0"
    assert {line.split()[1] for line in file.read_text().splitlines()} == {"0" * 16}


# -- what it prints -----------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo one; echo two >&2; exit 3", "one\ntwo\n"),
        ("exit 3", ""),
        (r"printf '\377\000\033'", "\xff\0\x1b"),
        ("head -c 100000 /dev/zero; echo end", "\0" * (LAST_SAID - 4) + "end\n"),
        ("seq 100000", "".join(f"{n}\n" for n in range(99_000, 100_001))[-LAST_SAID:]),
    ],
    ids=["both streams", "nothing", "any bytes", "the end of much", "the end of many"],
)
def test_said(script: str, expected: str) -> None:
    """The last that it has printed is told, each byte of it."""
    assert said(script) == expected


def test_gigabyte() -> None:
    """What it prints, however much, holds it up no more than /dev/null would, and takes no room."""
    script = "head -c 1G /dev/zero && head -c 1G /dev/zero >&2; echo end"
    with Starting("sh", "-c", script, limit=50) as starting:
        end, last = hear(starting.ask())
        peak = Path(f"/proc/{starting.process.pid}/status").read_text()
        (kilobytes,) = [line.split()[1] for line in peak.splitlines() if "VmHWM" in line]
    assert (end, last[-4:]) == ("exit 0", "end\n")
    assert int(kilobytes) < 40_000


def test_leaves_a_process(tmp_path: Path) -> None:
    """What it leaves running, with its output in hand, holds nobody up, and is let live."""
    file = tmp_path / "pid"
    end = shell(f"sleep 600 & echo $! > {file}")
    assert end == "exit 0"
    pid = int(file.read_text())
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_what_is_left_running_can_print(tmp_path: Path) -> None:
    """What it leaves running can go on printing: it is neither held up nor ended by that."""
    go, done = tmp_path / "go", tmp_path / "done"
    script = f"(until [ -e {go} ]; do sleep 0.01; done; head -c 1M /dev/zero && touch {done}) &"
    with Starting("sh", "-c", script) as starting:
        assert hear(starting.ask()) == ("exit 0", "")
        before = len(descriptors_of(starting))
        go.touch()
        in_time(done.exists)
        in_time(lambda: len(descriptors_of(starting)) < before)


def test_many_are_left_running() -> None:
    """However many are left running, they do not use up the descriptors."""
    script = "exec 8>&-; sleep 600 & echo $!"
    left: list[int] = []
    with Starting("sh", "-c", script) as starting:
        try:
            for _ in range(hook_starter.MOST_LEFT + 20):
                end, said = hear(starting.ask())
                left.append(int(said))
                assert end == "exit 0"
            assert len(descriptors_of(starting)) < hook_starter.MOST_LEFT + 20
            assert not any(gone(pid) for pid in left)
        finally:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        in_time(lambda: len(descriptors_of(starting)) < 20)


def test_time_limit(tmp_path: Path) -> None:
    """What takes too long is told to end, with all that it has started."""
    file = tmp_path / "pids"
    end = shell(f"sleep 600 & echo $! $$ > {file}; wait", limit=0.1)
    assert end == "late"
    for pid in file.read_text().split():
        until_gone(int(pid))


def test_time_that_did_not_pass(tmp_path: Path) -> None:
    """While the machine stands still, nobody's time passes."""
    file, go = tmp_path / "pids", tmp_path / "go"
    script = f"echo $$ > {file}; until [ -e {go} ]; do sleep 0.01; done"
    with Starting("sh", "-c", script, limit=5.0) as starting:
        answer = starting.ask()
        (pid,) = pids(file)
        os.killpg(pid, signal.SIGSTOP)
        starting.process.send_signal(signal.SIGSTOP)
        time.sleep(6)  # no synchronisation: it is what is tested
        starting.process.send_signal(signal.SIGCONT)
        in_time(lambda: state(starting.process.pid) == "S")
        assert not gone(pid)
        go.touch()
        os.killpg(pid, signal.SIGCONT)
        assert hear(answer)[0] == "exit 0"


def state(pid: int) -> str:
    """In one letter, as ``ps`` has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


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


def test_those_in_other_groups(tmp_path: Path) -> None:
    """So are those that it has put into groups, or sessions, of their own."""
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


def test_others_are_not_held_up(tmp_path: Path) -> None:
    """One that hangs holds up no other, neither their starts nor their ends."""
    script = '[ "$HANG" ] || exit 5; exec sleep 600'
    with Starting("sh", "-c", script, limit=0, grace=0.1) as starting:
        hanging = [starting.ask(HANG="1") for _ in range(8)]
        for _ in range(20):
            assert hear(starting.ask())[0] == "exit 5"
        starting.control.send(b"stop")
        assert [hear(it)[0] for it in hanging] == ["stopped"] * 8


def test_stop(tmp_path: Path) -> None:
    """When the daemon stops, what runs is ended, and so is what is still started."""
    script = f"mkfifo {tmp_path}/began-$$; exec sleep 600"
    with Starting("sh", "-c", script, limit=0) as starting:
        running = [starting.ask() for _ in range(3)]
        in_time(lambda: len(os.listdir(tmp_path)) == 3)
        starting.control.send(b"stop")
        starting.control.send(b"stop")
        assert [hear(it)[0] for it in running] == ["stopped"] * 3
        assert hear(starting.ask())[0] == "stopped"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("/nowhere/program", "No such file or directory"),
        ("/", "Permission denied"),
        ("no-such-program", "No such file or directory"),
    ],
)
def test_not_started(program: str, why: str) -> None:
    """What cannot be started has failed."""
    assert run(program) == f"failed cannot be started: {why}"


def test_too_much_to_tell() -> None:
    """What cannot be put into an environment is a failure, and no more than that."""
    with Starting("true") as starting:
        for request in (b"{", b"[]", b'{"A": 5}', b'{"A": "\\u0000"}', b'{"A=": "", "": ""}'):
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(starting.control, [request], [theirs.fileno()])
            assert hear(ours)[0].startswith("failed cannot be started: "), request
        assert hear(starting.ask())[0] == "exit 0"


@pytest.mark.parametrize("left", range(6))
def test_no_descriptors_left(left: int) -> None:
    """Where there are too few descriptors, that is a failure, and nothing is left over."""
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


def descriptors_of(starting: Starting) -> set[int]:
    """Those that it has."""
    return {int(number) for number in os.listdir(f"/proc/{starting.process.pid}/fd")}


# -- who dies -----------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 600])
def test_the_daemon_dies(tmp_path: Path, limit: float) -> None:
    """When the daemon dies, what runs is ended, and then the process that started it goes."""
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


def test_the_daemon_dies_and_the_program_listens(tmp_path: Path) -> None:
    """A program that listens to SIGTERM can put things in order."""
    file, order = tmp_path / "pids", tmp_path / "order"
    script = f"trap 'touch {order}; exit' TERM; echo $$ >> {file}; sleep 600 & wait"
    with Starting("sh", "-c", script) as starting:
        answer = starting.ask()
        pids(file)
        starting.control.close()
        assert starting.process.wait(4) == 0  # long before the grace is over
        assert order.exists()
        answer.close()


def test_it_dies_itself(tmp_path: Path) -> None:
    """When this process is killed, no program outlives it."""
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
    """While a program runs, its marker is locked, even where all but the program are dead."""
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


def test_marker_is_free_when_it_has_ended(tmp_path: Path) -> None:
    """When it has ended, its marker is free, even where it has left something running."""
    marker, file = tmp_path / "marker", tmp_path / "pids"
    with Starting("sh", "-c", f"sleep 600 & echo $! >> {file}") as starting:
        with held(marker) as descriptor:
            answer = starting.ask(descriptor)
        assert hear(answer)[0] == "exit 0"
        (pid,) = pids(file)
        assert not gone(pid)
        assert is_free(marker)
        os.kill(pid, signal.SIGKILL)


def test_not_reaped_by_others() -> None:
    """Nobody else's children are waited for."""
    with subprocess.Popen(["sh", "-c", "exit 7"]) as other:
        assert shell("exit 0") == "exit 0"
        assert other.wait() == 7
