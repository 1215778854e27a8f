"""The sender that people use: curl, one upload at a time."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from .build import command, run
from .errors import UnavailableError
from .job import Job, Sent
from .settings import MIB

TUS = ("-H", "Tus-Resumable: 1.0.0")


def send_by_curl(job: Job, limit: float) -> Sent:
    """
    Make the one upload of `job`: the beginning of its source, unchanged, with serial 0.

    :raises UnavailableError: there is no curl, or it fails or takes longer than `limit` seconds.
    """
    if job.source is None or job.count != 1:
        raise UnavailableError("curl sends one file")
    line = [command("curl"), "-sS", "-o", "/dev/null", "-w", "%{http_code}"]
    line += ["--max-time", str(limit), *_request(job, beginning(job.source, job.size))]
    # A body of unknown length comes from a pipe, as it does in a shell.
    pipe = ["sh", "-c", 'cat "$0" | exec "$@"', str(beginning(job.source, job.size))]
    began = time.perf_counter()
    with subprocess.Popen(
        [*(pipe if job.protocol == "chunked" else []), *line],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as curl:  # fmt: skip
        assert curl.stdout is not None
        assert curl.stderr is not None
        status, words = curl.stdout.read(), curl.stderr.read()
        _, code, used = os.wait4(curl.pid, 0)
        curl.returncode = os.waitstatus_to_exitcode(code)
    wall = time.perf_counter() - began
    if not re.fullmatch("[0-9]{3}", status):
        raise UnavailableError(f"curl: {(words.strip().splitlines() or ['failed'])[-1]}")
    stored = status.startswith("2") and not curl.returncode
    return Sent(
        acknowledged=frozenset({0} if stored else ()), failed=0 if stored else 1, wall=wall,
        p50=wall, p90=wall, p99=wall, worst=wall, cpu=used.ru_utime + used.ru_stime,
    )  # fmt: skip


def _request(job: Job, file: Path) -> list[str]:
    url = f"http://127.0.0.1:{job.port}{job.path}"
    if job.protocol == "form":
        return ["-F", f"files=@{file};filename=0.bin;type=application/octet-stream", url]
    if job.protocol == "chunked":
        return ["-T", "-", f"{url}0.bin"]
    if job.protocol == "tus":
        fields = ("Upload-Offset: 0", "Content-Type: application/offset+octet-stream")
        more = [word for it in fields for word in ("-H", it)]
        return ["-X", "PATCH", "-T", str(file), *TUS, *more, _created(job, url)]
    return ["-T", str(file), f"{url}0.bin"]


def _created(job: Job, url: str) -> str:
    """Create a tus upload, and return its URL."""
    line = [command("curl"), "-sS", "-D", "-", "-o", "/dev/null", "-X", "POST", *TUS]
    heard = run([*line, "-H", f"Upload-Length: {job.size}", url])
    found = re.search(
        r"^location:\s*(?:https?://[^/\s]+)?(/\S+)", heard, re.IGNORECASE | re.MULTILINE
    )
    if found is None:
        raise UnavailableError(f"no upload was created: {heard.partition(chr(10))[0].strip()}")
    return f"http://127.0.0.1:{job.port}{found[1]}"


def beginning(source: Path, size: int) -> Path:
    """Return a file beside `source` with its first `size` bytes; made when first needed."""
    if source.stat().st_size == size:
        return source
    path = source.with_name(f"beginning-{size}.bin")
    if not path.exists():
        with source.open("rb", buffering=0) as whole, path.open("wb", buffering=0) as part:
            left = size
            while left:
                left -= part.write(whole.read(min(left, MIB)))
    return path
