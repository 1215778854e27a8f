"""
The real ``twistd upload``: starting, refusing to start, serving, stopping.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import (
    PATIENCE,
    SUCCESS,
    Configured,
    Daemon,
    addresses_in,
    connect,
    content,
    crowd,
    deadly,
    finish,
    hear,
    on_a_file_system,
    photo,
    run_twistd,
    sha256,
    twistd,
    unprivileged,
    until,
)
from twisted_upload.daemon.tap import Options
from twisted_upload.observability.records import FIELDS

FAILURE = "上传失败: "


# Starting


def test_serves(tmp_path: Path) -> None:
    """A file sent over TCP is answered with 上传成功 and is in the directory, byte for byte."""
    data = photo(500_000)
    with Daemon(tmp_path) as daemon:
        assert daemon.send(data) == SUCCESS
        (file,) = daemon.files()
        assert file.read_bytes() == data
        assert re.fullmatch(r"\d{13}\.jpg", file.name)
        assert daemon.unfinished() == []
    assert daemon.errors.read_text() == ""


def test_start_line(tmp_path: Path) -> None:
    """At start it says, in one line, where it listens and where files go."""
    with Daemon(tmp_path) as daemon:
        daemon.send(b"something")
        port = daemon.address[1]
        (line,) = daemon.lines("listens on")
        assert f"listens on 127.0.0.1:{port}; files go to {daemon.directory}\n" in line


def test_missing_directory(tmp_path: Path) -> None:
    """A directory that is missing is created with its parents, and with `.incoming` in it."""
    folder = tmp_path / "deep" / "deeper"
    with Daemon(tmp_path, f"--directory={folder}") as daemon:
        daemon.send(b"something")
        assert {p.is_file() for p in folder.iterdir() if p.name != ".incoming"} == {True}
        assert stat.S_IMODE((folder / ".incoming").stat().st_mode) == 0o700


def test_directory_is_relative_to_where_it_was_started(tmp_path: Path) -> None:
    """A relative directory is one of the folder that twistd is started in."""
    with Daemon(tmp_path, "--directory=./here") as daemon:
        assert daemon.lines(f"files go to {tmp_path}/here\n")


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
def test_interface(tmp_path: Path, interface: str) -> None:
    """--interface is the one address that it listens on, IPv4 or IPv6."""
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        try:
            probe.bind((interface, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {interface}: {error}")
    with Daemon(tmp_path, "--port=0", f"--interface={interface}") as daemon:
        ((listening, address),) = daemon.addresses
        assert (listening, address[0]) == (family, interface)
        with connect(listening, address) as peer:
            assert finish_with(peer, b"something") == SUCCESS


def test_all_interfaces(tmp_path: Path) -> None:
    """Without --interface it listens on all addresses, of IPv4 and of IPv6 where there is any."""
    with Daemon(tmp_path, "--port=0") as daemon:
        port = daemon.address[1]
        with connect(socket.AF_INET, ("127.0.0.1", port)) as peer:
            assert finish_with(peer, b"four") == SUCCESS
        if socket.has_dualstack_ipv6():
            with connect(socket.AF_INET6, ("::1", port)) as peer:
                assert finish_with(peer, b"six") == SUCCESS


def test_unix_socket(tmp_path: Path) -> None:
    """--listen unix:PATH takes uploads over a UNIX socket, and removes the socket at the end."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes at the most
        path = os.path.join(short, "upload.sock")
        with Daemon(tmp_path, f"--listen=unix:{path}") as daemon:
            assert daemon.addresses == [(socket.AF_UNIX, path)]
            with connect(socket.AF_UNIX, path) as peer:
                assert finish_with(peer, b"something") == SUCCESS
            assert daemon.only_file() == b"something"
            assert daemon.wait_for_line(f"from unix uid {os.getuid()} pid {os.getpid()}")
            daemon.stop()
            assert not os.path.exists(path)


def test_two_endpoints(tmp_path: Path) -> None:
    """--listen can be repeated, and all that it listens on is in the start line."""
    options = [f"--listen=tcp:0:interface=127.0.0.{last}" for last in (1, 2)]
    with Daemon(tmp_path, *options) as daemon:
        assert [address[0] for _, address in daemon.addresses] == ["127.0.0.1", "127.0.0.2"]
        for family, address in daemon.addresses:
            with connect(family, address) as peer:
                assert finish_with(peer, b"something") == SUCCESS
        assert len(daemon.files()) == 2


def test_port_and_listen(tmp_path: Path) -> None:
    """--port beside --listen adds the port to the endpoints."""
    options = ("--port=0", "--interface=127.0.0.1", "--listen=tcp:0:interface=127.0.0.2")
    with Daemon(tmp_path, *options) as daemon:
        assert [address[0] for _, address in daemon.addresses] == ["127.0.0.1", "127.0.0.2"]


def test_listen_alone(tmp_path: Path) -> None:
    """With --listen and no --port, it does not listen on port 6666 as well."""
    with Daemon(tmp_path, "--listen=tcp:0:interface=127.0.0.1") as daemon:
        assert len(daemon.addresses) == 1


