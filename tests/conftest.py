"""
What applies to every test: it leaves nothing behind, and it ends.
"""

from __future__ import annotations

import gc
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from tests.engines.fixtures import ceph, engine, own_seaweedfs, place, seaweedfs
from tests.support.manager import Systemd
from tests.support.senders import Sockets
from tests.support.ways import Way

reactor: Any = _reactor

__all__ = ["ceph", "engine", "own_seaweedfs", "place", "seaweedfs"]


@pytest.fixture
def expected_errors() -> list[str]:
    """A list; append part of the text of each error that the test expects to be logged."""
    return []


@pytest.fixture(params=Way, ids=lambda way: str(way.value))
def way(request: pytest.FixtureRequest) -> Way:
    """How an upload arrives (`tests.support.ways`)."""
    found: Way = request.param
    return found


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """The directory for uploads; it does not exist yet."""
    return tmp_path / "inbox"


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """A sender, and our end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    with sender, ours:
        yield sender, ours


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    """A service manager to notify."""
    with tempfile.TemporaryDirectory() as short:
        manager = Systemd(f"{short}/notify")
        yield manager
        manager.close()


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path, expected_errors: list[str]) -> Iterator[None]:
    """Fail if delayed calls, readers in the reactor, unfinished files or logged errors are left."""
    errors: list[str] = []

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            errors.append(failure.getTraceback())

    calls = set(map(id, reactor.getDelayedCalls()))
    readers = set(map(id, reactor.getReaders()))
    globalLogPublisher.addObserver(observe)
    try:
        yield
        gc.collect(1)  # a Deferred logs an unhandled error when it is collected, and it is young
    finally:
        globalLogPublisher.removeObserver(observe)
    left: list[object] = [
        error for error in errors if not any(text in error for text in expected_errors)
    ]
    left += [call for call in reactor.getDelayedCalls() if id(call) not in calls]
    readers |= set(map(id, reactor._internalReaders))  # the first test starts the reactor
    left += [reader for reader in reactor.getReaders() if id(reader) not in readers]
    left += [*tmp_path.glob("**/.incoming/upload-*")]
    assert not left, "the test left behind:\n" + "\n".join(map(str, left))


def pytest_configure() -> None:
    """
    Make sure that no child process inherits an ignored signal, as all would under
    ``nohup ... &``: a signal with a handler is at its default in the processes we
    start.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_finish() -> None:
    """Exclude the objects that all tests share from garbage collection after each test."""
    # When it first runs, Hypothesis looks for references to its random number generator,
    # and warns if it finds none: it does not see frozen objects.
    settings(max_examples=1, database=None)(given(st.none())(lambda _: None))()
    gc.collect()
    gc.freeze()
