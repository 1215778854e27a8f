"""
Refusals that are counted instead of logged individually.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.frontends.refusal_log import (
    LINES,
    LINES_EACH,
    MOST_GROUPS,
    RateLimitedLog,
    RefusalCounter,
)
from twisted_upload.net.networks import address_group

ABORTED = UploadOutcome("aborted", "", "192.0.2.7:50123", 7, 0.5)
STORED = ABORTED._replace(outcome="stored", name="1795328130123.bin")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that are logged."""
    written: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "twisted_upload.frontends.refusal_log":
            written.append(event["log_format"].format_map(event))

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield written
    globalLogPublisher.removeObserver(observer)


def test_nothing(lines: list[str]) -> None:
    """Without refusals there is no line, and no timer."""
    clock = Clock()
    RefusalCounter(clock).log_summary()
    assert lines == []
    assert clock.getDelayedCalls() == []


def test_one_line_a_minute(lines: list[str]) -> None:
    """However many are refused, one line is logged each minute; then none, until there are more."""
    clock = Clock()
    refusals = RefusalCounter(clock)
    for second in range(150):
        for _ in range(100):
            refusals.count("busy", address_group("192.0.2.7"))
        refusals.count("not-allowed", address_group("2001:db8::7"))
        assert len(lines) == second // 60
        clock.advance(1)
    clock.pump([1] * 120)
    assert lines == [
        f"not logged individually in 60 s: {number * 100} busy, {number} not-allowed;"
        f" from 2 addresses, mostly 192.0.2.7 ({number * 100})"
        for number in (60, 60, 30)
    ]
    assert clock.getDelayedCalls() == []
    assert refusals.total == {"busy": 15_000, "not-allowed": 150}


def test_at_the_end(lines: list[str]) -> None:
    """What has been counted is logged once when the daemon stops."""
    clock = Clock()
    refusals = RefusalCounter(clock)
    refusals.count("busy", address_group("2001:db8::7"))
    clock.advance(7)
    refusals.log_summary()
    refusals.log_summary()
    assert lines == ["not logged individually in 7 s: 1 busy; from one address, 2001:db8::/64"]
    assert clock.getDelayedCalls() == []


def test_no_address(lines: list[str]) -> None:
    """A refusal of a sender without an address is counted too."""
    refusals = RefusalCounter(Clock())
    refusals.count("busy", None)
    refusals.log_summary()
    assert lines == ["not logged individually in 1 s: 1 busy"]


def test_addresses_are_bounded(lines: list[str]) -> None:
    """A flood from many addresses does not fill the memory: only so many are told apart."""
    refusals = RefusalCounter(Clock())
    for number in range(3 * MOST_GROUPS):
        refusals.count("busy", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(refusals._groups) == MOST_GROUPS
    refusals.log_summary()
    assert lines[0].startswith(f"not logged individually in 1 s: {3 * MOST_GROUPS} busy;")
    assert f"from {MOST_GROUPS} addresses or more" in lines[0]


class _Log:
    def __init__(self) -> None:
        self.clock = Clock()
        self.refusals = RefusalCounter(self.clock)
        self.written: list[UploadOutcome] = []
        self.observer = RateLimitedLog(self.written.append, self.refusals, self.clock)


def test_stored_is_always_logged() -> None:
    """Every stored upload is logged, whatever else happens."""
    log = _Log()
    for _ in range(10 * LINES):
        log.observer(STORED)
        log.observer(ABORTED)
    assert log.written.count(STORED) == 10 * LINES


def test_bad_ends_of_one_address() -> None:
    """
    One address has a limited number of lines a minute for failed uploads; the rest is
    counted.
    """
    log = _Log()
    for number in range(LINES_EACH + 5):
        log.observer(ABORTED._replace(peer=f"192.0.2.7:{number}"))
    log.observer(ABORTED._replace(peer="192.0.2.8:1", outcome="refused", code="too-large"))
    assert len(log.written) == LINES_EACH + 1
    assert log.refusals.total == {"aborted": 5}
    log.clock.advance(60)
    log.observer(ABORTED)
    assert len(log.written) == LINES_EACH + 2


def test_bad_ends_of_all() -> None:
    """All addresses together have a limited number of lines a minute."""
    log = _Log()
    for number in range(LINES + 7):
        log.observer(
            ABORTED._replace(outcome="refused", code="timeout", peer=f"192.0.2.{number % 200}:1")
        )
    assert len(log.written) == LINES
    assert log.refusals.total == {"timeout": 7}
    log.refusals.log_summary()


@pytest.mark.parametrize(
    ("peer", "other"),
    [
        ("192.0.2.7:1", "192.0.2.8:1"),
        ("[2001:db8::7]:1", "[2001:db8:1::7]:1"),
        ("unix uid 7 pid 1", "192.0.2.7:1"),
        ("", "192.0.2.7:1"),
    ],
)
def test_each_for_itself(peer: str, other: str) -> None:
    """An address that uses up its lines does not use up another's."""
    log = _Log()
    for _ in range(LINES_EACH + 1):
        log.observer(ABORTED._replace(peer=peer))
    log.observer(ABORTED._replace(peer=other))
    assert [end.peer for end in log.written] == [peer] * LINES_EACH + [other]
    log.refusals.log_summary()