def test_socket_activation(tmp_path: Path) -> None:
    """--listen systemd: serves on a socket that systemd has opened."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        environment = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "upload"}
        as_systemd = (  # sd_listen_fds(3)
            f"import os, sys; os.dup2({number}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        with Daemon(
            tmp_path,
            "--listen=systemd:domain=INET:index=0",
            before=(sys.executable, "-c", as_systemd),
            environment=environment,
            descriptors=(number,),
        ) as daemon:
            assert daemon.addresses == [(socket.AF_INET, listening.getsockname())]
            assert daemon.send(b"something") == SUCCESS


def gone(pid: int) -> bool:
    """Whether a process has ended; init may be slow to bury it."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_daemon_mode(tmp_path: Path) -> None:
    """Without -n it says where it listens, goes into the background, and stops on SIGTERM."""
    pidfile, log = tmp_path / "pid", tmp_path / "log"
    result = run_twistd(
        tmp_path,
        *(f"--pidfile={pidfile}", f"--logfile={log}", "upload", "--directory=inbox"),
        *("--port=0", "--interface=127.0.0.1"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    pid = int(until(lambda: pidfile.exists() and pidfile.read_text(), "a pidfile"))
    try:
        assert re.fullmatch(
            rf"twisted-upload listens on 127\.0\.0\.1:\d+; files go to {tmp_path}/inbox\n",
            result.stdout,
        )
        ((family, address),) = addresses_in(result.stdout)
        with connect(family, address) as peer:
            assert finish_with(peer, b"something") == SUCCESS
        os.kill(pid, signal.SIGTERM)
        until(lambda: not pidfile.exists(), "the pidfile's end")
        until(lambda: gone(pid), "the daemon's end")
        assert log.read_text().count("listens on") == 1
        (kept,) = [p for p in (tmp_path / "inbox").iterdir() if p.is_file()]
        assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_daemon_mode_in_ascii(tmp_path: Path) -> None:
    """Without -n, a start line that the terminal cannot show does not stop the daemon."""
    pidfile = tmp_path / "pid"
    arguments = [f"--pidfile={pidfile}", f"--logfile={tmp_path}/log", "upload", "--port=0"]
    try:
        result = run_twistd(tmp_path, *arguments, "--directory=收件箱", environment=ASCII)
        assert (result.returncode, result.stderr) == (0, "")
        assert "listens on" in result.stdout
    finally:
        if pidfile.exists():
            os.kill(int(pidfile.read_text()), signal.SIGKILL)


def test_daemon_mode_tells_what_is_wrong(tmp_path: Path) -> None:
    """Without -n, a daemon that cannot start says so on the terminal before it goes away."""
    (tmp_path / "inbox").write_text("a file")
    arguments = [f"--pidfile={tmp_path}/pid", f"--logfile={tmp_path}/log", "upload", "--port=0"]
    result = run_twistd(tmp_path, *arguments, "--directory=inbox")
    assert_one_line(result, f"{tmp_path}/inbox", 1)
    assert not (tmp_path / "pid").exists()


@pytest.fixture
def not_writable(tmp_path: Path) -> Iterator[Path]:
    """A folder that whoever `unprivileged` is cannot write, and cannot make writable."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "inbox").mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_folder_that_cannot_be_written(not_writable: Path) -> None:
    """In the foreground it starts in any folder, and writes nothing there."""
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
        said = ""
        while "listens on" not in said:
            line = daemon.stdout.readline()
            assert line, f"{said}{daemon.communicate()}"
            said += line
        assert [*not_writable.iterdir()] == []
    finally:
        daemon.terminate()
        daemon.communicate()


@pytest.mark.parametrize("arguments", [["--logfile=../log"], ["-n", "--pidfile=x"]])
def test_pid_file_that_cannot_be_written(not_writable: Path, arguments: list[str]) -> None:
    """A file for the process number that is wanted, and cannot be had, is one line."""
    (not_writable.parent / "log").touch()
    inbox = f"--directory={not_writable.parent}/inbox"
    result = run_twistd(
        not_writable, *arguments, "upload", "--port=0", inbox, before=unprivileged()
    )
    assert_one_line(result, "--pidfile: cannot write", 1)


def test_pid_file_with_rundir(not_writable: Path) -> None:
    """The file for the process number is in the folder it was started in, not in --rundir."""
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
    pid = int(until(lambda: pidfile.exists() and pidfile.read_text(), "a pidfile"))
    try:
        assert (result.returncode, result.stderr) == (0, "")
        assert os.readlink(f"/proc/{pid}/cwd") == str(not_writable)
        os.kill(pid, signal.SIGTERM)
        until(lambda: gone(pid), "the daemon's end")
        assert not pidfile.exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_log_file_that_cannot_be_written(not_writable: Path) -> None:
    """In the background, so is a log file."""
    inbox = f"--directory={not_writable.parent}/inbox"
    result = run_twistd(
        not_writable, "--pidfile=", "upload", "--port=0", inbox, before=unprivileged()
    )
    assert_one_line(result, "--logfile: cannot write", 1)


def test_two_in_one_folder(tmp_path: Path) -> None:
    """Two daemons may run in one folder, and leave nothing there but what they keep."""
    with Daemon(tmp_path) as one, Daemon(tmp_path) as other:
        assert one.send(b"content") == SUCCESS
        assert other.send(b"content") == SUCCESS
        assert not [*tmp_path.glob("*.pid")]


@pytest.mark.parametrize("name", ["mine.pid", "twistd.pid"])
def test_pid_file_that_is_asked_for(tmp_path: Path, name: str) -> None:
    """In the foreground there is one if it is asked for, whatever its name."""
    with Daemon(tmp_path, general=[f"--pidfile={name}"]) as daemon:
        assert int((tmp_path / name).read_text()) == daemon.pid
        daemon.stop()
        assert not (tmp_path / name).exists()


def test_failed_start_leaves_no_pid_file(tmp_path: Path) -> None:
    """Where it cannot start, it leaves no file that would be in the way of the next start."""
    (tmp_path / "inbox").write_text("a file")
    arguments = ["-n", "--pidfile=x", "upload", "--port=0", "--directory=inbox"]
    assert run_twistd(tmp_path, *arguments).returncode == 1
    assert not (tmp_path / "x").exists()


def test_drops_its_privileges() -> None:
    """Started by root with --uid and --gid, it keeps files as that user."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to drop its privileges")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "inbox").mkdir()
        os.chown(folder / "inbox", 65534, 65534)
        with Daemon(folder, general=("--uid=65534", "--gid=65534")) as daemon:
            assert daemon.send(b"something") == SUCCESS
            (file,) = daemon.files()
            assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65534)
            assert (daemon.directory / ".incoming").stat().st_uid == 65534


