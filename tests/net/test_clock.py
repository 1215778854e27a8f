"""
The clock that all timeouts use.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, finish, wait_until
from tests.support.manager import Systemd
from tests.support.senders import read_all
from tests.support.stepping import SteppingClock
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.net.clock import use_monotonic_time

REACTORS = [AsyncioSelectorReactor, EPollReactor, PollReactor, SelectReactor]


@pytest.fixture(params=REACTORS, ids=lambda kind: kind.__name__)
def reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A reactor that is not the one of the tests, and never runs."""
    # An asyncio reactor without its own loop may find the closed one of the test before.
    asyncio_ = request.param is AsyncioSelectorReactor
    reactor = request.param(*([asyncio.new_event_loop()] if asyncio_ else []))
    yield reactor
    for call in reactor.getDelayedCalls():
        call.cancel()
    for reader in reactor.removeAll() + list(reactor._internalReaders):
        reader.connectionLost(None)
    if isinstance(reactor, AsyncioSelectorReactor):
        reactor._asyncioEventloop.close()


def test_twisted_asks_the_reactor(reactor: Any) -> None:
    """
    Twisted times everything with the ``seconds`` of the reactor itself.

    If this fails, Twisted keeps time differently, and `use_monotonic_time` has to be
    adapted: a daemon would wait by a clock that it does not read.
    """
    ours = Clock()
    ours.advance(1000)
    use_monotonic_time(reactor, ours.seconds)
    called: list[str] = []
    later = reactor.callLater(10, called.append, "later")
    assert isinstance(later, DelayedCall)
    assert later.getTime() == 1010, "callLater no longer asks self.seconds()"
    assert reactor.timeout() == 10, "timeout() no longer asks self.seconds()"
    ours.advance(3)
    later.reset(10)
    assert later.getTime() == 1013, "DelayedCall.reset() no longer asks seconds()"
    ours.advance(9.5)
    reactor.runUntilCurrent()
    assert not called
    ours.advance(0.5)
    reactor.runUntilCurrent()
    assert called == ["later"], "runUntilCurrent() no longer asks self.seconds()"


def test_pending_calls(reactor: Any) -> None:
    """Calls that were pending when the clock was replaced are made when they would have been."""
    called: list[str] = []
    for seconds in (300, 100, 200):
        reactor.callLater(seconds, called.append, str(seconds))
    reactor.timeout()  # those are in the heap now, and one more is waiting to be added
    reactor.callLater(150, called.append, "150")
    ours = Clock()
    ours.advance(7)
    use_monotonic_time(reactor, ours.seconds)
    use_monotonic_time(reactor, ours.seconds)
    for _ in range(4):
        ours.advance(74)
        reactor.runUntilCurrent()
    assert called == ["100", "150", "200"]
    ours.advance(4)
    reactor.runUntilCurrent()
    assert called == ["100", "150", "200", "300"]


def test_it_cannot_be_set() -> None:
    """The clock is the monotonic one, which continues however the time of day is set."""
    assert time.get_clock_info("monotonic").monotonic
    assert not time.get_clock_info("monotonic").adjustable
    assert use_monotonic_time.__defaults__ == (time.monotonic,)
    assert ReactorBase.seconds is not time.monotonic, "Twisted uses the monotonic clock itself now"


# The real daemon, while its time of day is set


HOUR = 3600.0

WORKERS = pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])


@pytest.fixture
def stepping(tmp_path: Path) -> SteppingClock:
    return SteppingClock(tmp_path / "clock")


@contextlib.contextmanager
def serving(folder: Path, stepping: SteppingClock, *options: str) -> Iterator[Daemon]:
    """Run a daemon with all its workers, whose time of day can be set."""
    with Daemon(folder, *options, environment=stepping.environment) as daemon:
        if "--workers=2" in options:
            wait_until(lambda: len(daemon.lines("listens on")) == 3, "both workers to serve")
        yield daemon


def test_the_rig(stepping: SteppingClock) -> None:
    """A process with that environment reads another time of day."""
    stepping.step(-HOUR)
    stepping.step(HOUR / 2)
    code = "from twisted.python.runtime import seconds; print(seconds())"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=stepping.environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert float(printed.stdout) == pytest.approx(time.time() - HOUR / 2, abs=60)


