"""
The metrics page: samples in Prometheus' text format.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from twisted_upload.observability.metrics import METRICS, Metric, Samples

__all__ = ["page"]

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def page(samples: Samples, *, open_metrics: bool = False) -> tuple[bytes, str]:
    """
    Return the page and its content type.

    :param open_metrics: use the OpenMetrics format instead of Prometheus' own.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(samples))
    if open_metrics:
        text = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), _PLAIN


class _Samples(Collector):
    """The collector that prometheus_client reads."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        """Yield a family for each metric, even without samples: its help text is shown."""
        for metric in METRICS:
            yield _family(metric, self._samples)


def _family(metric: Metric, samples: Samples) -> Family:
    values = {_clean(labels): value for labels, value in samples.get(metric.name, {}).items()}
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(floatToGoString, metric.bounds), "+Inf"]
        for labels, value in values.items():
            *counts, total = value
            buckets = [*zip(bounds, accumulate(counts), strict=True)]
            histogram.add_metric(labels, buckets, total)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _clean(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Escape what is not UTF-8, such as names of directories may contain; the page is UTF-8."""
    return tuple(label.encode("utf-8", "backslashreplace").decode() for label in labels)
