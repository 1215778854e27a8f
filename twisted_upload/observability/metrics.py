"""
The table of all metrics.

Nothing here depends on Prometheus: `twisted_upload.observability.prometheus` makes its
text from `METRICS` and samples.  `combine` merges the samples of several processes.

A sample of a counter or a gauge is a number.  A sample of a histogram is a list: the
number of values in each bucket (not cumulative, the last one without a bound), followed
by the sum of all values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BYTES",
    "CERTIFICATE_ENDS",
    "CONNECTIONS",
    "DRAINING",
    "DURATION",
    "FORWARDED",
    "FORWARD_FAILURES",
    "FORWARD_OLDEST",
    "FORWARD_REJECTED",
    "FORWARD_WAITING",
    "FREE",
    "FREE_INODES",
    "FSYNC",
    "HANDSHAKE_FAILURES",
    "HEALTHY",
    "INFO",
    "IN_FLIGHT",
    "LAG",
    "LAST_STORED",
    "METRICS",
    "PARTIALS",
    "PARTIAL_BYTES",
    "PENDING_MULTIPARTS",
    "PROGRAMS",
    "PROGRAMS_GIVEN_UP",
    "PROGRAMS_RUNNING",
    "PROGRAMS_WAITING",
    "PROGRAM_DURATION",
    "PUBLISH",
    "REJECTED",
    "RESERVE",
    "RESTARTS",
    "SIZE",
    "STARTED",
    "STORE_REQUESTS",
    "STORE_REQUEST_DURATION",
    "STORE_RETRIES",
    "UPLOADS",
    "WORKERS",
    "WORST_LAG",
    "Metric",
    "Samples",
    "combine",
    "from_json",
    "lasting",
    "to_json",
]

Samples = dict[str, dict[tuple[str, ...], Any]]
"""Samples by the name of the metric and the values of its labels."""

_DURATIONS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
_SIZES = tuple(float(1024 * 4**power) for power in range(13))  # 1 KiB to 16 GiB
_REQUESTS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_WAITS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True)
class Metric:
    """
    A metric.

    :ivar name: name in Prometheus.
    :ivar kind: ``counter``, ``gauge`` or ``histogram``.
    :ivar help: description in one sentence.
    :ivar labels: names of the labels.
    :ivar bounds: of a histogram, the largest value of each bucket except the last.
    :ivar together: how gauges of several processes are combined: ``sum``, ``max`` or
        ``min``.
    :ivar lasting: whether samples of a process still count after it has ended.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    together: str = "sum"
    lasting: bool = False


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"twisted_upload_{name}", "counter", text, labels, lasting=True)


def _gauge(
    name: str, text: str, *labels: str, together: str = "sum", lasting: bool = False
) -> Metric:
    return Metric(
        f"twisted_upload_{name}", "gauge", text, labels, together=together, lasting=lasting
    )


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"twisted_upload_{name}", "histogram", text, labels, bounds, lasting=True)


