"""The cases, by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable

from ..bench import Bench
from .client import client
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
}
