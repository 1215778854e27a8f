"""
The simulated network does what the kernel does.

Claimed, and compared here with sockets of the kernel that runs the test, over loopback and
between unix sockets: the results and error numbers of `send`, `recv` (also ``MSG_PEEK`` and
``MSG_OOB``), splice, `shutdown`, `close`, `accept` and `connect`, what ``poll`` says, how many
bytes are unread, after any sequence of calls of both ends, once everything has arrived.

Not claimed: how many bytes fit in a buffer, how bytes are cut into segments, when anything
arrives, urgent bytes out of line and their signals, and what happens on the way (Nagle's
algorithm, windows that shrink, acknowledgements).  The times after which a silent peer counts
as dead are from tcp(7), and not compared: that takes a network that can be cut.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.simulation.kernel_pairs import RealPair, SimulatedPair, Step, run, run_like
from tests.support.waiting import PATIENCE

TCP, UNIX = int(socket.AF_INET), int(socket.AF_UNIX)
CLIENT, SERVER = 0, 1


def compare(family: int, script: list[Step]) -> None:
    """Run a script in both worlds, and compare what comes of it."""
    expected = run(SimulatedPair(family), script)
    real = RealPair(family)
    try:
        found = run_like(real, script, expected)
    finally:
        real.close()
    told = dict(zip(map(str, enumerate(script)), found, strict=False))
    assert told == dict(zip(map(str, enumerate(script)), expected[: len(found)], strict=False))


CASES: dict[str, list[Step]] = {
    "half-close of the client": [
        (0, "send", 5), (0, "half-close", 0), (1, "receive", 9), (1, "receive", 9),
        (1, "send", 4), (1, "close", 0), (0, "receive", 9), (0, "receive", 9), (0, "close", 0),
    ],
    "half-close of the server": [
        (1, "half-close", 0), (0, "receive", 9), (0, "send", 3), (1, "receive", 9),
        (0, "half-close", 0), (1, "receive", 9), (1, "is connected", 0), (1, "shut", 0),
    ],
    "half-close of both": [
        (0, "half-close", 0), (1, "half-close", 0), (0, "receive", 1), (1, "receive", 1),
        (0, "is connected", 0), (1, "is connected", 0), (0, "send", 1), (1, "half-close", 0),
    ],
    "reset with unread bytes": [
        (0, "send", 5), (0, "will reset", 0), (0, "close", 0), (1, "receive", 3),
        (1, "receive", 3), (1, "receive", 3), (1, "receive", 3), (1, "send", 1), (1, "shut", 0),
    ],
    "reset without unread bytes": [
        (0, "will reset", 0), (0, "close", 0), (1, "peek", 1), (1, "receive", 3),
        (1, "send", 1), (1, "is connected", 0),
    ],
    "a reset is reported once": [
        (0, "will reset", 0), (0, "close", 0), (1, "error", 0), (1, "error", 0),
        (1, "receive", 1),
    ],
    "a reset is reported to the writer": [
        (0, "will reset", 0), (0, "close", 0), (1, "send", 1), (1, "send", 1), (1, "receive", 1),
    ],
    "closed with unread bytes": [
        (1, "send", 4), (0, "close", 0), (1, "receive", 1), (1, "receive", 1), (1, "send", 2),
    ],
    "half-closed, then closed with unread bytes": [
        (0, "send", 5), (0, "half-close", 0), (1, "send", 4), (0, "close", 0),
        (1, "receive", 9), (1, "receive", 9), (1, "send", 1), (1, "send", 1), (1, "error", 0),
    ],
    "write to a closed end": [
        (0, "close", 0), (1, "send", 3), (1, "receive", 1), (1, "send", 3), (1, "send", 3),
        (1, "receive", 1),
    ],
    "write to an end that is shut for good": [
        (0, "shut", 0), (1, "send", 3), (1, "send", 3), (0, "receive", 1), (0, "receive", 1),
    ],
    "write to an end that is shut for reading": [
        (0, "shut for reading", 0), (1, "send", 3), (0, "receive", 9), (0, "receive", 1),
        (0, "send", 2), (1, "receive", 9),
    ],
    "waking for many bytes": [
        (1, "wake for", 10), (0, "send", 5), (0, "send", 4), (0, "send", 1), (1, "receive", 2),
        (1, "wake for", 1), (1, "wake for", 20), (0, "half-close", 0), (1, "receive", 20),
    ],
    "waking for many bytes, and a reset": [
        (1, "wake for", 10), (0, "send", 5), (0, "will reset", 0), (0, "close", 0),
        (1, "receive", 9), (1, "receive", 9),
    ],
    "an urgent byte in line": [
        (1, "in line", 0), (0, "send", 2), (0, "urgent", 2), (0, "send", 3), (1, "peek", 9),
        (1, "receive", 2), (1, "receive", 9), (1, "peek", 9), (1, "receive", 9),
        (1, "receive", 9),
    ],
    "only an urgent byte, then the end": [
        (1, "in line", 0), (0, "urgent", 1), (0, "half-close", 0), (1, "receive", 9),
        (1, "receive", 9),
    ],
    "two urgent bytes": [
        (1, "in line", 0), (0, "urgent", 3), (0, "urgent", 3), (1, "receive", 9),
        (1, "receive", 9), (1, "receive", 9),
    ],
    "splice": [
        (0, "send", 9), (1, "splice", 4), (1, "splice", 9), (1, "splice", 9),
        (0, "half-close", 0), (1, "splice", 9),
    ],
    "splice, and a reset": [
        (0, "send", 9), (0, "will reset", 0), (0, "close", 0), (1, "splice", 4),
        (1, "splice", 9), (1, "splice", 9), (1, "splice", 9),
    ],
}  # fmt: skip

OF_UNIX: dict[str, list[Step]] = {
    "a reset that a short read swallows": [
        (0, "wake for", 9), (0, "send", 4), (1, "send", 2), (1, "close", 0), (0, "receive", 5),
        (0, "receive", 5),
    ],
}  # fmt: skip

OF_TCP: dict[str, list[Step]] = {
    "splice stops at an urgent byte": [
        (1, "in line", 0), (0, "send", 2), (0, "urgent", 2), (0, "send", 3), (1, "splice", 9),
        (1, "splice", 9), (1, "receive", 9), (1, "splice", 9),
    ],
    "an urgent byte for an end that is shut": [
        (1, "shut", 0), (0, "urgent", 2), (0, "send", 1), (1, "receive", 1),
    ],
    "splice takes an urgent byte for the end": [
        (1, "in line", 0), (0, "urgent", 1), (0, "half-close", 0), (1, "splice", 9),
        (1, "receive", 9), (1, "splice", 9),
    ],
}  # fmt: skip


@pytest.mark.parametrize("family", [TCP, UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("name", CASES)
def test_cases(name: str, family: int) -> None:
    """Both worlds agree on the cases that matter to an upload."""
    compare(family, CASES[name])


@pytest.mark.parametrize("name", OF_TCP)
def test_cases_of_tcp(name: str) -> None:
    """Both worlds agree on what is TCP's alone."""
    compare(TCP, OF_TCP[name])


