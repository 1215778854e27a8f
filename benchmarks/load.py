"""Senders: the load generator and what it reports."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .build import HERE, Toolbox
from .errors import UnavailableError


@dataclass(frozen=True)
class Job:
    """Uploads to make: `count` of `size` bytes, `parallel` at a time, from serial `base` on."""

    port: int
    count: int
    size: int
    parallel: int = 1
    base: int = 1
    protocol: str = "raw"
    """`raw`, `put` (HTTP), `form` (HTTP) or `ftp`."""
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


def send(tools: Toolbox, job: Job, limit: float = 600) -> Sent:
    """Make the uploads of `job`; an upload without progress for 60 seconds counts as failed."""
    acks = tools.directory / f"acks-{job.port}-{job.base}"
    try:
        done = subprocess.run(
            command(tools, job, acks), capture_output=True, text=True, timeout=limit, check=False
        )
        if done.returncode:
            raise UnavailableError(
                f"sender: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
            )
        heard = acks.read_bytes()
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"sender: not done after {limit:.0f} s") from error
    finally:
        acks.unlink(missing_ok=True)
    seen = json.loads(done.stdout)
    seen["acknowledged"] = frozenset(job.base + i for i, ack in enumerate(heard) if ack == ord("1"))
    return Sent(**seen)


def command(tools: Toolbox, job: Job, acks: Path | None = None) -> list[str]:
    """Return the command line that runs `job`."""
    if job.protocol == "ftp":
        line = [sys.executable, str(HERE / "scripts" / "ftp_send.py")]
    else:
        line = [tools.program("load"), "--protocol", job.protocol]
        line += ["--answer", job.answer, "--parallel", str(job.parallel)]
        line += ["--habit", job.habit]
    line += [
        "--path",
        job.path,
        "--port",
        str(job.port),
        "--count",
        str(job.count),
        "--size",
        str(job.size),
    ]
    line += ["--base", str(job.base)]
    if acks is not None:
        line += ["--acks", str(acks)]
    if job.source is not None:
        line += ["--source", str(job.source)]
    return line
