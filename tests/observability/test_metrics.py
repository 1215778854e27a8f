"""
The metrics, and the page that shows them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.observability.counters import Counters, DiskTimes
from twisted_upload.observability.metrics import (
    DURATION,
    FREE,
    IN_FLIGHT,
    LAST_STORED,
    METRICS,
    UPLOADS,
    WORST_LAG,
    Metric,
    Samples,
    combine,
    from_json,
    lasting,
    to_json,
)
from twisted_upload.observability.prometheus import page

STORED = UploadOutcome("stored", "scanner", "192.0.2.7:50123", 2048, 0.5, "1795328130123.bin")
ABORTED = UploadOutcome("aborted", "scanner", "192.0.2.7:50123", 7, 2.0)


def samples_of(*ends: UploadOutcome, now: float = 1000.0, **gauges: float) -> Samples:
    """Return the samples of a process after these uploads."""
    counters = Counters(["scanner"], lambda: now)
    for ended in ends:
        counters(ended)
    return {
        **counters.samples(),
        IN_FLIGHT.name: {("scanner",): gauges.get("in_flight", 0)},
        FREE.name: {("/srv/inbox",): gauges.get("free", 0)},
        WORST_LAG.name: {(): gauges.get("lag", 0)},
    }


@pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])
def test_names(metric: Metric) -> None:
    """
    Names have the prefix and the unit, as Prometheus advises; each metric has a help
    sentence.
    """
    assert re.fullmatch(r"twisted_upload(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.kind != "histogram" or metric.name.endswith(("_seconds", "_bytes"))
    assert metric.help.endswith(".")
    assert [*metric.bounds] == sorted(metric.bounds)
    assert bool(metric.bounds) == (metric.kind == "histogram")


def test_names_differ() -> None:
    """No two metrics have the same name."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_counters_of_processes_are_added() -> None:
    """Counters of two workers are added."""
    whole = combine([samples_of(STORED, ABORTED), samples_of(STORED, STORED)])
    assert whole[UPLOADS.name]["scanner", "stored", ""] == 3
    assert whole[UPLOADS.name]["scanner", "aborted", ""] == 1
    *counts, seconds = whole[DURATION.name]["scanner",]
    assert (sum(counts), seconds) == (3, 1.5)


def test_gauges_of_processes() -> None:
    """Uploads in flight are added; of free space the least counts, of lag and time the most."""
    whole = combine(
        [
            samples_of(STORED, now=7, in_flight=1, free=10, lag=0.5),
            samples_of(STORED, now=9, in_flight=2, free=11, lag=0.25),
        ]
    )
    assert whole[IN_FLIGHT.name]["scanner",] == 3
    assert whole[FREE.name]["/srv/inbox",] == 10
    assert whole[WORST_LAG.name][()] == 0.5
    assert whole[LAST_STORED.name]["scanner",] == 9


TOGETHER = {
    "sum": ("uploads_in_flight", "connections", "workers", "programs_running"),
    "max": (
        *("last_stored_timestamp_seconds", "reserve_bytes", "reactor_lag_max_seconds"),
        *("draining", "build_info", "programs_waiting", "programs_given_up"),
        *("partial_uploads", "partial_upload_bytes"),
    ),
    "min": (
        *("store_healthy", "free_bytes", "free_inodes", "start_time_seconds"),
        "certificate_expiry_timestamp_seconds",
    ),
}


@pytest.mark.parametrize("way", TOGETHER)
def test_each_gauge_of_processes(way: str) -> None:
    """One failing worker makes the daemon fail: each gauge is combined accordingly."""
    expected = {"sum": 3, "max": 2, "min": 1}[way]
    for name in TOGETHER[way]:
        labels = ("one",)
        parts: list[Samples] = [{f"twisted_upload_{name}": {labels: value}} for value in (1, 2)]
        for order in (parts, parts[::-1]):
            assert combine(order)[f"twisted_upload_{name}"] == {labels: expected}, name


def test_combining_changes_no_part() -> None:
    """Samples can be combined again."""
    one, other = samples_of(STORED), samples_of(ABORTED)
    assert combine([one, other]) == combine([one, other])
    assert one == samples_of(STORED)


def test_lasting() -> None:
    """When a process has ended, its counters still count, and its gauges do not."""
    left = lasting(samples_of(STORED, in_flight=3))
    assert left[UPLOADS.name]["scanner", "stored", ""] == 1
    assert left[LAST_STORED.name]["scanner",] == 1000.0
    assert IN_FLIGHT.name not in left


def test_json() -> None:
    """Samples survive a round trip through JSON."""
    samples = samples_of(STORED, ABORTED, in_flight=3)
    assert from_json(json.loads(json.dumps(to_json(samples)))) == samples


def values_of(text: str, parser: Any = parse) -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
    """Return all samples of a page, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(("open_metrics", "parser"), [(False, parse), (True, parse_openmetrics)])
def test_page(open_metrics: bool, parser: Any) -> None:
    """The official parser reads the page, in each format."""
    samples = samples_of(STORED, STORED, ABORTED, in_flight=3)
    text, content_type = page(samples, open_metrics=open_metrics)
    assert ("openmetrics" in content_type) == (parser is parse_openmetrics)
    values = values_of(text.decode(), parser)
    scanner = ("listener", "scanner")
    stored = frozenset({scanner, ("outcome", "stored"), ("code", "")})
    assert values["twisted_upload_uploads_total", stored] == 2
    assert values["twisted_upload_uploads_in_flight", frozenset({scanner})] == 3
    seconds = "twisted_upload_upload_duration_seconds"
    assert values[f"{seconds}_sum", frozenset({scanner})] == 1.0
    assert values[f"{seconds}_count", frozenset({scanner})] == 2
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in values.items()
        if name == f"{seconds}_bucket"
    }
    assert [*buckets] == [*DURATION.bounds, math.inf]
    assert [*buckets.values()] == [0 if bound < 0.5 else 2 for bound in buckets]


def test_all_metrics_are_on_the_page() -> None:
    """A metric without samples is on the page too, with its type and help."""
    text, _ = page({})
    families = {family.name: family for family in parse(text.decode())}
    assert {
        (metric.name.removesuffix("_total"), metric.kind, metric.help) for metric in METRICS
    } == {(family.name, family.type, family.documentation) for family in families.values()}


def test_odd_labels() -> None:
    """A directory may have any name."""
    name = 'a "quoted"\nback\\slash é\udcff'
    text, _ = page(DiskTimes().samples(name))
    directories = {dict(labels)["directory"] for _, labels in values_of(text.decode())}
    assert directories == {'a "quoted"\nback\\slash é\\udcff'}