@pytest.mark.parametrize(("options", "processes"), [((), 1), (("--workers=2",), 3)])
def test_start_is_set_aside(tmp_path: Path, options: Sequence[str], processes: int) -> None:
    """No process of the daemon has its modules looked through for garbage again and again."""
    told = tmp_path / "told"
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import gc, os
def freeze(freeze=gc.freeze):
    freeze()
    with open({str(told)!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{gc.get_freeze_count()}}\\n")
gc.freeze = freeze
"""
    )

    def lines() -> Sequence[str]:
        return told.read_text().splitlines()

    with Daemon(tmp_path, *options, environment={"PYTHONPATH": str(tmp_path)}) as daemon:
        until(
            lambda: told.exists() and len({it.split()[0] for it in lines()}) == processes,
            "all processes to have started",
        )
        assert daemon.send(b"something") == SUCCESS
    assert all(int(line.split()[1]) > 10_000 for line in lines())


# Not starting


def assert_one_line(result: subprocess.CompletedProcess[str], names: str, status: int) -> None:
    """It said one line on standard error that names the thing, and nothing else."""
    assert result.stdout == ""
    assert result.stderr.endswith("\n")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert names in result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == status


def refusal_to_start(
    folder: Path, *options: str, before: tuple[str, ...] | list[str] = ()
) -> subprocess.CompletedProcess[str]:
    return run_twistd(
        folder,
        *("-n", "--pidfile=", "upload", "--port=0", "--interface=127.0.0.1"),
        *(f"--directory={folder}/inbox", *options),
        before=before,
    )


NONSENSE: dict[str, list[str]] = {
    "port": ["http", "-1", "65536", "", "६"],
    "interface": ["localhost", "300.1.1.1", "[::1]"],
    "listen": [
        "6666",
        "",
        "tcp",
        "tcp:http",
        "tcp:0:nonsense=1",
        "tls:0:interface=127.0.0.1",
        "tls:0:key=no/such.pem:cert=no/such.pem",
        "ssl:0:interface=127.0.0.1",
        "haproxy:tcp:0",
        "unix:",
        "systemd:domain=INET:index=0",  # there is none
        "carrier-pigeon:0",
    ],
    "directory": [""],
    "suffix": ["jpg", ".", "../x", ".a/b", ".jpg\n"],
    "mode": ["rw", "999", "-1", "01000", "0240"],
    "reserve": ["some", "-1", "101%"],
    "answer": ["", "a\nb", "上传失败: empty", "x" * 1025, "\x1b[2J"],
    "max-size": ["big", "-1", "1X", "nan"],
    "idle-timeout": ["soon", "-1s", "inf", "9999999h"],
    "finish-after-idle": ["soon", "-1", "60s"],
    "min-rate": ["slow", "-1", "500/s"],
    "max-connections": ["0", "-1", "many", "", "10000000"],
    "max-per-address": ["-1", "few", "", "1.5"],
    "allow": ["example.org", "192.0.2.7/24", "192.0.2.0/33", "", "fe80::1%lo"],
    "deny": ["localhost", "2001:db8::7/32", "192.0.2", ""],
    "proxy-from": ["127.0.0.1", "balancer", "127.0.0.1/8", ""],
    "drain": ["soon", "-1", ""],
    "on-upload": ["'", "bin/program", "'' x"],
    "on-upload-jobs": ["0", "many", "65"],
    "on-upload-timeout": ["soon", "-1"],
    "on-upload-attempts": ["0", "many", "1001"],
    "disk-threads": ["0", "many", "257"],
    "workers": ["0", "many", "257"],
    "metrics": ["nonsense", "65536", "-1", "६", "tls:9464", "tcp:", "tcp:x", "tcp6:-1", "unix:"],
    "metrics-host": ["", "a b", "http://a", "a:80", "a..b", "é.example", "a" * 254],
    "config": ["missing.toml", ""],
    "log-format": ["xml", ""],
    "journal": [""],
    "journal-size": ["big", "-1"],
    "journal-keep": ["many", "-1", "1001"],
}


def takes_value(option: str) -> bool:
    return option.endswith("=")


def wrong_values(option: str) -> list[str]:
    name = option.rstrip("=")
    if not takes_value(option):
        return [f"--{name}=yes"]
    assert name in NONSENSE, f"say in NONSENSE what is nonsense for --{name}"
    return [f"--{name}={value}" for value in NONSENSE[name]]


@pytest.mark.parametrize("option", [*filter(takes_value, Options().longOpt), "receipts"])
def test_nonsense(tmp_path: Path, option: str) -> None:
    """A wrong value of any option is refused in one line that names it, with status 2."""
    wrong = wrong_values(option)
    if option != "listen=":  # of the others one value will do here; see the next test
        wrong = wrong[:1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda value: refusal_to_start(tmp_path, value), wrong))
    bad = []
    for value, result in zip(wrong, results, strict=True):
        try:
            assert_one_line(result, f"--{option.rstrip('=')}", 2)
        except AssertionError as error:
            bad.append(f"{value!r}: {error}")
    assert not bad, "\n\n".join(bad)


@pytest.mark.parametrize("option", [option for option in Options().longOpt if option != "listen="])
def test_more_nonsense(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All that can be nonsense is refused so; here without a process for each."""
    for wrong in wrong_values(option):
        with pytest.raises(SystemExit) as ended:
            Options().parseOptions([wrong])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        result = subprocess.CompletedProcess(wrong, code, out, err)
        assert_one_line(result, f"--{option.rstrip('=')}", 2)


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("--nonsense", "--nonsense"),
        ("--nonsense=1", "--nonsense"),
        ("--max-sise=1", "--max-sise: there is no such option; the nearest is --max-size"),
        ("nonsense", "nonsense"),
        ("--port", "--port"),
    ],
)
def test_unknown_argument(tmp_path: Path, argument: str, names: str) -> None:
    """What is not an option, and an option without its value, are refused in one line."""
    assert_one_line(refusal_to_start(tmp_path, argument), names, 2)


@pytest.mark.parametrize("kind", ["ssl", "haproxy"])
def test_endpoints_without_half_close(tmp_path: Path, kind: str) -> None:
    """An endpoint on which a half-close cannot arrive is refused, and the line says why."""
    result = refusal_to_start(tmp_path, f"--listen={kind}:0")
    assert_one_line(result, "half-close", 2)
    assert f"{kind}:" in result.stderr


def test_help(tmp_path: Path) -> None:
    """--help lists every option with its default, and says in which units values are."""
    result = run_twistd(tmp_path, "upload", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "   only" not in result.stdout
    text = re.sub(r"\s+", " ", result.stdout)
    described = dict(re.findall(r"--([a-z-]+)=? (.*?)(?= --[a-z-]+=? [A-Z]|\Z)", text))
    without_default = {
        "listen",
        "allow",
        "deny",
        "proxy-from",
        "metrics-host",
        "config",
        "journal",
        "help",
        "version",
    }
    for option in Options().longOpt:
        name = option.rstrip("=")
        assert described[name], name
        if takes_value(option) and name not in without_default:
            assert "[default: " in described[name], name
    assert "Bytes" in described["max-size"]
    for name in ("idle-timeout", "finish-after-idle", "drain"):
        assert re.search(r"\[default: (\d+(ms|s|m|h)|0)\]", described[name]), name
    assert "durations are seconds" in text
    assert "512K" in text


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


def test_help_in_ascii(tmp_path: Path) -> None:
    """--help works on a terminal that has no Chinese."""
    result = run_twistd(tmp_path, "upload", "--help", environment=ASCII)
    assert (result.returncode, result.stderr) == (0, "")
    assert "--answer" in result.stdout


def test_interface_without_port(tmp_path: Path) -> None:
    """--interface goes with --port: where it would mean nothing, it is refused."""
    result = run_twistd(
        tmp_path,
        *("-n", "--pidfile=", "upload", "--listen=tcp:0:interface=127.0.0.1"),
        "--interface=127.0.0.1",
    )
    assert_one_line(result, "--interface", 2)


def test_same_port_twice(tmp_path: Path) -> None:
    """Of two endpoints that exclude each other, the second is named."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    result = refusal_to_start(tmp_path, f"--port={port}", f"--listen={endpoint}")
    assert_one_line(result, f"--listen {endpoint}", 1)


def test_port_in_use(tmp_path: Path) -> None:
    """A port that another program has is one line and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = refusal_to_start(tmp_path, f"--port={port}")
    assert_one_line(result, f"--port {port} (", 1)
    assert "Address already in use" in result.stderr


def test_port_of_root(tmp_path: Path) -> None:
    """A port that only root may have is one line and status 1."""
    with contextlib.suppress(OSError):
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 99:
            pytest.skip("anybody may listen on any port here")
    result = refusal_to_start(tmp_path, "--port=99", before=unprivileged())
    assert_one_line(result, "--port 99 (", 1)
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:0:interface=203.0.113.1",
        "tcp:0:interface=nonsense",
        "tcp:99999",
        "unix:/nowhere/upload.sock",
        "unix:/" + "x" * 200,
    ],
)
def test_endpoint_that_cannot_be_had(tmp_path: Path, endpoint: str) -> None:
    """An endpoint that cannot be listened on is named in one line, with status 1."""
    assert_one_line(refusal_to_start(tmp_path, f"--listen={endpoint}"), endpoint, 1)


