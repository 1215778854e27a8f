"""
``twistd upload`` is stopped or killed.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Configured, Daemon, connect, finish, photo
from tests.support.senders import read_all
from tests.support.twistd import FAILURE, TWO_LISTENERS, finish_with, stops
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(tmp_path: Path, number: int) -> None:
    """SIGTERM and SIGINT (Ctrl-C) stop an idle daemon at once, and stored files stay."""
    with Daemon(tmp_path, "--drain=1h") as daemon:
        assert daemon.send(b"something") == SUCCESS
        daemon.signal(number)
        stops(daemon, number)
        assert daemon.only_file() == b"something"


@pytest.mark.parametrize("options", [[], ["--workers=2"]], ids=["one", "workers"])
def test_stop_with_programs(tmp_path: Path, options: list[str]) -> None:
    """An orderly stop after an upload leaves nothing in the queue of --on-upload."""
    with Daemon(tmp_path, "--on-upload=/bin/true", *options) as daemon:
        assert daemon.send(b"something") == SUCCESS
        daemon.wait_for_line("on-upload ")
        daemon.signal(signal.SIGTERM)
        stops(daemon, signal.SIGTERM)
        queue = daemon.directory / HOOKS
        assert sorted(it.name for it in queue.iterdir()) == [FAILED, WAITING]
        assert list(queue.glob("*/*")) == []


def test_stop_with_idle_connections(tmp_path: Path) -> None:
    """A connection that has sent nothing does not delay the end; it is told shutting-down."""
    with Daemon(tmp_path, "--drain=1h") as daemon, daemon.connect() as peer:
        daemon.send(b"something")  # so the daemon has accepted the other connection too
        daemon.signal(signal.SIGTERM)
        assert read_all(peer).decode().startswith(f"{FAILURE}shutting-down ")
        peer.close()
        stops(daemon, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(tmp_path: Path, number: int) -> None:
    """When stopped, it lets an upload in flight finish, and refuses new ones as shutting-down."""
    data = photo(400_000)
    with Daemon(tmp_path, "--drain=1h") as daemon, daemon.begin(data[:300_000]) as peer:
        daemon.signal(number)
        daemon.wait_for_line("stopping: 1 upload in flight")
        assert daemon.send(b"too late").decode().startswith(f"{FAILURE}shutting-down ")
        assert daemon.running()
        peer.sendall(data[300_000:])
        assert finish(peer) == SUCCESS
        stops(daemon, number)
        assert daemon.only_file() == data


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_drain_ends(tmp_path: Path, size: int) -> None:
    """After the drain time, the other uploads are refused as shutting-down, and not stored."""
    with contextlib.ExitStack() as peers:
        daemon = peers.enter_context(Daemon(tmp_path, "--drain=200ms"))
        begun = [peers.enter_context(daemon.begin(photo(size))) for _ in range(3)]
        daemon.signal(signal.SIGTERM)
        for peer in begun:
            assert read_all(peer).decode().startswith(f"{FAILURE}shutting-down ")
            peer.close()
        stops(daemon, signal.SIGTERM)
        assert daemon.files() == []


def test_killed(tmp_path: Path) -> None:
    """A killed daemon leaves no visible partial file, and the next start removes leftovers."""
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
    """A daemon that starts on the directory of another does not touch the other's uploads."""
    (tmp_path / "other").mkdir()
    data = photo(300_000)
    with Daemon(tmp_path) as daemon, daemon.begin(data) as peer:
        with Daemon(tmp_path / "other", f"--directory={daemon.directory}") as other:
            assert other.send(b"something") == SUCCESS
            assert len(daemon.unfinished()) == 1
        assert finish(peer) == SUCCESS
        assert Counter(file.read_bytes() for file in daemon.files()) == {data: 1, b"something": 1}


def test_listeners_drain_together(tmp_path: Path) -> None:
    """When stopped, it lets the uploads of every listener finish, then refuses the rest."""
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
                assert read_all(peer).decode().startswith(f"{FAILURE}shutting-down ")
        assert daemon.wait_for_end() == -signal.SIGTERM
