"""The cases, by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable

from ..bench import Bench
from .client import client
from .http import (
    http_large,
    http_large_fsync,
    http_small,
    http_small_durable,
    tus_chunks,
    tus_large,
)
from .http_idle import http_bodies, http_idle
from .large import large, large4, large_fsync
from .latency import latency, latency_ext4
from .many import many
from .small import medium, small, small_durable, small_single, small_slow, workers

__all__ = ["CASES"]

CASES: dict[str, Callable[[Bench], None]] = {
    "large": large,
    "large4": large4,
    "large-fsync": large_fsync,
    "small": small,
    "small-single": small_single,
    "small-slow": small_slow,
    "small-durable": small_durable,
    "medium": medium,
    "workers": workers,
    "many": many,
    "latency": latency,
    "latency-ext4": latency_ext4,
    "client": client,
    "http-large": http_large,
    "http-large-fsync": http_large_fsync,
    "http-small": http_small,
    "http-small-durable": http_small_durable,
    "http-idle": http_idle,
    "http-bodies": http_bodies,
    "tus-large": tus_large,
    "tus-chunks": tus_chunks,
}