def test_directory_is_a_file(tmp_path: Path) -> None:
    """A directory that is a file is one line that names it, and status 1."""
    (tmp_path / "inbox").write_text("a file")
    result = refusal_to_start(tmp_path)
    assert_one_line(result, f"{tmp_path}/inbox: Not a directory", 1)


def test_directory_under_a_file(tmp_path: Path) -> None:
    """A directory that cannot be made is one line that names it, and status 1."""
    (tmp_path / "file").write_text("a file")
    result = refusal_to_start(tmp_path, f"--directory={tmp_path}/file/inbox")
    assert_one_line(result, f"{tmp_path}/file/inbox", 1)


def test_incoming_is_a_file(tmp_path: Path) -> None:
    """A file where .incoming must be is one line that names it, and status 1."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / ".incoming").write_text("a file")
    assert_one_line(refusal_to_start(tmp_path), ".incoming", 1)


@contextlib.contextmanager
def somebody_elses(folder: Path) -> Iterator[Path]:
    """A folder that we may read, but not write to, unless permissions do not bind us."""
    inbox = folder / "inbox"
    inbox.mkdir()
    if os.geteuid() == 0:
        os.chown(inbox, 65534, 65534)
    inbox.chmod(0o555)
    try:
        yield inbox
    finally:
        inbox.chmod(0o755)


def test_directory_not_writable(tmp_path: Path) -> None:
    """A directory of somebody else is one line that names it, and status 1."""
    with somebody_elses(tmp_path) as inbox:
        result = refusal_to_start(tmp_path, before=unprivileged())
        assert_one_line(result, f"{inbox}: Permission denied", 1)
        result = refusal_to_start(tmp_path, f"--directory={inbox}/missing", before=unprivileged())
        assert_one_line(result, f"{inbox}/missing: Permission denied", 1)
        assert list(inbox.iterdir()) == []


def test_read_only_file_system(tmp_path: Path) -> None:
    """A directory on a read-only file system is one line that names it, and status 1."""
    inbox = tmp_path / "inbox"
    result = refusal_to_start(tmp_path, before=on_a_file_system(inbox, "ro"))
    assert_one_line(result, f"{inbox}: Read-only file system", 1)


def test_full_disk_at_start(tmp_path: Path) -> None:
    """A directory on a full disk is one line that names it, and status 1."""
    inbox = tmp_path / "inbox"
    result = refusal_to_start(tmp_path, before=on_a_file_system(inbox, "size=64k", fill=True))
    assert_one_line(result, f"{inbox}", 1)
    assert "No space left on device" in result.stderr


def test_disk_fills_up(tmp_path: Path) -> None:
    """A full disk refuses the upload with no-space, keeps nothing of it, and takes smaller ones."""
    before = on_a_file_system(tmp_path / "inbox", "size=1M")
    with Daemon(tmp_path, before=before) as daemon:
        daemon.directory = Path(f"/proc/{daemon.pid}/root{daemon.directory}")
        with daemon.connect() as peer:
            with contextlib.suppress(ConnectionError):  # it may stop listening to so much
                peer.sendall(bytes(2_000_000))
            assert hear(peer).decode().startswith(f"{FAILURE}no-space ")
        until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []
        assert daemon.send(bytes(500_000)) == SUCCESS
        assert daemon.only_file() == bytes(500_000)


# Stopping


def stops(daemon: Daemon, number: int) -> None:
    """It ended in an orderly way: with the signal that told it to, as twistd does."""
    assert daemon.wait_for_end() == -number
    assert daemon.lines("Server Shut Down")
    assert daemon.errors.read_text() == ""
    assert daemon.unfinished() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(tmp_path: Path, number: int) -> None:
    """SIGTERM and SIGINT (Ctrl-C) stop an idle daemon at once, and what it has kept stays."""
    with Daemon(tmp_path, "--drain=1h") as daemon:
        assert daemon.send(b"something") == SUCCESS
        daemon.signal(number)
        stops(daemon, number)
        assert daemon.only_file() == b"something"


def test_stop_with_idle_connections(tmp_path: Path) -> None:
    """A connection that has sent nothing does not hold up the end; it hears shutting-down."""
    with Daemon(tmp_path, "--drain=1h") as daemon, daemon.connect() as peer:
        daemon.send(b"something")  # so the daemon has seen the other connection too
        daemon.signal(signal.SIGTERM)
        assert hear(peer).decode().startswith(f"{FAILURE}shutting-down ")
        peer.close()
        stops(daemon, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(tmp_path: Path, number: int) -> None:
    """Told to stop, it lets an upload in flight finish, and refuses new ones as shutting-down."""
    data = photo(400_000)
    with Daemon(tmp_path, "--drain=1h") as daemon, daemon.begin(data[:300_000]) as peer:
        daemon.signal(number)
        daemon.wait_for_line("stopping: 1 uploads in flight")
        assert daemon.send(b"too late").decode().startswith(f"{FAILURE}shutting-down ")
        assert daemon.running()
        peer.sendall(data[300_000:])
        assert finish(peer) == SUCCESS
        stops(daemon, number)
        assert daemon.only_file() == data


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_drain_ends(tmp_path: Path, size: int) -> None:
    """When the drain time is over, the rest hears shutting-down, and nothing of it is kept."""
    with contextlib.ExitStack() as peers:
        daemon = peers.enter_context(Daemon(tmp_path, "--drain=200ms"))
        begun = [peers.enter_context(daemon.begin(photo(size))) for _ in range(3)]
        daemon.signal(signal.SIGTERM)
        for peer in begun:
            assert hear(peer).decode().startswith(f"{FAILURE}shutting-down ")
            peer.close()
        stops(daemon, signal.SIGTERM)
        assert daemon.files() == []


def test_killed(tmp_path: Path) -> None:
    """A daemon that is killed leaves no partial file in sight, and the next start sweeps up."""
    with Daemon(tmp_path) as daemon:
        assert daemon.send(b"kept") == SUCCESS
        with daemon.begin(bytes(300_000)):
            assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        assert len(daemon.unfinished()) == 1
        assert daemon.only_file() == b"kept"
    with Daemon(tmp_path) as daemon:
        assert daemon.unfinished() == []
        assert daemon.only_file() == b"kept"


def test_two_daemons_on_one_directory(tmp_path: Path) -> None:
    """A daemon that starts on the directory of another leaves the other's uploads alone."""
    (tmp_path / "other").mkdir()
    data = photo(300_000)
    with Daemon(tmp_path) as daemon, daemon.begin(data) as peer:
        with Daemon(tmp_path / "other", f"--directory={daemon.directory}") as other:
            assert other.send(b"something") == SUCCESS
            assert len(daemon.unfinished()) == 1
        assert finish(peer) == SUCCESS
        assert Counter(file.read_bytes() for file in daemon.files()) == {data: 1, b"something": 1}


# Options


def finish_with(peer: socket.socket, data: bytes) -> bytes:
    peer.sendall(data)
    return finish(peer)


