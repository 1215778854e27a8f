"""A load, and what its sender reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Uploads to make: `count` of `size` bytes, `parallel` at a time, from serial `base` on."""

    port: int
    count: int
    size: int
    parallel: int = 1
    base: int = 1
    protocol: str = "raw"
    """`raw`, `ftp`, or of HTTP: `put`, `chunked` (PUT), `form`, `tus`."""
    sender: str = "load"
    """`load`, `keep-alive` or `curl`; see `benchmarks.peers.Peer`."""
    chunk: int = 0
    """Bytes of each PATCH, for tus; 0: the upload is one PATCH."""
    path: str = "/"
    answer: str = "上传成功"
    habit: str = "ready"
    """How the sender works: `ready`, `single` or `slow`; see `c/load.c`."""
    source: Path | None = None
    """The page-cached file from which all but the first block is sent."""


@dataclass(frozen=True)
class Sent:
    """
    What the sender saw, in seconds; `p50` to `worst` are latencies from connecting to
    the answer.
    """

    acknowledged: frozenset[int]
    """Serials of the uploads that were acknowledged."""
    failed: int
    wall: float
    p50: float
    p90: float
    p99: float
    worst: float
    cpu: float

    @property
    def cpu_share(self) -> float:
        """The share of one core that the sender used: at 1.0 it would be the bottleneck."""
        return self.cpu / self.wall