UPLOADS = _counter(
    "uploads_total",
    "Finished uploads: stored, refused (with the code that the sender was told) or aborted.",
    *("listener", "outcome", "code"),
)
BYTES = _counter(
    "received_bytes_total", "Bytes received by finished uploads.", "listener", "outcome"
)
REJECTED = _counter(
    "rejected_connections_total",
    "Connections rejected before an upload could begin, with the code that the sender was told.",
    *("listener", "code"),
)
HANDSHAKE_FAILURES = _counter(
    "tls_handshake_failures_total",
    "Failed TLS handshakes: no-tls (the client does not speak TLS), certificate-rejected (by the"
    " client), timeout, protocol, gone (connection lost).",
    *("listener", "kind"),
)
CERTIFICATE_ENDS = _gauge(
    "certificate_expiry_timestamp_seconds",
    "When the certificate in use expires, in seconds since the epoch.",
    "certificate",
    together="min",
)
IN_FLIGHT = _gauge("uploads_in_flight", "Uploads that have begun and not finished.", "listener")
CONNECTIONS = _gauge("connections", "Open connections of senders.", "listener")
DURATION = _histogram(
    "upload_duration_seconds",
    "Time from the connection or the request to the answer, of stored uploads; of resumable ones,"
    " from the creation.",
    _DURATIONS,
    "listener",
)
SIZE = _histogram("upload_size_bytes", "Size of stored uploads.", _SIZES, "listener")
LAST_STORED = _gauge(
    "last_stored_timestamp_seconds",
    "When the last upload was stored, in seconds since the epoch; 0 if none since the start.",
    "listener",
    together="max",
    lasting=True,
)
FSYNC = _histogram(
    "fsync_seconds",
    "Duration of each fsync: of one file, of several together, or of the directory.",
    _WAITS,
    "directory",
)
PUBLISH = _histogram(
    "publish_seconds",
    "Duration of each rename (or link) to a final name, including names already taken.",
    _WAITS,
    "directory",
)
HEALTHY = _gauge(
    "store_healthy",
    "1, or 0 after an error of the disk or the object store until a self-test passes; the label is"
    " a directory or s3://BUCKET/PREFIX.",
    "directory",
    together="min",
)
FREE = _gauge(
    "free_bytes", "Free space on the file system of the directory.", "directory", together="min"
)
FREE_INODES = _gauge(
    "free_inodes",
    "Free inodes on the file system of the directory, if it counts them.",
    "directory",
    together="min",
)
RESERVE = _gauge(
    "reserve_bytes", "Free space below which uploads are refused.", "directory", together="max"
)
PARTIALS = _gauge(
    "partial_uploads",
    "Unfinished uploads that can be resumed, of all processes; updated every minute.",
    "directory",
    together="max",  # each process looks at the same folder
)
PARTIAL_BYTES = _gauge(
    "partial_upload_bytes", "Committed bytes of these uploads.", "directory", together="max"
)
PROGRAMS_WAITING = _gauge(
    "programs_waiting",
    "Files whose --on-upload program has not succeeded yet; updated every 10 s.",
    "directory",
    together="max",  # each process looks at the same queue
)
PROGRAMS_RUNNING = _gauge("programs_running", "Running --on-upload programs.", "directory")
PROGRAMS = _counter(
    "programs_total",
    "Finished --on-upload programs, each attempt: succeeded or failed.",
    *("directory", "outcome"),
)
PROGRAM_DURATION = _histogram(
    "program_duration_seconds",
    "Duration of --on-upload programs, each attempt.",
    _DURATIONS,
    "directory",
)
PROGRAMS_GIVEN_UP = _gauge(
    "programs_given_up",
    "Files in .on-upload/failed/, whose programs are not started again; updated every 10 s.",
    "directory",
    together="max",
)
STORE_REQUESTS = _counter(
    "store_requests_total",
    "Operations of the object store, each with all of its attempts: ok, or the kind of failure.",
    *("store", "operation", "outcome"),
)
STORE_REQUEST_DURATION = _histogram(
    "store_request_seconds",
    "Duration of operations of the object store, each with all of its attempts.",
    _REQUESTS,
    *("store", "operation"),
)
STORE_RETRIES = _counter(
    "store_retries_total", "Further attempts of operations of the object store.", "store"
)
PENDING_MULTIPARTS = _gauge(
    "pending_multiparts",
    "Multipart uploads of this daemon that are neither completed nor aborted.",
    "store",
)
FORWARD_WAITING = _gauge(
    "forward_waiting",
    "Stored files that have not been forwarded yet; updated every 10 s.",
    "directory",
    together="max",  # each process looks at the same queue
)
FORWARD_OLDEST = _gauge(
    "forward_oldest_timestamp_seconds",
    "When the oldest file arrived that waits to be forwarded, in seconds since the epoch; 0 if none"
    " waits; updated every 10 s.",
    "directory",
    together="max",
)
FORWARD_REJECTED = _gauge(
    "forward_rejected",
    "Files in .forward/failed/: the object store rejects them, and they are tried again every"
    " hour; or their markers are unusable; updated every 10 s.",
    "directory",
    together="max",
)
FORWARDED = _counter("forwarded_total", "Forwarded files.", "directory")
FORWARD_FAILURES = _counter(
    "forward_failures_total", "Failed attempts to forward a file.", "directory"
)
LAG = _histogram(
    "reactor_lag_seconds", "How late a timer fires that is set four times a second.", _WAITS
)
WORST_LAG = _gauge(
    "reactor_lag_max_seconds",
    "The highest reactor lag of the last one to two minutes.",
    together="max",
)
DRAINING = _gauge(
    "draining", "1 while the daemon is stopping and uploads in flight may finish.", together="max"
)
WORKERS = _gauge("workers", "Worker processes by state: answering, silent or missing.", "state")
RESTARTS = _counter("worker_restarts_total", "Workers that died and were replaced.")
STARTED = _gauge(
    "start_time_seconds", "When the daemon started, in seconds since the epoch.", together="min"
)
INFO = _gauge(
    "build_info", "Always 1; the label is the version of the daemon.", "version", together="max"
)

METRICS: tuple[Metric, ...] = (
    *(UPLOADS, BYTES, REJECTED, IN_FLIGHT, CONNECTIONS, DURATION, SIZE, LAST_STORED),
    *(FSYNC, PUBLISH, HEALTHY, FREE, FREE_INODES, RESERVE),
    *(PARTIALS, PARTIAL_BYTES),
    *(HANDSHAKE_FAILURES, CERTIFICATE_ENDS),
    *(PROGRAMS_WAITING, PROGRAMS_RUNNING, PROGRAMS, PROGRAM_DURATION, PROGRAMS_GIVEN_UP),
    *(STORE_REQUESTS, STORE_REQUEST_DURATION, STORE_RETRIES, PENDING_MULTIPARTS),
    *(FORWARD_WAITING, FORWARD_OLDEST, FORWARD_REJECTED, FORWARDED, FORWARD_FAILURES),
    *(LAG, WORST_LAG, DRAINING, WORKERS, RESTARTS, STARTED, INFO),
)


def combine(parts: Iterable[Samples]) -> Samples:
    """Merge the samples of several processes into those of one."""
    whole: Samples = {}
    for part in parts:
        for metric in METRICS:
            for labels, value in part.get(metric.name, {}).items():
                others = whole.setdefault(metric.name, {})
                other = others.get(labels)
                others[labels] = value if other is None else _together(metric, other, value)
    return whole


def _together(metric: Metric, one: Any, other: Any) -> Any:
    if metric.kind == "histogram":
        return [mine + its for mine, its in zip(one, other, strict=True)]
    if metric.together == "max":
        return max(one, other)
    if metric.together == "min":
        return min(one, other)
    return one + other


def lasting(samples: Samples) -> Samples:
    """Return the samples that still count if a process has ended or does not answer."""
    names = {metric.name for metric in METRICS if metric.lasting}
    return {name: values for name, values in samples.items() if name in names}


def to_json(samples: Samples) -> dict[str, Any]:
    """Convert samples to a form that JSON can represent."""
    return {name: [[*item] for item in values.items()] for name, values in samples.items()}


def from_json(text: dict[str, Any]) -> Samples:
    """Convert samples back from that form."""
    return {
        name: {tuple(labels): value for labels, value in values} for name, values in text.items()
    }
