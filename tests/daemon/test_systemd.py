"""
The protocol between systemd and the daemon: the messages, and the real daemon with a
socket of the test as its manager.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support.daemon import SUCCESS, Daemon, connect, finish, run_twistd, wait_until
from tests.support.manager import Systemd
from tests.support.senders import read_all
from twisted_upload.daemon.systemd import Manager, Notifier, started_with, take_environment
from twisted_upload.errors import CannotStart

ME = 4711


# The environment


def test_no_manager() -> None:
    """Without any of the variables there is no manager."""
    assert take_environment({}, {}, ME) == Manager(None, 0.0, ())


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(ME)}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "nonsense"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
    ],
)
def test_watchdog(variables: dict[str, str], seconds: float) -> None:
    """The watchdog's time is in microseconds, and applies to the named process only."""
    assert take_environment(variables, {}, ME).watchdog == seconds


def test_children_do_not_inherit_variables() -> None:
    """Variables for the daemon are removed from its children's environment; the others stay."""
    environment = {
        "NOTIFY_SOCKET": "/x",
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "x",
        "HOME": "/",
    }
    assert take_environment({"NOTIFY_SOCKET": "@x"}, environment, ME).notify == "@x"
    assert environment == {"HOME": "/"}


def test_started_with() -> None:
    """The environment at the start is available even after variables were removed."""
    assert started_with()["PATH"]
    code = (
        "import os; del os.environ['LISTEN_FDS'];"
        "from twisted_upload.daemon.systemd import started_with;"
        "print(started_with()['LISTEN_FDS'])"
    )
    process = os.popen(f'LISTEN_FDS=3 {sys.executable} -c "{code}"')
    assert process.read() == "3\n"
    assert process.close() is None


@contextlib.contextmanager
def third_descriptor(one: socket.socket) -> Iterator[int]:
    """Put a socket under the file descriptor of systemd's first socket."""
    saved = os.dup(3) if Path("/proc/self/fd/3").exists() else None
    os.dup2(one.fileno(), 3)
    try:
        yield 3
    finally:
        if saved is None:
            os.close(3)
        else:
            os.dup2(saved, 3)
            os.close(saved)


def passing(names: str | None = "scanner", process: int = ME) -> dict[str, str]:
    variables = {"LISTEN_FDS": "1", "LISTEN_PID": str(process)}
    return variables if names is None else {**variables, "LISTEN_FDNAMES": names}


@pytest.mark.parametrize(("names", "name"), [("scanner", "scanner"), (None, ""), ("", "")])
def test_passed(names: str | None, name: str) -> None:
    """A passed socket has a name, if given, and a family, and is prepared for serving."""
    with socket.create_server(("127.0.0.1", 0)) as listening, third_descriptor(listening):
        os.set_inheritable(3, True)
        os.set_blocking(3, True)
        (inherited,) = take_environment(passing(names), {}, ME).sockets
        assert (inherited.name, inherited.descriptor, inherited.family) == (name, 3, socket.AF_INET)
        assert not os.get_inheritable(3)
        assert not os.get_blocking(3)


def test_passed_to_another_process() -> None:
    """Sockets for another process are ignored."""
    assert take_environment(passing(process=1), {}, ME).sockets == ()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_passed_invalid(kind: int) -> None:
    """A socket that does not listen is an error that says what the unit needs."""
    with (
        socket.socket(socket.AF_INET, kind) as one,
        third_descriptor(one),
        pytest.raises(CannotStart, match=r"descriptor 3 \(scanner\).*Accept=no"),
    ):
        take_environment(passing(), {}, ME)


def test_passed_nothing() -> None:
    """A file descriptor that is not open is an error."""
    with pytest.raises(CannotStart, match=r"LISTEN_FDS: file descriptor \d+.*: not a socket"):
        take_environment({"LISTEN_FDS": "1000", "LISTEN_PID": str(ME)}, {}, ME)


# Notifications