@WORKERS
def test_draining_ends(tmp_path: Path, stepping: SteppingClock, workers: str) -> None:
    """Set back by an hour while it drains, the daemon still ends on time."""
    options = ("--drain=1s", workers)
    with serving(tmp_path, stepping, *options) as daemon:
        with daemon.begin(bytes(300_000)) as peer:
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("stopping: 1 upload in flight")
            stepping.step(-HOUR)
            assert "shutting-down" in read_all(peer).decode()
        daemon.wait_for_end()


@WORKERS
def test_silence_ends(tmp_path: Path, stepping: SteppingClock, workers: str) -> None:
    """Set back by an hour, the daemon still refuses silent senders, and logs the right duration."""
    options = ("--idle-timeout=1s", workers)
    with serving(tmp_path, stepping, *options) as daemon:
        with daemon.begin(bytes(300_000)) as peer:
            stepping.step(-HOUR)
            assert "timeout no data for 1.0 s" in read_all(peer).decode()
        line = daemon.wait_for_line("refused")
        assert re.search(r" in \d+\.\d s, \d+", line), line


@pytest.mark.parametrize("kind", ["poll", "select", "asyncio"])
def test_silence_ends_in_other_reactors(tmp_path: Path, stepping: SteppingClock, kind: str) -> None:
    """Every reactor that twistd can use refuses silent senders, whatever the time of day."""
    with (
        Daemon(
            tmp_path,
            "--idle-timeout=1s",
            general=[f"--reactor={kind}"],
            environment=stepping.environment,
        ) as daemon,
        daemon.begin(bytes(300_000)) as peer,
    ):
        stepping.step(-HOUR)
        assert "timeout no data for 1.0 s" in read_all(peer).decode()


@WORKERS
def test_silence_is_not_longer(tmp_path: Path, stepping: SteppingClock, workers: str) -> None:
    """Set forward by an hour, the daemon refuses no sender as silent or too slow."""
    with serving(tmp_path, stepping, workers) as daemon:
        with daemon.begin(bytes(300_000)) as peer:
            stepping.step(HOUR)
            for _ in range(3):  # as many turns of the reactor
                assert daemon.send(b"another") == SUCCESS
            assert finish(peer) == SUCCESS
        assert daemon.lines("refused") == []


@WORKERS
def test_watchdog_is_fed(
    tmp_path: Path, stepping: SteppingClock, systemd: Systemd, workers: str
) -> None:
    """However the time of day is set, the service manager is notified; no worker is killed."""
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    with Daemon(tmp_path, workers, environment={**environment, **stepping.environment}) as daemon:
        systemd.wait_for("READY")
        for seconds in (0, -HOUR, 2 * HOUR, -HOUR):
            stepping.step(seconds)
            systemd.forget()
            for _ in range(3):
                systemd.heard.clear()
                systemd.wait_for("WATCHDOG=1")
        assert daemon.lines("no sign of life") == []
        assert daemon.send(b"something") == SUCCESS


def test_names_and_log_lines(tmp_path: Path, stepping: SteppingClock) -> None:
    """Names and log lines use the time of day, whatever it is set to."""
    with Daemon(tmp_path, environment=stepping.environment) as daemon:
        daemon.send(b"one")
        daemon.wait_for_line(" stored ")
        stepping.step(24 * HOUR)
        daemon.send(b"two")
        one, two = (int(file.stem) / 1000 for file in daemon.files())
        assert two - one == pytest.approx(24 * HOUR, abs=60)
        wait_until(lambda: len(daemon.lines(" stored ")) == 2, "both in the log")
        assert len({line.partition("T")[0] for line in daemon.lines(" stored ")}) == 2


def test_client_gives_up(tmp_path: Path, stepping: SteppingClock) -> None:
    """A client whose time of day is set back by an hour still times out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "file").write_bytes(b"content")
        command = [sys.executable, "-m", "twisted_upload", "--answer-timeout=1s"]
        command += [f"--to=127.0.0.1:{silent.getsockname()[1]}", str(tmp_path / "file")]
        client = subprocess.Popen(
            command,
            env={**os.environ, **stepping.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        with silent.accept()[0] as peer:
            assert read_all(peer) == b"content"
            stepping.step(-HOUR)
            _, errors = client.communicate(timeout=PATIENCE)
        assert client.returncode == ExitStatus.UNKNOWN, errors
