"""
The effect of signals on the real daemon.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, finish, wait_until
from tests.support.senders import read_all

WORKERS = pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])


@contextlib.contextmanager
def serving(
    folder: Path, *options: str, text: str = "", log: Path | None = None
) -> Iterator[Daemon]:
    """A daemon with a configuration file and all its workers."""
    (folder / "upload.toml").write_text(text)
    general = [] if log is None else [f"--logfile={log}"]
    daemon = Daemon(folder, f"--config={folder}/upload.toml", *options, general=general)
    if log is not None:
        daemon.log = log
    with daemon:
        if "--workers=2" in options:
            wait_until(lambda: len(daemon.lines("listens on")) >= 3, "both workers to serve")
        yield daemon


def configure(daemon: Daemon, text: str) -> str:
    """Change the file, reload it, and return the daemon's log line about that."""
    (daemon.folder / "upload.toml").write_text(text)
    before = len(daemon.lines("reload"))
    daemon.signal(signal.SIGHUP)
    return wait_until(lambda: daemon.lines("reload")[before:], "a line about reloading")[0]


def family(daemon: Daemon) -> list[int]:
    """Return the daemon's process and those of its workers."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text()
    return [daemon.pid, *map(int, children.split())]


# Stopping


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(tmp_path: Path, number: int, workers: str) -> None:
    """A second SIGTERM or SIGINT ends the wait; unfinished uploads are refused."""
    with serving(tmp_path, "--drain=1h", workers) as daemon, daemon.begin(bytes(300_000)) as peer:
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping: 1 upload in flight")
        daemon.signal(number)
        began = time.monotonic()
        assert "shutting-down" in read_all(peer).decode()
        assert daemon.wait_for_end() == -signal.SIGTERM
        assert time.monotonic() - began < PATIENCE / 4
        assert len(daemon.lines("second stop signal: discarding unfinished uploads")) >= 1
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.files() == []
        assert daemon.unfinished() == []


@WORKERS
def test_third_signal(tmp_path: Path, workers: str) -> None:
    """Further signals are no error."""
    with serving(tmp_path, "--drain=1h", workers) as daemon, daemon.begin(bytes(300_000)):
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping: 1 upload in flight")
        with contextlib.suppress(ProcessLookupError):
            for _ in range(20):
                daemon.signal(signal.SIGTERM)
                time.sleep(0)
        daemon.wait_for_end()
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.errors.read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_all_processes(tmp_path: Path, number: int) -> None:
    """If a signal reaches all processes, as Ctrl-C on a terminal, workers still drain."""
    with serving(tmp_path, "--workers=2") as daemon, daemon.begin(bytes(300_000)) as peer:
        for pid in reversed(family(daemon)):
            os.kill(pid, number)
        daemon.wait_for_line("stopping: 1 upload in flight")
        assert finish(peer) == SUCCESS
        assert daemon.wait_for_end() == -number
        assert len(daemon.files()) == 1


@WORKERS
def test_started_in_the_background(tmp_path: Path, workers: str) -> None:
    """A signal that was ignored at the start stays ignored; SIGTERM still stops it."""
    ignoring = [sys.executable, "-c"]
    ignoring += [
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    ]
    with Daemon(tmp_path, workers, before=ignoring) as daemon, daemon.begin(bytes(300_000)) as peer:
        daemon.signal(signal.SIGINT)
        assert daemon.send(b"something") == SUCCESS
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping: 1 upload in flight")
        assert finish(peer) == SUCCESS
        assert daemon.wait_for_end() == -signal.SIGTERM


# SIGHUP


@WORKERS
def test_reload(tmp_path: Path, workers: str) -> None:
    """SIGHUP applies changes to new connections; existing ones continue as before."""
    with serving(tmp_path, workers) as daemon, daemon.begin(bytes(400_000)) as peer:
        line = configure(daemon, 'max-size = "300K"\nanswer = "OK"\n')
        assert "reloaded: answer 上传成功 -> OK, max-size 0 -> 300K\n" in line
        for _ in daemon.each_worker():
            wait_until(lambda: daemon.send(b"small") == b"OK", "the new answer in this worker")
        assert "too-large" in daemon.send(bytes(400_000)).decode()
        assert finish(peer) == SUCCESS
        assert max(file.stat().st_size for file in daemon.files()) == 400_000


def test_reload_in_new_workers(tmp_path: Path) -> None:
    """A worker that replaces a dead one has the reloaded configuration."""
    with serving(tmp_path, "--workers=2") as daemon:
        configure(daemon, 'answer = "OK"\n')
        for pid in family(daemon)[1:]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(daemon.lines("listens on")) >= 5, "two new workers to serve")
        assert daemon.send(b"something") == b"OK"


@WORKERS
def test_reload_of_access_rules(tmp_path: Path, workers: str) -> None:
    """Access rules and limits of connections can change; existing connections stay."""
    with serving(tmp_path, workers) as daemon, daemon.begin(bytes(400_000)) as peer:
        line = configure(daemon, 'deny = "127.0.0.0/8"\n')
        assert "reloaded: deny none -> 127.0.0.0/8\n" in line
        for _ in daemon.each_worker():
            wait_until(lambda: b"not-allowed" in daemon.send(b"x"), "the new rules in this worker")
        assert finish(peer) == SUCCESS
        line = configure(daemon, "max-connections = 1\n")
        assert "reloaded: max-connections auto -> 1, deny 127.0.0.0/8 -> none\n" in line


@WORKERS
def test_configuration_cannot_be_applied(tmp_path: Path, workers: str) -> None:
    """A valid configuration that this machine cannot support changes nothing."""
    with serving(tmp_path, workers) as daemon:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (1000, 1000))
        line = configure(daemon, 'max-connections = 30000\nanswer = "OK"\n')
        assert "reload failed, keeping the old configuration: " in line
        assert "raise it (ulimit -Hn" in line
        for _ in daemon.each_worker():
            assert daemon.send(b"something") == SUCCESS
        line = configure(daemon, 'max-connections = 100\nanswer = "OK"\n')
        assert "reloaded: max-connections auto -> 100, answer 上传成功 -> OK\n" in line
        for _ in daemon.each_worker():
            wait_until(lambda: daemon.send(b"something") == b"OK", "the new answer in this worker")


def test_slots_in_use(tmp_path: Path) -> None:
    """Connections from before a reload count after it, until they close."""
    with serving(tmp_path, text="max-connections = 2\n") as daemon:
        with daemon.begin(bytes(300_000)), daemon.begin(bytes(300_000)) as peer:
            configure(daemon, 'max-connections = 2\nanswer = "OK"\n')
            assert "busy" in daemon.send(b"one more").decode()
            configure(daemon, "max-connections = 3\n")
            assert daemon.send(b"one more") == SUCCESS
            assert finish(peer) == SUCCESS
        wait_until(lambda: daemon.send(b"one more") == SUCCESS, "free slots")


def test_nothing_has_changed(tmp_path: Path) -> None:
    """SIGHUP without any change says so."""
    with serving(tmp_path, text="receipts = true\n") as daemon:
        assert "reloaded: nothing has changed\n" in configure(daemon, "receipts = true\n")


def test_needs_a_restart(tmp_path: Path) -> None:
    """Options that cannot change at run time are named, and the rest is applied."""
    with serving(tmp_path) as daemon:
        line = configure(daemon, 'suffix = ".x"\ndrain = "5s"\nanswer = "OK"\n')
        assert "reloaded: drain 10s -> 5s, answer 上传成功 -> OK; needs a restart: suffix\n" in line
        assert daemon.send(b"something") == b"OK"
        assert daemon.files()[0].suffix == ".txt"


@WORKERS
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('max-size = "much"\n', "'much' is not a size"),
        ("max-sise = 1\n", "max-size"),
        ("= nonsense", "not valid TOML"),
    ],
)
def test_wrong_configuration_is_refused(tmp_path: Path, text: str, why: str, workers: str) -> None:
    """An invalid configuration is an error of one line, and the old one stays."""
    with serving(tmp_path, workers, text='answer = "OK"\n') as daemon:
        line = configure(daemon, text)
        assert "reload failed, keeping the old configuration: " in line
        assert why in line
        assert daemon.send(b"something") == b"OK"
        assert "Traceback" not in daemon.log.read_text()


def test_missing_configuration_is_refused(tmp_path: Path) -> None:
    """A missing configuration file is such an error too."""
    with serving(tmp_path, text='answer = "OK"\n') as daemon:
        (tmp_path / "upload.toml").unlink()
        daemon.signal(signal.SIGHUP)
        assert "cannot read" in daemon.wait_for_line("reload failed")
        assert daemon.send(b"something") == b"OK"


def test_log_file_is_reopened(tmp_path: Path) -> None:
    """SIGHUP after the log file was moved starts a new one with the old name."""
    log = tmp_path / "the.log"
    with serving(tmp_path, log=log) as daemon:
        log.rename(tmp_path / "old.log")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: log.exists() and daemon.lines("reloaded"), "another log file")
        daemon.send(b"something")
        assert daemon.wait_for_line(" stored ")
        assert " stored " not in (tmp_path / "old.log").read_text()


def test_log_file_cannot_be_reopened(tmp_path: Path) -> None:
    """If no new log file can be opened, the old one stays in use, with the reason in it."""
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "the.log"
    with serving(tmp_path, log=log) as daemon:
        (tmp_path / "logs").rename(tmp_path / "moved")
        daemon.log = tmp_path / "moved" / "the.log"
        daemon.signal(signal.SIGHUP)
        assert "No such file" in daemon.wait_for_line("cannot reopen the log file")
        daemon.send(b"something")
        assert daemon.wait_for_line(" stored ")


# SIGUSR1


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_kills_nothing(tmp_path: Path, number: int, workers: str) -> None:
    """SIGUSR1 and SIGHUP end neither the daemon nor its workers, and abort no upload."""
    with serving(tmp_path, workers) as daemon, daemon.begin(bytes(400_000)) as peer:
        processes = family(daemon)
        for _ in range(3):
            for pid in processes:
                os.kill(pid, number)
        assert "nothing has changed" in configure(daemon, "")
        assert finish(peer) == SUCCESS
        assert family(daemon) == processes
        assert "exited" not in daemon.log.read_text()


def test_kills_nothing_while_starting(tmp_path: Path) -> None:
    """SIGUSR1 and SIGHUP do not end a daemon that is starting."""
    with Daemon(tmp_path, "--workers=4") as daemon:
        for _ in range(100):
            for pid in family(daemon)[:1]:
                os.kill(pid, signal.SIGHUP)
                os.kill(pid, signal.SIGUSR1)
        assert daemon.send(b"something") == SUCCESS


def test_stop_while_a_worker_starts(tmp_path: Path) -> None:
    """A starting worker finishes its start and then stops, so that its test file is removed."""
    script = tmp_path / "starting.py"
    script.write_text(
        """
import os, signal
from twisted.internet import reactor
from twisted_upload.daemon.signals import Signals
Signals(reactor, None, worker=True).install()
os.kill(os.getpid(), signal.SIGTERM)
print("started")
reactor.addSystemEventTrigger("before", "shutdown", print, "stops")
reactor.run()
"""
    )
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.stdout.split() == ["started", "stops"]


def test_log_file_is_rotated(tmp_path: Path) -> None:
    """SIGUSR1 starts a new log file and retains the old one."""
    log = tmp_path / "the.log"
    with serving(tmp_path, log=log) as daemon:
        daemon.signal(signal.SIGUSR1)
        wait_until((tmp_path / "the.log.1").exists, "a rotated log file")
        daemon.send(b"something")
        assert daemon.wait_for_line(" stored ")
        assert "listens on" in (tmp_path / "the.log.1").read_text()
