"""
Requests for partial uploads of other nodes, in the log.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from twisted_upload.stores.misrouted import EVERY, MisroutedLog

TOKEN = "0123456789abcdef" * 2
TWO = f"two-{TOKEN}"


def lines(log: MisroutedLog, identities: Sequence[str]) -> list[str]:
    with capturedLogs() as events:
        for identity in identities:
            log.missed(identity)
    return [formatEvent(event) for event in events]


def test_line() -> None:
    """The log tells which node the id names, and which node this is."""
    assert lines(MisroutedLog("inbox", "one", Clock()), [TWO]) == [
        "inbox: 1 request for partial uploads that are not here, the last one for node two,"
        " but this is one: does the load balancer route by the id?"
    ]


def test_bounded() -> None:
    """There is a line a minute at most, and it counts those before it."""
    clock = Clock()
    log = MisroutedLog("inbox", "one", clock)
    assert len(lines(log, [TWO] * 3)) == 1
    clock.advance(EVERY - 1)
    assert lines(log, [TWO]) == []
    clock.advance(1)
    (line,) = lines(log, [TWO])
    assert "4 requests" in line


@pytest.mark.parametrize("identity", [f"one-{TOKEN}", TOKEN, "", "two-\x1b[2J", "two"])
def test_others(identity: str) -> None:
    """An upload of this node that has expired, and what is no id, are not worth a line."""
    assert lines(MisroutedLog("inbox", "one", Clock()), [identity]) == []


def test_alone() -> None:
    """A daemon that is no node says nothing."""
    assert lines(MisroutedLog("inbox", "", Clock()), [TWO]) == []
