"""
``twistd upload`` in the background, and the files that twistd itself writes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import (
    SUCCESS,
    Daemon,
    addresses_in,
    connect,
    deadly,
    run_twistd,
    twistd,
    unprivileged,
    wait_until,
)
from tests.support.processes import gone
from tests.support.twistd import ASCII, assert_one_line, finish_with


def test_daemon_mode(tmp_path: Path) -> None:
    """Without -n it prints its addresses, goes into the background, and stops on SIGTERM."""
    pidfile, log = tmp_path / "pid", tmp_path / "log"
    result = run_twistd(
        tmp_path,
        *(f"--pidfile={pidfile}", f"--logfile={log}", "upload", "--directory=inbox"),
        *("--port=0", "--interface=127.0.0.1"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    pid = int(wait_until(lambda: pidfile.exists() and pidfile.read_text(), "a pidfile"))
    try:
        assert re.fullmatch(
            rf"twisted-upload listens on 127\.0\.0\.1:\d+; files go to {tmp_path}/inbox\n",
            result.stdout,
        )
        ((family, address),) = addresses_in(result.stdout)
        with connect(family, address) as peer:
            assert finish_with(peer, b"something") == SUCCESS
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), "the pidfile's end")
        wait_until(lambda: gone(pid), "the daemon's end")
        assert log.read_text().count("listens on") == 1
        (stored,) = [p for p in (tmp_path / "inbox").iterdir() if p.is_file()]
        assert stat.S_IMODE(stored.stat().st_mode) == 0o640
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_daemon_mode_in_ascii(tmp_path: Path) -> None:
    """Without -n, a start line that the terminal cannot display does not stop the daemon."""
    pidfile = tmp_path / "pid"
    arguments = [f"--pidfile={pidfile}", f"--logfile={tmp_path}/log", "upload", "--port=0"]
    try:
        result = run_twistd(tmp_path, *arguments, "--directory=收件箱", environment=ASCII)
        assert (result.returncode, result.stderr) == (0, "")
        assert "listens on" in result.stdout
    finally:
        if pidfile.exists():
            os.kill(int(pidfile.read_text()), signal.SIGKILL)


def test_daemon_mode_reports_errors(tmp_path: Path) -> None:
    """Without -n, a daemon that cannot start reports the error on the terminal and exits."""
    (tmp_path / "inbox").write_text("a file")
    arguments = [f"--pidfile={tmp_path}/pid", f"--logfile={tmp_path}/log", "upload", "--port=0"]
    result = run_twistd(tmp_path, *arguments, "--directory=inbox")
    assert_one_line(result, f"{tmp_path}/inbox", 1)
    assert not (tmp_path / "pid").exists()


@pytest.fixture
def not_writable(tmp_path: Path) -> Iterator[Path]:
    """A folder that the user `unprivileged` can neither write to nor make writable."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "inbox").mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_folder_cannot_be_written(not_writable: Path) -> None:
    """In the foreground it starts in any folder and writes nothing there."""
    command = [*unprivileged(), twistd(), "-n", "upload", "--port=0", "--interface=127.0.0.1"]
    daemon = subprocess.Popen(
        [*deadly(), *command, f"--directory={not_writable.parent}/inbox"],
        cwd=not_writable,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stdout is not None
        output = ""
        while "listens on" not in output:
            line = daemon.stdout.readline()
            assert line, f"{output}{daemon.communicate()}"
            output += line
        assert [*not_writable.iterdir()] == []
    finally:
        daemon.terminate()
        daemon.communicate()


@pytest.mark.parametrize("arguments", [["--logfile=../log"], ["-n", "--pidfile=x"]])
def test_pid_file_cannot_be_written(not_writable: Path, arguments: list[str]) -> None:
    """A requested pid file that cannot be written is an error of one line."""
    (not_writable.parent / "log").touch()
    inbox = f"--directory={not_writable.parent}/inbox"
    result = run_twistd(
        not_writable, *arguments, "upload", "--port=0", inbox, before=unprivileged()
    )
    assert_one_line(result, "--pidfile: cannot write", 1)


def test_pid_file_with_rundir(not_writable: Path) -> None:
    """The pid file is relative to the folder of the start, not to --rundir."""
    above = not_writable.parent
    above.chmod(0o777)
    log, pidfile = above / "log", above / "pid"
    log.touch()
    log.chmod(0o666)
    general = [f"--logfile={log}", "--pidfile=pid"]
    arguments = ["upload", "--port=0", "--interface=127.0.0.1", f"--directory={above}/files"]
    inside = run_twistd(
        not_writable, *general, f"--rundir={above}", *arguments, before=unprivileged()
    )
    assert_one_line(inside, f"--pidfile: cannot write {not_writable}/pid", 1)
    assert not pidfile.exists()
    result = run_twistd(above, *general, "--rundir=folder", *arguments, before=unprivileged())
    pid = int(wait_until(lambda: pidfile.exists() and pidfile.read_text(), "a pidfile"))
    try:
        assert (result.returncode, result.stderr) == (0, "")
        assert os.readlink(f"/proc/{pid}/cwd") == str(not_writable)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: gone(pid), "the daemon's end")
        assert not pidfile.exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_log_file_cannot_be_written(not_writable: Path) -> None:
    """In the background, a log file that cannot be written is one line too."""
    inbox = f"--directory={not_writable.parent}/inbox"
    result = run_twistd(
        not_writable, "--pidfile=", "upload", "--port=0", inbox, before=unprivileged()
    )
    assert_one_line(result, "--logfile: cannot write", 1)


def test_two_in_one_folder(tmp_path: Path) -> None:
    """Two daemons can run in one folder, and leave only stored files there."""
    with Daemon(tmp_path) as one, Daemon(tmp_path) as other:
        assert one.send(b"content") == SUCCESS
        assert other.send(b"content") == SUCCESS
        assert not [*tmp_path.glob("*.pid")]


@pytest.mark.parametrize("name", ["mine.pid", "twistd.pid"])
def test_pid_file_on_request(tmp_path: Path, name: str) -> None:
    """In the foreground there is a pid file on request, with any name."""
    with Daemon(tmp_path, general=[f"--pidfile={name}"]) as daemon:
        assert int((tmp_path / name).read_text()) == daemon.pid
        daemon.stop()
        assert not (tmp_path / name).exists()


def test_failed_start_leaves_no_pid_file(tmp_path: Path) -> None:
    """If it cannot start, it leaves no pid file that would block the next start."""
    (tmp_path / "inbox").write_text("a file")
    arguments = ["-n", "--pidfile=x", "upload", "--port=0", "--directory=inbox"]
    assert run_twistd(tmp_path, *arguments).returncode == 1
    assert not (tmp_path / "x").exists()
