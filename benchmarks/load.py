"""Senders: the load generator and what it reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .build import HERE, Toolbox
from .curl import send_by_curl
from .errors import UnavailableError
from .job import Job, Sent

__all__ = ["Job", "Sent", "command", "send"]


def send(tools: Toolbox, job: Job, limit: float = 600) -> Sent:
    """Make the uploads of `job`; an upload without progress for 60 seconds counts as failed."""
    if job.sender == "curl":
        return send_by_curl(job, limit)
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
    elif job.sender == "keep-alive":
        line = [tools.program("http_load"), "--protocol", job.protocol]
        line += ["--parallel", str(job.parallel), "--chunk", str(job.chunk)]
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