@pytest.mark.parametrize("address", ["", "/", "@", "relative/path", "vsock:2:1234"])
def test_wrong_address(address: str) -> None:
    """An invalid address is one line."""
    with pytest.raises(CannotStart, match=r"^NOTIFY_SOCKET: "):
        Notifier(address)


def test_unreachable_manager() -> None:
    """A manager that is gone, or does not read, is no error and blocks nothing."""
    notifier = Notifier("@no-such-manager")
    assert notifier("READY=1") is False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind("\0twisted-upload-deaf")
        other = Notifier("@twisted-upload-deaf")
        results = [other("STATUS=x") for _ in range(10_000)]
        assert results[0] is True
        assert results[-1] is False
        other.close()
    notifier.close()


WORKERS = pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])


@WORKERS
def test_notifications(tmp_path: Path, systemd: Systemd, workers: str) -> None:
    """It sends READY, its counts, RELOADING and READY again, and STOPPING with more time."""
    environment = {"NOTIFY_SOCKET": systemd.address}
    with Daemon(tmp_path, workers, environment=environment) as daemon:
        assert systemd.wait_for("READY") == "READY=1"
        assert len(daemon.lines("listens on")) == (3 if "2" in workers else 1)
        assert "STATUS=0 uploads in flight, 0 stored since the start" in systemd.wait_for("STATUS")
        assert daemon.send(b"something") == SUCCESS
        with daemon.begin(bytes(300_000)) as peer:
            systemd.wait_for("STATUS=1 upload in flight, 1 stored since the start")
            systemd.forget()
            daemon.signal(signal.SIGHUP)
            assert "\nMONOTONIC_USEC=" in systemd.wait_for("RELOADING=1")
            assert systemd.wait_for("READY") == "READY=1"
            daemon.signal(signal.SIGTERM)
            assert systemd.wait_for("STOPPING") == "STOPPING=1"
            assert "EXTEND_TIMEOUT_USEC=15000000" in systemd.wait_for("EXTEND_TIMEOUT_USEC")
            assert finish(peer) == SUCCESS
        daemon.wait_for_end()


def test_abstract_name(tmp_path: Path) -> None:
    """A manager with an abstract socket gets the same messages."""
    manager = Systemd(f"@twisted-upload-{os.getpid()}")
    with Daemon(tmp_path, environment={"NOTIFY_SOCKET": manager.address}):
        manager.wait_for("READY=1")
    manager.close()


@WORKERS
def test_watchdog_is_fed(tmp_path: Path, systemd: Systemd, workers: str) -> None:
    """It sends signs of life; a stalled reactor sends none."""
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
    with Daemon(tmp_path, workers, environment=environment) as daemon:
        systemd.wait_for("READY")
        for _ in range(3):
            systemd.heard.clear()
            assert systemd.wait_for("WATCHDOG") == "WATCHDOG=1"
        daemon.signal(signal.SIGSTOP)
        systemd.forget()
        assert systemd.is_silent(0.5)
        daemon.signal(signal.SIGCONT)


def test_frozen_worker(tmp_path: Path, systemd: Systemd) -> None:
    """A stalled worker is killed and replaced, and the daemon continues."""
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    with Daemon(tmp_path, "--workers=2", environment=environment) as daemon:
        systemd.wait_for("READY")
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGSTOP)
        assert f"worker {children[0]} is" in daemon.wait_for_line("is not responding; killing it")
        wait_until(lambda: len(daemon.lines("listens on")) == 4, "another worker")
        assert daemon.send(b"something") == SUCCESS