def jpeg() -> bytes:
    """The smallest thing that a JPEG reader takes for a picture: 1 by 1."""
    tables = b"\xff\xdb\x00\x43\x00" + bytes([16]) * 64
    frame = b"\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00"
    huffman = b"\xff\xc4\x00\x14\x00\x01" + bytes(15) + b"\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x7f"
    return photo(22)[:20] + tables + frame + huffman + scan + b"\xff\xd9"


def png() -> bytes:
    """A white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff")
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def pdf() -> bytes:
    return b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


UNTOLD = b"no one can tell\0"


@pytest.mark.parametrize(
    ("suffix", "ends"),
    [
        ("auto", {jpeg(): ".jpg", png(): ".png", pdf(): ".pdf", UNTOLD: ".bin"}),
        (".jpg", {UNTOLD: ".jpg", png(): ".jpg"}),
        (".tar.gz", {UNTOLD: ".tar.gz"}),
        ("", {jpeg(): ""}),
    ],
    ids=["auto", "fixed", "double", "empty"],
)
def test_suffix(tmp_path: Path, suffix: str, ends: dict[bytes, str]) -> None:
    """--suffix is told from the first bytes, or fixed, or empty; the file is unchanged by it."""
    with Daemon(tmp_path, f"--suffix={suffix}") as daemon:
        for data in ends:
            assert daemon.send(data) == SUCCESS
        files = {file.read_bytes(): file.name for file in daemon.files()}
        assert files.keys() == ends.keys()
        for data, end in ends.items():
            assert re.fullmatch(r"\d{13}(-\d+)?" + re.escape(end), files[data])


@pytest.mark.parametrize("umask", ["0", "077"])
def test_mode(tmp_path: Path, umask: str) -> None:
    """Kept files have the permissions of --mode, whatever the umask; .incoming has 0700."""
    with Daemon(tmp_path, "--mode=0604", general=(f"--umask={umask}",)) as daemon:
        assert daemon.send(b"small") == SUCCESS
        assert daemon.send(bytes(400_000)) == SUCCESS
        assert {stat.S_IMODE(file.stat().st_mode) for file in daemon.files()} == {0o604}
        assert stat.S_IMODE((daemon.directory / ".incoming").stat().st_mode) == 0o700


def test_default_mode(tmp_path: Path) -> None:
    """Without --mode, a kept file is its owner's to write and its group's to read."""
    with Daemon(tmp_path, general=("--umask=0",)) as daemon:
        assert daemon.send(b"something") == SUCCESS
        (file,) = daemon.files()
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_receipts(tmp_path: Path) -> None:
    """With --receipts the answer is one line: 上传成功, name, size and SHA-256."""
    with Daemon(tmp_path, "--receipts") as daemon:
        for data in (b"small", photo(700_000)):
            answer = daemon.send(data).decode()
            file = daemon.files()[-1]
            assert answer == f"上传成功 {file.name} {len(data)} {sha256(data)}\n"


def test_answer(tmp_path: Path) -> None:
    """--answer is what a sender hears, exactly, in UTF-8."""
    with Daemon(tmp_path, "--answer=très bien 👍") as daemon:
        assert daemon.send(b"something") == "très bien 👍".encode()


def test_answer_and_receipts(tmp_path: Path) -> None:
    """With --answer and --receipts the receipt's line begins with the answer."""
    with Daemon(tmp_path, "--answer=OK", "--receipts") as daemon:
        answer = daemon.send(b"x").decode()
        assert answer == f"OK {daemon.files()[0].name} 1 {sha256(b'x')}\n"


def test_empty(tmp_path: Path) -> None:
    """An upload of zero bytes is refused as empty, and a bare connection leaves nothing."""
    with Daemon(tmp_path) as daemon:
        daemon.connect().close()
        assert daemon.send(b"").decode().startswith(f"{FAILURE}empty ")
        assert daemon.files() == []


def test_allow_empty(tmp_path: Path) -> None:
    """With --allow-empty an upload of zero bytes is kept."""
    with Daemon(tmp_path, "--allow-empty") as daemon:
        assert daemon.send(b"") == SUCCESS
        assert daemon.only_file() == b""


def test_max_size(tmp_path: Path) -> None:
    """An upload of --max-size bytes is kept; one byte more is refused as too-large."""
    with Daemon(tmp_path, "--max-size=1K") as daemon:
        assert daemon.send(bytes(1024)) == SUCCESS
        assert daemon.send(bytes(1025)).decode().startswith(f"{FAILURE}too-large ")
        assert daemon.only_file() == bytes(1024)


def test_large_max_size(tmp_path: Path) -> None:
    """--max-size is exact for large uploads too."""
    data = photo(5 * 2**20)
    with Daemon(tmp_path, "--max-size=5M") as daemon:
        assert daemon.send(data) == SUCCESS
        assert daemon.send(data + b"!").decode().startswith(f"{FAILURE}too-large ")
        assert daemon.only_file() == data


@pytest.mark.parametrize("most", [1, 12])
def test_too_large_is_heard_early(tmp_path: Path, most: int) -> None:
    """A refusal is written as soon as it is known, and is heard by one who goes on sending."""
    with Daemon(tmp_path, f"--max-size={most}M") as daemon, daemon.connect() as peer:
        peer.sendall(bytes(most * 2**20 + 1))
        assert peer.recv(12) == FAILURE.encode()[:12]
        peer.sendall(bytes(5_000_000))
        assert finish(peer).decode().startswith(": too-large ")
        until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


@pytest.mark.parametrize("size", [1, 300_000, 3_000_000])
def test_idle_timeout(tmp_path: Path, size: int) -> None:
    """Silence of --idle-timeout without a half-close is refused as timeout, and nc -N named."""
    with Daemon(tmp_path, "--idle-timeout=200ms") as daemon, daemon.connect() as peer:
        peer.sendall(bytes(size))
        answer = hear(peer).decode()
        assert answer.startswith(f"{FAILURE}timeout ")
        assert "nc -N" in answer
        peer.close()
        until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


def test_no_fsync(tmp_path: Path) -> None:
    """With --no-fsync a file is kept and answered all the same."""
    with Daemon(tmp_path, "--no-fsync") as daemon:
        assert daemon.send(b"small") == SUCCESS
        assert daemon.send(photo(700_000)) == SUCCESS
        assert len(daemon.files()) == 2


# What ends how, in the log


def test_ends_are_logged(tmp_path: Path) -> None:
    """Every end of an upload is one line with peer, size, seconds, and name or code."""
    with Daemon(tmp_path, "--max-size=1M") as daemon:
        with daemon.connect() as peer:
            host, port = peer.getsockname()
            peer.sendall(b"kept")
            finish(peer)
        (file,) = daemon.files()
        line = daemon.wait_for_line(f"kept {file.name}: 4 bytes")
        assert f"from {host}:{port}" in line
        daemon.send(bytes(2**20 + 1))
        assert re.search(r" in \d+ ms, ", daemon.wait_for_line("refused (too-large) after "))
        with daemon.begin(bytes(300_000)) as peer:
            reset(peer)
        daemon.wait_for_line("lost after 293.0 KiB (300000 bytes)")
        until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == [file]


