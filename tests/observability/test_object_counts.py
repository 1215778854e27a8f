"""
The counts of requests to an object store, and of forwarded files.
"""

from __future__ import annotations

import threading

from twisted_upload.observability.metrics import (
    FORWARD_FAILURES,
    FORWARD_OLDEST,
    FORWARD_REJECTED,
    FORWARD_WAITING,
    FORWARDED,
    STORE_REQUEST_DURATION,
    STORE_REQUESTS,
    STORE_RETRIES,
)
from twisted_upload.observability.object_counts import ForwardCounts, RequestCounts

WHERE = "s3://inbox/scans"


def test_requests() -> None:
    """Requests are counted by operation and outcome, and timed by operation."""
    counts = RequestCounts()
    counts.finished("put", "ok", 0.003)
    counts.finished("put", "throttled", 0.2)
    counts.retried("put")
    counts.finished("head", "ok", 0.001)
    samples = counts.samples(WHERE)
    assert samples[STORE_REQUESTS.name] == {
        (WHERE, "put", "ok"): 1,
        (WHERE, "put", "throttled"): 1,
        (WHERE, "head", "ok"): 1,
    }
    assert samples[STORE_RETRIES.name] == {(WHERE,): 1}
    durations = samples[STORE_REQUEST_DURATION.name]
    assert {labels: sum(it[:-1]) for labels, it in durations.items()} == {
        (WHERE, "put"): 2,
        (WHERE, "head"): 1,
    }


def test_threads() -> None:
    """No request is missed, however many threads count at the same time."""
    counts = RequestCounts()

    def work() -> None:
        for _ in range(1000):
            counts.finished("put", "ok", 0.001)
            counts.retried("put")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = counts.samples(WHERE)
    assert samples[STORE_REQUESTS.name] == {(WHERE, "put", "ok"): 8000}
    assert samples[STORE_RETRIES.name] == {(WHERE,): 8000}


def test_forwarded_files() -> None:
    """Forwarded files and failed attempts are counted from the start, beside those that wait."""
    counts = ForwardCounts()
    zero = {(WHERE,): 0}
    waiting = FORWARD_WAITING, FORWARD_OLDEST, FORWARD_REJECTED
    names = [it.name for it in (FORWARDED, FORWARD_FAILURES, *waiting)]
    assert counts.samples(WHERE) == dict.fromkeys(names, zero)
    counts.ended(0.1, succeeded=True)
    counts.ended(0.1, succeeded=False)
    counts.ended(0.1, succeeded=False)
    counts.waiting, counts.oldest, counts.given_up = 3, 1001.0, 4
    samples = counts.samples(WHERE)
    assert [samples[name][WHERE,] for name in names] == [1, 2, 3, 1001.0, 4]