@pytest.mark.parametrize("all_of_them", [False, True], ids=["supervisor", "all"])
def test_stalled_daemon(tmp_path: Path, systemd: Systemd, all_of_them: bool) -> None:
    """A daemon that was stalled for longer than the watchdog's time kills no worker for it."""
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    with Daemon(tmp_path, "--workers=2", environment=environment) as daemon:
        systemd.wait_for("READY")
        workers = daemon.workers()
        with daemon.begin(bytes(300_000)) as peer:
            stopped = [daemon.pid, *workers] if all_of_them else [daemon.pid]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            systemd.is_silent(0.1)
            systemd.forget()
            assert systemd.is_silent(3)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            for _ in range(4):
                systemd.heard.clear()
                systemd.wait_for("WATCHDOG=1")
            assert finish(peer) == SUCCESS
        assert daemon.lines("no sign of life") == []
        assert daemon.workers() == workers


def test_wrong_manager(tmp_path: Path) -> None:
    """An invalid notification socket is one line."""
    environment = {"NOTIFY_SOCKET": "nonsense"}
    result = run_twistd(tmp_path, "-n", "--pidfile=", "upload", environment=environment)
    assert result.returncode == 1
    assert result.stderr.startswith("twistd upload: NOTIFY_SOCKET: 'nonsense' is neither")
    assert result.stderr.count("\n") == 1


# Socket activation


class Activated(Daemon):
    """A daemon that is started like systemd does, with sockets of the test."""

    def __init__(
        self, folder: Path, *options: str, sockets: list[socket.socket], names: str
    ) -> None:
        numbers = [one.fileno() for one in sockets]
        first = 100  # where none replaces another
        moves = [f"os.dup2({n}, {first + i})" for i, n in enumerate(numbers)]
        moves += [f"os.dup2({first + i}, {3 + i})" for i in range(len(numbers))]
        as_systemd = (  # sd_listen_fds(3)
            f"import os, sys; {'; '.join(moves)}; os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        super().__init__(
            folder,
            *options,
            before=(sys.executable, "-c", as_systemd),
            environment={"LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": names},
            descriptors=numbers,
        )
        self._command = [it for it in self._command if it not in self._PORT]

    _PORT = ("--port=0", "--interface=127.0.0.1")

    def __enter__(self) -> Self:
        super().__enter__()
        if "--workers=2" in self._command:
            wait_until(lambda: len(self.lines("listens on")) >= 3, "both workers to serve")
        return self


@WORKERS
def test_all_passed_sockets(tmp_path: Path, workers: str) -> None:
    """Without --port and --listen it serves all sockets of systemd, and no others."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        Activated(tmp_path, workers, sockets=[one, two], names="a:b") as daemon,
    ):
        assert [a for _, a in daemon.addresses] == [one.getsockname(), two.getsockname()]
        for family, address in daemon.addresses:
            with connect(family, address) as peer:
                peer.sendall(b"something")
                assert finish(peer) == SUCCESS


def test_by_name(tmp_path: Path) -> None:
    """A socket goes to the listener of its name."""
    (tmp_path / "x.toml").write_text(
        '[[listener]]\nname = "a"\nanswer = "A"\n[[listener]]\nname = "b"\nanswer = "B"\n'
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        Activated(tmp_path, f"--config={tmp_path}/x.toml", sockets=[one, two], names="b:a"),
    ):
        for listening, answer in ((one, b"B"), (two, b"A")):
            with connect(socket.AF_INET, listening.getsockname()) as peer:
                peer.sendall(b"something")
                assert finish(peer) == answer


@WORKERS
def test_nothing_is_refused_during_a_restart(tmp_path: Path, workers: str) -> None:
    """While it stops, new connections wait for the next daemon; the present ones continue."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        first = tmp_path / "first"
        first.mkdir()
        with (
            Activated(first, workers, sockets=[listening], names="x") as daemon,
            daemon.begin(bytes(400_000)) as there,
            daemon.connect() as silent,
        ):
            wait_until(lambda: accepted(daemon, 2), "both connections")
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("Received SIGTERM")
            silent.sendall(b"not silent for ever")
            assert finish(silent) == SUCCESS
            daemon.wait_for_line("stopping: ")
            with connect(socket.AF_INET, address) as late:
                late.sendall(b"late")
                late.shutdown(socket.SHUT_WR)
                assert finish(there) == SUCCESS
                daemon.wait_for_end()
                second = tmp_path / "second"
                second.mkdir()
                with Activated(second, workers, sockets=[listening], names="x"):
                    assert read_all(late) == SUCCESS