def test_json_log(tmp_path: Path) -> None:
    """With --log-format json every line of the log is an object with documented names."""
    options = ("--log-format=json", "--receipts", "--max-size=1M")
    with Daemon(tmp_path, *options) as daemon:
        with daemon.connect() as peer:
            host, port = peer.getsockname()
            peer.sendall(b"kept")
            finish(peer)
        daemon.send(bytes(2**20 + 1))
        daemon.wait_for_line('"refused"')
        daemon.stop()
        objects = [json.loads(line) for line in daemon.log.read_text().splitlines()]
        (file,) = daemon.files()
    assert {*FIELDS} >= {name for found in objects for name in found}
    assert all(re.fullmatch(r"....-..-..T..:..:..\.\d{3}Z", found["time"]) for found in objects)
    kept, refused = (found for found in objects if "event" in found)
    assert kept["level"] == "info"
    assert kept["event"] == "kept"
    assert kept["listener"]
    assert kept["peer"] == f"{host}:{port}"
    assert (kept["name"], kept["size"], kept["sha256"]) == (file.name, 4, sha256(b"kept"))
    assert 0 < kept["seconds"] < 60
    assert (refused["level"], refused["event"]) == ("notice", "refused")
    assert (refused["code"], "name" in refused) == ("too-large", False)
    assert any("listens on" in found.get("message", "") for found in objects)


@pytest.mark.parametrize("options", [(), ("--workers=2",), ("--log-format=json",)])
def test_journald(tmp_path: Path, options: Sequence[str]) -> None:
    """What goes to journald begins with its priority; what goes elsewhere does not."""
    # What systemd sets: device and inode of the stream, which here is the log file.
    setting = 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/$$/fd/1) exec "$@"'
    before = ("sh", "-c", setting, "sh")
    with Daemon(tmp_path, "--max-size=4", *options, before=before) as daemon:
        daemon.send(b"kept")
        daemon.send(b"refused")
        assert daemon.wait_for_line("kept").startswith("<6>")
        assert daemon.wait_for_line("refused").startswith("<5>")
        daemon.stop()
    assert all(re.match("<[2-6]>[^<]", line) for line in daemon.log.read_text().splitlines())
    with Daemon(tmp_path, *options, environment={"JOURNAL_STREAM": "1:2"}) as daemon:
        daemon.send(b"kept")
        assert not daemon.wait_for_line("kept").startswith("<")


def records(path: Path) -> list[dict[str, Any]]:
    """What is in a file of a journal; nothing where it has just been renamed."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text("ascii").splitlines()]
    return []


def test_journal(tmp_path: Path) -> None:
    """Each end of an upload is one line in the journal, at the latest when the daemon ends."""
    path = tmp_path / "journal"
    with Daemon(tmp_path, "--journal=journal", "--max-size=1M", "--drain=0") as daemon:
        daemon.send(b"kept")
        until(path.read_text, "a line in the journal")
        daemon.send(bytes(2**20 + 1))
        with daemon.begin(bytes(300_000)) as peer:
            reset(peer)
        daemon.wait_for_line("lost")
        with daemon.begin(bytes(300_000)):
            daemon.stop()
        (file,) = daemon.files()
    ends = [(found["event"], found["size"], found.get("code")) for found in records(path)]
    assert ends == [
        ("kept", 4, None),
        ("refused", 2**20 + 1, "too-large"),
        ("lost", 300_000, None),
        ("refused", 300_000, "shutting-down"),
    ]
    assert records(path)[0]["name"] == file.name


def test_journal_is_rotated(tmp_path: Path) -> None:
    """Old files of the journal have numbers, and only so many are kept."""
    options = ("--journal=journal", "--journal-size=100", "--journal-keep=1")
    with Daemon(tmp_path, *options) as daemon:
        for number in range(1, 4):
            daemon.send(b"x" * number)
            until(
                lambda: [one["size"] for one in records(tmp_path / "journal")] == [number],  # noqa: B023
                "a file of its own",
            )
    assert [one["size"] for one in records(tmp_path / "journal.1")] == [2]
    assert not (tmp_path / "journal.2").exists()


def test_journal_cannot_be_written(tmp_path: Path) -> None:
    """A journal that cannot be written is one line before the first upload, and status 1."""
    for option in ("--journal=/missing/journal", "--journal=."):
        for more in ("--workers=2", "--suffix="):
            result = refusal_to_start(tmp_path, option, more)
            assert_one_line(result, "--journal: cannot write ", 1)
        checked = refusal_to_start(tmp_path, option, "--check")
        assert checked.returncode == 1
        assert checked.stderr.startswith("twistd upload: --journal: cannot write ")


def test_journal_on_a_full_disk(tmp_path: Path) -> None:
    """A full disk under the journal costs lines, and no upload."""
    before = on_a_file_system(tmp_path / "small", "size=64k", fill=True)
    with Daemon(tmp_path, "--journal=small/journal", before=before) as daemon:
        assert daemon.send(b"kept") == SUCCESS
        daemon.wait_for_line("small/journal: cannot write: No space left on device; uploads go on")
        assert daemon.send(b"kept, too") == SUCCESS
        assert len(daemon.files()) == 2
        daemon.stop()
        daemon.wait_for_line("lines not written: 2")


def reset(peer: socket.socket) -> None:
    """Close as a program does that crashes with data unsent: with a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


# Many


def test_crowd(tmp_path: Path) -> None:
    """2,000 uploads, 64 at a time: 2,000 answers, 2,000 files, each content exactly once."""
    with Daemon(tmp_path) as daemon:
        heard = crowd(daemon.address, 2000)
        assert Counter(answer for _, answer in heard) == {SUCCESS.decode(): 2000}
        stored = Counter(sha256(file.read_bytes()) for file in daemon.files())
        assert stored == Counter(digest for digest, _ in heard)
        assert len(stored) == 2000
        assert daemon.unfinished() == []


