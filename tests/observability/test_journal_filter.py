"""
Which records of a journal are selected.
"""

from __future__ import annotations

from typing import Any

import pytest

from twisted_upload.observability.journal_filter import Filter, Totals, parse_moment, parse_peer

NOW = 1_795_351_404.291
TIME = "2026-11-22T12:43:24.291Z"
STORED = {
    "time": TIME,
    "event": "stored",
    "peer": "192.0.2.7:50123",
    "size": 5,
    "listener": "scanner",
    "name": "1795351404291.jpg",
}
REFUSED = {"time": TIME, "event": "refused", "peer": "[2001:db8::7]:50123", "code": "empty"}
GAP = {"time": TIME, "event": "gap", "lines": 3}


@pytest.mark.parametrize(
    ("wanted", "records"),
    [
        (Filter(), [STORED, REFUSED, GAP]),
        (Filter(since=TIME), [STORED, REFUSED, GAP]),
        (Filter(since="2026-11-22T12:43:24.292Z"), []),
        (Filter(until="2026-11-22T12:43:24.292Z"), [STORED, REFUSED, GAP]),
        (Filter(until=TIME), []),
        (Filter(values={"event": ["stored"]}), [STORED, GAP]),
        (Filter(values={"event": ["stored", "refused"]}), [STORED, REFUSED, GAP]),
        (Filter(values={"code": ["empty"]}), [REFUSED, GAP]),
        (Filter(values={"code": [], "listener": ["scanner"]}), [STORED, GAP]),
        (Filter(values={"code": ["empty"], "event": ["stored"]}), [GAP]),
        (Filter(peers=[parse_peer("192.0.2.0/24")]), [STORED, GAP]),
        (Filter(peers=[parse_peer("192.0.2.0/24"), parse_peer("::/0")]), [STORED, REFUSED, GAP]),
        (Filter(peers=[parse_peer("unix")]), [GAP]),
        (Filter(patterns={"name": ["17953*.jpg"]}), [STORED, GAP]),
        (Filter(patterns={"name": ["x", "*"]}), [STORED, GAP]),
        (Filter(patterns={"name": ["17953"]}), [GAP]),
        (Filter(patterns={"name": ["*.JPG"]}), [GAP]),
        (Filter(patterns={"name": ["*"]}, values={"event": ["refused"]}), [GAP]),
    ],
)
def test_filter(wanted: Filter, records: list[dict[str, Any]]) -> None:
    """A record has to match all conditions; gaps are always selected."""
    assert [record for record in (STORED, REFUSED, GAP) if wanted.wants(record)] == records


def test_filter_of_foreign_records() -> None:
    """A record without a peer matches no peer."""
    assert not Filter(peers=[parse_peer("::/0")]).wants({"time": TIME, "event": "other"})


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22", "2026-11-22T00:00:00.000Z"),
        ("2026-11-22T10:00", "2026-11-22T10:00:00.000Z"),
        ("2026-11-22 10:00:30", "2026-11-22T10:00:30.000Z"),
        (TIME, TIME),
        ("2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00.000Z"),
        ("1h", "2026-11-22T11:43:24.291Z"),
        ("90s", "2026-11-22T12:41:54.291Z"),
        ("7d", "2026-11-15T12:43:24.291Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000Z"),
        ("today", "2026-11-22T00:00:00.000Z"),
        ("yesterday", "2026-11-21T00:00:00.000Z"),
        ("08:00", "2026-11-22T08:00:00.000Z"),
        ("12:43:24", "2026-11-22T12:43:24.000Z"),
        ("12:43:25", "2026-11-21T12:43:25.000Z"),
        ("22:00", "2026-11-21T22:00:00.000Z"),
    ],
)
def test_moments(text: str, moment: str) -> None:
    """A time is a date, with or without a time of day, a past time of day, or a duration ago."""
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "tomorrow", "90", "20", "2026-13-01", "25:00", "8:00", "-1h"),
        *("9999-12-31T23:59-10:00", "0001-01-01T00:00+10:00", "9" * 400 + "d"),
    ],
)
def test_no_moments(text: str) -> None:
    """An invalid time is refused with an example of a valid one."""
    with pytest.raises(ValueError, match="is not a time such as 2026-11-22"):
        parse_moment(text, NOW)


@pytest.mark.parametrize(
    ("text", "peers"),
    [
        ("192.0.2.7", ["192.0.2.7:50123"]),
        ("192.0.2.0/24", ["192.0.2.7:50123", "192.0.2.70:1"]),
        ("192.0.2.7/24", ["192.0.2.7:50123", "192.0.2.70:1"]),
        ("192.0.2.7:50123", ["192.0.2.7:50123"]),
        ("2001:db8::7", ["[2001:db8::7]:50123"]),
        ("[2001:DB8::7]", ["[2001:db8::7]:50123"]),
        ("2001:db8::/32", ["[2001:db8::7]:50123"]),
        ("[2001:db8::7]:50123", ["[2001:db8::7]:50123"]),
        ("unix", ["unix", "unix uid 1000 pid 4711"]),
    ],
)
def test_peers(text: str, peers: list[str]) -> None:
    """A peer is an address, a network, or what a journal contains."""
    is_it = parse_peer(text)
    known = ["192.0.2.7:50123", "192.0.2.70:1", "[2001:db8::7]:50123", "unix"]
    known += ["unix uid 1000 pid 4711", ""]
    assert [peer for peer in known if is_it(peer)] == peers


@pytest.mark.parametrize("text", ["", "server", "192.0.2", "192.0.2.7:", "1/2/3", "a.b:1"])
def test_no_peers(text: str) -> None:
    """Names are not looked up: a journal contains addresses."""
    with pytest.raises(ValueError, match="is not a peer such as"):
        parse_peer(text)


def test_sums() -> None:
    """Uploads are counted, sizes of stored ones are added up, and so are gaps."""
    sums = Totals()
    for record in (STORED, STORED, REFUSED, GAP, GAP, {"time": TIME, "event": "other"}):
        sums.add(record)
    assert sums.uploads == {"stored": 2, "refused": 1, "aborted": 0}
    assert (sums.stored, sums.missing) == (10, 6)