@WORKERS
def test_load_balancers(tmp_path: Path, workers: str) -> None:
    """Behind a load balancer, systemd's socket stays usable for the next daemon."""
    options = (workers, "--proxy-protocol", "--proxy-from=127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            with Activated(tmp_path / name, *options, sockets=[listening], names="x") as daemon:
                header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 6666\r\n"
                assert daemon.send(header + b"something") == SUCCESS
                daemon.stop()


@WORKERS
def test_metrics(tmp_path: Path, workers: str) -> None:
    """The port for metrics can be a socket of systemd, which then serves nothing else."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        Activated(
            tmp_path, workers, "--metrics=systemd:b", sockets=[one, two], names="a:b"
        ) as daemon,
    ):
        assert [address for _, address in daemon.addresses] == [one.getsockname()]
        with connect(socket.AF_INET, two.getsockname()) as peer:
            peer.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert read_all(peer).endswith(b"\r\n\r\nalive\n")


def accepted(daemon: Daemon, count: int) -> bool:
    """Whether a daemon and its workers have at least ``count`` connections open."""
    port = f":{daemon.address[1]:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    # Established, and accepted from the queue of the listening socket: it has an inode.
    ours = [it for it in lines if it[1].endswith(port) and it[3] == "01" and it[9] != "0"]
    return len(ours) >= count


def test_silent_connection(tmp_path: Path) -> None:
    """The wait for a connection that sends nothing is short."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Activated(tmp_path, "--drain=200ms", sockets=[listening], names="x") as daemon,
        daemon.connect() as silent,
    ):
        wait_until(lambda: accepted(daemon, 1), "the connection")
        daemon.signal(signal.SIGTERM)
        assert "shutting-down" in read_all(silent).decode()


@WORKERS
def test_unix_socket_stays(tmp_path: Path, workers: str) -> None:
    """A Unix socket of systemd keeps its permissions and path, during and after the run."""
    with tempfile.TemporaryDirectory() as short:
        path = os.path.join(short, "s")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            os.chmod(path, 0o600)
            listening.listen(5)
            for name in ("first", "second"):
                (tmp_path / name).mkdir()
                with Activated(tmp_path / name, workers, sockets=[listening], names="x") as daemon:
                    with connect(socket.AF_UNIX, path) as peer:
                        peer.sendall(b"something")
                        assert finish(peer) == SUCCESS
                    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
                    daemon.stop()
            assert os.path.exists(path)


def test_workers_leave_permissions_alone(tmp_path: Path) -> None:
    """The mode of --listen unix:...:mode= also applies with workers."""
    with tempfile.TemporaryDirectory() as short:
        path = os.path.join(short, "s")
        with Daemon(tmp_path, "--workers=2", f"--listen=unix:{path}:mode=600") as daemon:
            wait_until(lambda: len(daemon.lines("listens on")) == 3, "both workers to serve")
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--port=0"],
            "LISTEN_FDS: no listener uses file descriptor 3; add one that listens",
        ),
        (["--listen=systemd:y"], "--listen: systemd:y: systemd passed no socket"),
        (["--listen=systemd:x", "--listen=systemd"], "or another listener uses it"),
    ],
)
def test_sockets_that_do_not_match(tmp_path: Path, options: list[str], says: str) -> None:
    """An unused socket, or a missing one, is one line and prevents the start."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        daemon = Activated(tmp_path, *options, sockets=[listening], names="x")
        daemon._command += options
        with pytest.raises(AssertionError), daemon:
            pass
    assert says in daemon.errors.read_text()
    assert daemon.errors.read_text().count("\n") == 1
