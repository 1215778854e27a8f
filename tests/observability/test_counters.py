"""
The counters of one process, and the lag of its reactor.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_upload.core.answers import CODES
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.observability.counters import (
    LAG_INTERVAL,
    LAG_MEMORY,
    Counters,
    DiskTimes,
    Histogram,
    ReactorLag,
)
from twisted_upload.observability.metrics import (
    BYTES,
    DURATION,
    FSYNC,
    LAST_STORED,
    PUBLISH,
    SIZE,
    UPLOADS,
)

STORED = UploadOutcome("stored", "scanner", "192.0.2.7:50123", 2048, 0.5, "1795328130123.bin")
ABORTED = UploadOutcome("aborted", "scanner", "192.0.2.7:50123", 7, 2.0)
REFUSED = UploadOutcome("refused", "scanner", "192.0.2.7:50123", 9, 2.0, code="too-large")


def test_ends() -> None:
    """Uploads and their bytes are counted by listener, outcome and code."""
    counters = Counters(["scanner", "camera"], lambda: 0.0)
    for ended in (
        STORED,
        STORED,
        ABORTED,
        REFUSED,
        REFUSED._replace(listener="camera", code="busy"),
    ):
        counters(ended)
    samples = counters.samples()
    uploads = {labels: count for labels, count in samples[UPLOADS.name].items() if count}
    assert uploads == {
        ("scanner", "stored", ""): 2,
        ("scanner", "aborted", ""): 1,
        ("scanner", "refused", "too-large"): 1,
        ("camera", "refused", "busy"): 1,
    }
    assert {labels: size for labels, size in samples[BYTES.name].items() if size} == {
        ("scanner", "stored"): 4096,
        ("scanner", "aborted"): 7,
        ("scanner", "refused"): 9,
        ("camera", "refused"): 9,
    }


def test_all_series_are_there_from_the_start() -> None:
    """Series that have had no event are 0, so that their first event is an increase."""
    uploads = Counters(["scanner"], lambda: 0.0).samples()[UPLOADS.name]
    assert set(uploads) == {
        ("scanner", "stored", ""),
        ("scanner", "aborted", ""),
        *(("scanner", "refused", code) for code in CODES),
    }
    assert not any(uploads.values())


def test_new_listener_and_code() -> None:
    """Listeners and codes unknown at the start are counted too: an observer never fails."""
    counters = Counters([], lambda: 0.0)
    counters(REFUSED._replace(code="of-another-store"))
    assert counters.samples()[UPLOADS.name]["scanner", "refused", "of-another-store"] == 1


def test_only_stored_uploads_are_measured() -> None:
    """Durations and sizes are those of stored uploads."""
    counters = Counters(["scanner"], lambda: 0.0)
    for ended in (STORED, ABORTED, REFUSED):
        counters(ended)
    samples = counters.samples()
    (*durations, seconds), (*sizes, size) = (
        samples[metric.name]["scanner",] for metric in (DURATION, SIZE)
    )
    assert (sum(durations), seconds, sum(sizes), size) == (1, 0.5, 1, 2048)
    assert durations[DURATION.bounds.index(0.5)] == 1
    assert sizes[SIZE.bounds.index(4096)] == 1


def test_last_stored() -> None:
    """The time of the last stored upload is known for each listener; 0 means never."""
    now = [1000.0]
    counters = Counters(["scanner", "camera"], lambda: now[0])
    counters(STORED)
    now[0] = 2000.0
    counters(ABORTED)
    counters(REFUSED)
    assert counters.samples()[LAST_STORED.name] == {("scanner",): 1000.0, ("camera",): 0.0}


def test_samples_are_copies() -> None:
    """Samples do not change when something more is counted."""
    counters = Counters(["scanner"], lambda: 0.0)
    before = counters.samples()
    counters(STORED)
    assert sum(before[DURATION.name]["scanner",]) == 0


@given(st.lists(st.floats(0, 20)))
@settings(deadline=None)
def test_histogram(values: list[float]) -> None:
    """Each value falls into the first bucket whose bound is not less; their sum is recorded."""
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    *counts, total = histogram.sample()
    assert total == pytest.approx(sum(values))
    assert sum(counts) == len(values)
    for number, bound in enumerate(bounds):
        assert sum(counts[: number + 1]) == sum(value <= bound for value in values)


def test_disk_times() -> None:
    """The disk times of a store have its directory as label."""
    times = DiskTimes()
    times.fsync.observe(0.25)
    times.publish.observe(0.5)
    samples = times.samples("/srv/inbox")
    assert samples[FSYNC.name]["/srv/inbox",][-1] == 0.25
    assert samples[PUBLISH.name]["/srv/inbox",][-1] == 0.5


# The lag of the reactor


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def late(clock: Clock) -> list[float]:
    return []


@pytest.fixture
def lag(clock: Clock, late: list[float]) -> ReactorLag:
    lag = ReactorLag(clock, late.append)
    lag.start()
    return lag


def test_in_time(clock: Clock, late: list[float], lag: ReactorLag) -> None:
    """A reactor that nothing blocks is never late."""
    clock.pump([LAG_INTERVAL] * 4)
    assert late == [0, 0, 0, 0]
    assert lag.worst == 0


def test_late(clock: Clock, late: list[float], lag: ReactorLag) -> None:
    """A blocked reactor is late, once."""
    clock.advance(LAG_INTERVAL + 0.5)
    clock.advance(LAG_INTERVAL)
    assert late == [0.5, 0]
    assert lag.worst == 0.5


def test_worst_is_forgotten(clock: Clock, lag: ReactorLag) -> None:
    """The worst lag is remembered for a minute, and forgotten after two."""
    clock.advance(LAG_INTERVAL + 0.5)
    for _ in range(int(LAG_MEMORY / LAG_INTERVAL)):
        clock.advance(LAG_INTERVAL)
    assert lag.worst == 0.5
    for _ in range(int(LAG_MEMORY / LAG_INTERVAL)):
        clock.advance(LAG_INTERVAL)
    assert lag.worst == 0


def test_clock_set_back(clock: Clock, late: list[float], lag: ReactorLag) -> None:
    """A clock that is set back makes no lag negative."""
    (timer,) = clock.getDelayedCalls()
    clock.rightNow -= 10
    timer.reset(0)  # a reactor may call it by another clock
    clock.advance(0)
    assert late == [0]


def test_stop(clock: Clock, lag: ReactorLag) -> None:
    """Stopping leaves nothing behind; stopping twice is harmless."""
    lag.stop()
    lag.stop()
    assert clock.getDelayedCalls() == []
