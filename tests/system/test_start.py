"""
The real ``twistd upload`` starts and listens on its endpoints.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, connect, photo, wait_until
from tests.support.twistd import finish_with


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
    """At start it logs, in one line, where it listens and where files go."""
    with Daemon(tmp_path) as daemon:
        daemon.send(b"something")
        port = daemon.address[1]
        (line,) = daemon.lines("listens on")
        assert f"listens on 127.0.0.1:{port}; files go to {daemon.directory}\n" in line


def test_missing_directory(tmp_path: Path) -> None:
    """A missing directory is created with its parents, and `.incoming` in it."""
    folder = tmp_path / "deep" / "deeper"
    with Daemon(tmp_path, f"--directory={folder}") as daemon:
        daemon.send(b"something")
        assert {p.is_file() for p in folder.iterdir() if p.name != ".incoming"} == {True}
        assert stat.S_IMODE((folder / ".incoming").stat().st_mode) == 0o700


def test_relative_directory(tmp_path: Path) -> None:
    """A relative directory is relative to the folder in which twistd is started."""
    with Daemon(tmp_path, "--directory=./here") as daemon:
        assert daemon.lines(f"files go to {tmp_path}/here\n")


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
def test_interface(tmp_path: Path, interface: str) -> None:
    """With --interface it listens on that address only, IPv4 or IPv6."""
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
    """Without --interface it listens on all addresses of IPv4 and, if available, IPv6."""
    with Daemon(tmp_path, "--port=0") as daemon:
        port = daemon.address[1]
        with connect(socket.AF_INET, ("127.0.0.1", port)) as peer:
            assert finish_with(peer, b"four") == SUCCESS
        if socket.has_dualstack_ipv6():
            with connect(socket.AF_INET6, ("::1", port)) as peer:
                assert finish_with(peer, b"six") == SUCCESS


def test_unix_socket(tmp_path: Path) -> None:
    """--listen unix:PATH accepts uploads over a Unix socket, and removes the socket at the end."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
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
    """--listen can be repeated, and the start line has all endpoints."""
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
    """With --listen and no --port, it does not also listen on port 6666."""
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


def test_drops_privileges() -> None:
    """Started by root with --uid and --gid, it stores files as that user."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to drop privileges")
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
def test_modules_are_not_collected(tmp_path: Path, options: Sequence[str], processes: int) -> None:
    """In every process of the daemon, garbage collection skips the imported modules."""
    counts = tmp_path / "counts"
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import gc, os
def freeze(freeze=gc.freeze):
    freeze()
    with open({str(counts)!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{gc.get_freeze_count()}}\\n")
gc.freeze = freeze
"""
    )

    def lines() -> Sequence[str]:
        return counts.read_text().splitlines()

    with Daemon(tmp_path, *options, environment={"PYTHONPATH": str(tmp_path)}) as daemon:
        wait_until(
            lambda: counts.exists() and len({it.split()[0] for it in lines()}) == processes,
            "all processes to have started",
        )
        assert daemon.send(b"something") == SUCCESS
    assert all(int(line.split()[1]) > 10_000 for line in lines())