def test_many_connections(tmp_path: Path) -> None:
    """400 connections that are open at the same time all have their files kept."""
    data = [content(number) + bytes(100) for number in range(400)]
    with contextlib.ExitStack() as open_ones:
        daemon = open_ones.enter_context(Daemon(tmp_path))
        peers = [open_ones.enter_context(daemon.connect()) for _ in data]
        for peer, one in zip(peers, data, strict=True):
            peer.sendall(one[: len(one) // 2])
        assert daemon.files() == []
        for peer, one in reversed([*zip(peers, data, strict=True)]):
            peer.sendall(one[len(one) // 2 :])
            peer.shutdown(socket.SHUT_WR)
        assert {hear(peer) for peer in peers} == {SUCCESS}
        assert Counter(file.read_bytes() for file in daemon.files()) == Counter(data)


def test_large_does_not_delay_small(tmp_path: Path) -> None:
    """While a large upload comes in at full speed, small ones come, are kept and answered."""
    piece = photo(2**20)
    enough, under_way = threading.Event(), threading.Event()
    sent = 0

    def send_much() -> bytes:
        nonlocal sent
        with daemon.connect() as peer:
            while not enough.is_set() and sent < 2**32:
                peer.sendall(piece)
                sent += len(piece)
                if sent > 16 * len(piece):
                    under_way.set()
            return finish(peer)

    with Daemon(tmp_path, "--no-fsync") as daemon, ThreadPoolExecutor(1) as pool:
        large = pool.submit(send_much)
        try:
            assert under_way.wait(PATIENCE)
            for _ in range(5):
                assert daemon.send(b"small") == SUCCESS
            assert len(daemon.files()) == 5
            assert not large.done()
        finally:
            enough.set()
        assert large.result() == SUCCESS
        assert sorted(file.stat().st_size for file in daemon.files()) == [5, 5, 5, 5, 5, sent]


# A disk that stalls


@contextlib.contextmanager
def traced(daemon: Daemon, *options: str) -> Iterator[Callable[[], str]]:
    """
    The daemon under strace; what it has recorded so far can be asked for.

    It lets the daemon go at the end, and so gives it back its calls.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    record = daemon.folder / "strace.out"
    said = daemon.folder / "strace.err"
    command = [*deadly(), strace, "-f", "-o", str(record), *options, "-p", str(daemon.pid)]
    with said.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        until(lambda: "attached" in said.read_text() or process.poll() is not None, "strace")
        if process.poll() is not None:
            pytest.skip(f"strace cannot attach here: {said.read_text()}")
        yield record.read_text
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)


DISK_CALLS = (
    "pwrite64,writev,pwritev,pwritev2,splice,fsync,fdatasync,sync_file_range,"
    "io_submit,io_getevents,renameat2"
)


def test_stalled_disk(tmp_path: Path) -> None:
    """While the disk stands still the daemon's memory stays flat, and other senders are served."""
    count, size = 8, 48 * 2**20
    data = photo(size)
    sent = [0] * count

    def send(number: int) -> bytes:
        with daemon.connect() as peer:
            for start in range(0, size, 2**16):
                peer.sendall(data[start : start + 2**16])
                sent[number] += 2**16
            return finish(peer)

    def standing_still() -> bool:
        before = [*sent]
        time.sleep(0.3)
        return before == sent and all(sent)

    with (
        Daemon(tmp_path, "--receipts") as daemon,
        ThreadPoolExecutor(count) as pool,
    ):
        assert daemon.send(photo(8 * 2**20)).startswith(SUCCESS)  # what it needs once, it has now
        before = daemon.memory()
        with traced(daemon, "-e", f"trace={DISK_CALLS}", "-e", stall()):
            sending = [pool.submit(send, number) for number in range(count)]
            until(standing_still, "senders that are held up")
            assert max(sent) < size
            grown = daemon.memory() - before
            assert daemon.send(b"").decode().startswith(f"{FAILURE}empty ")
            assert len(daemon.files()) == 1
        print(f"{sum(sent)} bytes sent, {grown} bytes more in memory")
        assert grown < count * 2 * 2**20
        for one in sending:
            assert one.result().decode().endswith(f" {size} {sha256(data)}\n")
        assert daemon.memory() - before < count * 3 * 2**20


def stall() -> str:
    """Every call that waits for the disk waits for an hour."""
    return f"inject={DISK_CALLS}:delay_enter={3600 * 10**6}"


def test_answer_comes_last(tmp_path: Path) -> None:
    """The order is: write, fsync, rename, fsync of the directory, answer."""
    calls = "write,writev,fsync,rename,renameat,renameat2,link,linkat,sendto,sendmsg"
    with Daemon(tmp_path) as daemon, traced(daemon, "-y", "-e", f"trace={calls}") as recorded:
        assert daemon.send(b"something") == SUCCESS
        daemon.wait_for_line("kept ")
        lines = [re.sub(r"^\d+ +", "", line) for line in recorded().splitlines()]
        inbox = re.escape(str(daemon.directory))
        order = [
            rf'write\(\d+<{inbox}/\.incoming/[^>]+>, "something"',
            rf"fsync\(\d+<{inbox}/\.incoming/[^>]+>",
            rf"renameat2\(\d+<{inbox}/\.incoming>, .*RENAME_NOREPLACE",
            rf"fsync\(\d+<{inbox}>",
            r"(sendto|sendmsg|write)\(\d+<(socket|TCP)[^>]*\]?>, .*\\344\\270\\212",
        ]
        found = [
            next((n for n, line in enumerate(lines) if re.match(step, line)), -1) for step in order
        ]
        assert found == sorted(found), "\n".join(lines)
        assert found[0] >= 0, "\n".join(lines)


# Configuration

TWO_LISTENERS = """
drain = "200ms"

[[listener]]
name = "scanner"
port = 0
interface = "127.0.0.1"
directory = "scans"
suffix = ".pdf"
max-size = "1K"

[[listener]]
name = "photos"
listen = "tcp:0:interface=127.0.0.2"
directory = "photos"
receipts = true
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_two_listeners(tmp_path: Path, workers: int) -> None:
    """Listeners of one file have directories and limits of their own, with workers too."""
    with Configured(tmp_path, TWO_LISTENERS, f"--workers={workers}") as daemon:
        scanner, photos = daemon.addresses
        where = daemon.lines("listens on")[0]
        assert f" (scanner, to {tmp_path}/scans), 127.0.0.2:" in where
        assert f" (photos, to {tmp_path}/photos)\n" in where
        with connect(*scanner) as peer:
            assert finish_with(peer, b"a scan") == SUCCESS
        with connect(*scanner) as peer:
            assert finish_with(peer, bytes(1025)).decode().startswith(f"{FAILURE}too-large ")
        with connect(*photos) as peer:
            assert f" 1025 {sha256(bytes(1025))}\n" in finish_with(peer, bytes(1025)).decode()
        (scan,) = (tmp_path / "scans").glob("*.pdf")
        (photo_,) = (tmp_path / "photos").glob("*.bin")
        assert (scan.read_bytes(), photo_.read_bytes()) == (b"a scan", bytes(1025))
        daemon.stop()


def test_listeners_drain_together(tmp_path: Path) -> None:
    """Told to stop, it lets the uploads of every listener finish, and then refuses them all."""
    with Configured(tmp_path, TWO_LISTENERS) as daemon:
        with contextlib.ExitStack() as peers:
            begun = []
            for family, address in daemon.addresses:
                begun.append(peers.enter_context(connect(family, address)))
                begun[-1].sendall(b"begun")
                with connect(family, address) as other:
                    finish_with(other, b"so the daemon has seen the one before")
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("stopping: 2 uploads in flight")
            for peer in begun:
                assert hear(peer).decode().startswith(f"{FAILURE}shutting-down ")
        assert daemon.wait_for_end() == -signal.SIGTERM


def test_stalled_disk_of_another_listener(tmp_path: Path) -> None:
    """While the disk of one listener holds up all its threads, other listeners are served."""
    text = f"disk-threads = 1\n{TWO_LISTENERS}"
    with contextlib.ExitStack() as peers, Configured(tmp_path, text) as daemon:
        scanner, photos = daemon.addresses
        stall = f"inject=openat:delay_enter={3600 * 10**6}"
        only = ("-e", "trace=openat", "-P", f"{tmp_path}/scans/.incoming", "-e", stall)
        with traced(daemon, *only) as recorded:
            stuck = [peers.enter_context(connect(*scanner)) for _ in range(8)]
            for peer in stuck:
                peer.sendall(b"a scan")
                peer.shutdown(socket.SHUT_WR)
            until(lambda: recorded().count("openat(") == 1, "its thread to stand still")
            with connect(*photos) as peer:
                assert finish_with(peer, b"a photo").startswith(SUCCESS)
            assert not [*(tmp_path / "scans").glob("*.pdf")]
        assert {hear(peer) for peer in stuck} == {SUCCESS}


def test_a_file_that_changes_changes_nothing(tmp_path: Path) -> None:
    """A worker that is started later is told the same as those before, whatever the file says."""
    with Configured(tmp_path, TWO_LISTENERS, "--workers=2") as daemon:
        until(lambda: len(daemon.lines("listens on")) >= 3, "both workers to serve")
        (tmp_path / "upload.toml").write_text("nonsense")
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        until(lambda: len(daemon.lines("listens on")) >= 5, "two new workers to serve")
        assert len({line.partition(" ")[2] for line in daemon.lines("listens on")}) == 1


def test_environment(tmp_path: Path) -> None:
    """The environment stands in for an option that is not on the command line."""
    environment = {"TWISTED_UPLOAD_SUFFIX": ".env", "TWISTED_UPLOAD_ANSWER": "no", **CLIENT}
    with Daemon(tmp_path, "--answer=yes", environment=environment) as daemon:
        assert daemon.send(b"something") == b"yes"
        assert daemon.files()[0].suffix == ".env"


CLIENT = {"TWISTED_UPLOAD_TO": "the client's, which is not ours to judge"}


def configured(
    folder: Path, text: str, *options: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    (folder / "upload.toml").write_text(text, encoding="utf-8")
    return run_twistd(folder, "upload", "--config=upload.toml", *options, **more)


def test_print_config(tmp_path: Path) -> None:
    """--print-config prints a file that gives the same, though the terminal knows no Chinese."""
    one = configured(tmp_path, TWO_LISTENERS, "--print-config", "--mode=0600", environment=ASCII)
    assert (one.returncode, one.stderr) == (0, "")
    assert re.search(r'^mode = "0600" +# --mode$', one.stdout, re.MULTILINE)
    assert 'answer = "上传成功"' in one.stdout
    other = configured(tmp_path, one.stdout, "--print-config")
    assert other.stderr == ""

    def without_sources(text: str) -> list[str]:
        return [line.partition("  # ")[0] for line in text.splitlines()]

    assert without_sources(other.stdout) == without_sources(one.stdout)


@pytest.mark.parametrize("option", ["--help", "--print-config", "--check"])
def test_standard_output_is_full(tmp_path: Path, option: str) -> None:
    """Where standard output takes nothing, that is one line, and status 1."""
    to_full = ["sh", "-c", 'exec "$@" > /dev/full', "sh"]
    result = run_twistd(tmp_path, "upload", "--port=0", option, before=to_full)
    says = "twistd upload: standard output: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, says)


def test_check(tmp_path: Path) -> None:
    """--check says what it has found, leaves nothing behind, and exits with status 0."""
    result = configured(tmp_path, TWO_LISTENERS, "--check")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["upload.toml"]


def test_check_beside_a_running_daemon(tmp_path: Path) -> None:
    """--check of a daemon that runs does not disturb it, nor its unfinished uploads."""
    with Daemon(tmp_path) as daemon, daemon.begin(bytes(300_000)) as peer:
        host, port = daemon.address
        result = run_twistd(
            tmp_path,
            *("upload", "--check", f"--port={port}", f"--interface={host}"),
            f"--directory={daemon.directory}",
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert "warning: --port" in result.stdout
        assert finish(peer) == SUCCESS
        assert daemon.only_file() == bytes(300_000)


FEW_DESCRIPTORS = ["sh", "-c", 'ulimit -n 40; exec "$@"', "sh"]


@pytest.mark.parametrize(
    ("text", "more", "status", "says"),
    [
        (
            "max_size = 1",
            {},
            2,
            "FOLDER/upload.toml: max_size: there is no such key; the nearest is max-size",
        ),
        (
            "idle-timeout = 'soon'",
            {},
            2,
            "FOLDER/upload.toml: idle-timeout: 'soon' is not a duration such as 30s, 500ms or 5m",
        ),
        (
            "",
            {"environment": {"TWISTED_UPLOAD_DRIAN": "1"}},
            2,
            "TWISTED_UPLOAD_DRIAN: there is no such variable; the nearest is TWISTED_UPLOAD_DRAIN",
        ),
        (
            "drain 10s",
            {},
            2,
            "FOLDER/upload.toml: it is not TOML: Expected '=' after a key in a key/value pair",
        ),
        (
            '"a\\n\\u001b[2J" = 1',
            {},
            2,
            "FOLDER/upload.toml: a\\n\\x1b[2J: there is no such key; the nearest is ",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 5\n[[listener]]\nname = 'b'\nport = 5",
            {},
            1,
            "FOLDER/upload.toml: listener b: port 5: cannot listen: another endpoint has this port",
        ),
        (
            "[[listener]]\nname = 'a'\nlisten = 'tcp:0:interface=203.0.113.1'",
            {},
            1,
            "FOLDER/upload.toml: listener a: listen tcp:0:interface=203.0.113.1: cannot listen:"
            " Cannot assign requested address",
        ),
        (
            "port = 0\ndirectory = 'upload.toml'",
            {},
            1,
            "cannot open the directory FOLDER/upload.toml: Not a directory",
        ),
        (
            "port = 0\nreserve = '8000P'",
            {},
            1,
            "directory FOLDER/uploads: ",
        ),
        (
            "port = 0",
            {"before": FEW_DESCRIPTORS},
            1,
            "the limit of 40 descriptors is enough for 0 connections; raise it",
        ),
    ],
)
def test_check_of_what_is_wrong(
    tmp_path: Path, text: str, more: dict[str, Any], status: int, says: str
) -> None:
    """--check ends with one line that says what to change, and status 2 or 1."""
    result = configured(tmp_path, text, "--check", **more)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"twistd upload: {says.replace('FOLDER', str(tmp_path))}")
    assert result.returncode == status
    assert [path.name for path in tmp_path.iterdir()] == ["upload.toml"]
    print(result.stderr)


def test_check_of_a_directory_not_writable(tmp_path: Path) -> None:
    """--check of a directory of somebody else is one line that names it, and status 1."""
    with somebody_elses(tmp_path) as inbox:
        options = ("upload", "--check", "--port=0", f"--directory={inbox}")
        result = run_twistd(tmp_path, *options, before=unprivileged())
        assert result.stderr == (
            f"twistd upload: cannot write to the directory {inbox}: Permission denied\n"
        )
        assert result.returncode == 1