@pytest.mark.parametrize("name", OF_UNIX)
def test_cases_of_unix(name: str) -> None:
    """Both worlds agree on what is a unix socket's alone."""
    compare(UNIX, OF_UNIX[name])


ANY_STEP = st.tuples(
    st.sampled_from([CLIENT, SERVER]),
    st.sampled_from(
        [
            *("send", "send", "send and more", "receive", "receive", "peek", "splice"),
            *("half-close", "shut", "shut for reading", "close", "close", "will reset"),
            *("wake for", "error", "is connected", "urgent"),
        ]
    ),
    st.integers(1, 10),
)


SCRIPTS = st.lists(ANY_STEP, min_size=2, max_size=14)
IN_LINE: list[Step] = [(CLIENT, "in line", 0), (SERVER, "in line", 0)]
MANY = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # where the worlds differ, each attempt to shorten a script waits
    suppress_health_check=list(HealthCheck),
)


@given(script=SCRIPTS)
@MANY
def test_any_script_over_tcp(script: list[Step]) -> None:
    """Both worlds agree on whatever the ends of a TCP connection do, one call after the other."""
    compare(TCP, IN_LINE + script)


@given(script=SCRIPTS)
@MANY
def test_any_script_between_unix_sockets(script: list[Step]) -> None:
    """Both worlds agree on whatever two unix sockets do."""
    compare(UNIX, IN_LINE + script)


# -- buffers --------------------------------------------------------------------


@pytest.mark.parametrize("family", [TCP, UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("world", [SimulatedPair, RealPair])
def test_full_buffers(world: Any, family: int) -> None:
    """
    A writer whose buffer is full is told so; it can write again when everything has been read,
    and nothing is lost.
    """
    pair = world(family)
    try:
        sent = _fill(pair)
        assert not _bits(pair, CLIENT) & select.POLLOUT
        assert _bits(pair, SERVER) & select.POLLIN
        assert _drain(pair, sent) == sent
        assert _bits(pair, CLIENT) == select.POLLOUT
        assert pair.ends[CLIENT].send(b"more") == 4
    finally:
        pair.close()


def _fill(pair: Any) -> int:
    """Send until nothing more is taken, even after a while."""
    sent = rounds = 0
    while rounds < 20:
        try:
            sent += pair.ends[CLIENT].send(bytes(65536))
            rounds = 0
        except BlockingIOError:
            pair.settle_for_a_moment()
            rounds += 1
    return sent


def _drain(pair: Any, size: int) -> int:
    """Receive until so much has come."""
    received = 0
    deadline = time.monotonic() + PATIENCE
    while received < size and time.monotonic() < deadline:
        try:
            received += len(pair.ends[SERVER].recv(65536))
        except BlockingIOError:
            pair.settle_for_a_moment()
    pair.settle_for_a_moment()
    return received


def _bits(pair: Any, number: int) -> int:
    state = pair.states()[number]
    assert state is not None
    return int(state[0])
