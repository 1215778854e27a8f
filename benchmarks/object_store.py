"""
``python -m benchmarks.object_store``: uploads into an object store (SeaweedFS on this
machine), beside obstore alone, rclone and @tus/server with their S3 stores.

Interleaved rounds, medians; the object store takes most of both cores, and is the limit of
all. ``twistd upload --forward`` is compared with the same directory store without it, while
the object store answers and while it is stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.engines.engine import Place
from tests.engines.seaweedfs import SeaweedFS

from .build import HERE, Toolbox, command
from .errors import UnavailableError
from .job import Job
from .load import command as sender_command
from .load import send
from .peers.ours import twistd
from .process import Receiver, free_port

MIB = 1024 * 1024


class Figure(NamedTuple):
    """One measurement: uploads (or bytes) a second, and CPU seconds of the receiver."""

    rate: float
    cpu: float


class Bench:
    """
    What is measured with.

    :param large: bytes of a large upload.
    :param count: number of small ones.
    """

    def __init__(self, work: Path, engine: SeaweedFS, large: int, count: int) -> None:
        self.work = work
        self.engine = engine
        self.large = large
        self.count = count
        self.tools = Toolbox(work / "tools")
        self.source = work / "source"
        self.base = 1
        with self.source.open("wb") as file:
            for _ in range(0, large, MIB):
                file.write(b"\xa5" * MIB)

    def place(self) -> Place:
        """Return a new place for objects."""
        return self.engine.engine.place()

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables with which a program reaches the object store."""
        return self.engine.engine.environment()

    def job(self, port: int, count: int, size: int, parallel: int, **more: object) -> Job:
        """Return a job with serials of its own."""
        base, self.base = self.base, self.base + count
        source = {"source": self.source} if size > MIB else {}
        return Job(port, count, size, parallel, base=base, **source, **more)  # type: ignore[arg-type]

    def measure(self, receiver: Receiver, job: Job) -> Figure:
        """Let a receiver take uploads; all must be acknowledged."""
        before = receiver.cpu()
        sent = send(self.tools, job)
        if sent.failed:
            raise UnavailableError(f"{sent.failed} uploads failed: {receiver.last_words()}")
        done = job.count if job.size <= MIB else job.count * job.size
        return Figure(done / sent.wall, receiver.cpu() - before)

    @contextmanager
    def ours(self, *options: str, store: bool = True) -> Iterator[tuple[Receiver, int, int]]:
        """Run our daemon; with its raw port and its HTTP port."""
        raw, http = free_port(), free_port()
        folder = Path(tempfile.mkdtemp(dir=self.work))
        where = ["--store", self.place().url] if store else []
        line = [
            *(twistd(Path(sys.executable)), "-n", "--pidfile=", "upload", "--port", str(raw)),
            *("--http", str(http), "--interface", "127.0.0.1", "--max-per-address", "0"),
            *("--suffix", ".bin", "--directory", str(folder / "inbox"), *where, *options),
        ]
        with Receiver(line, raw, folder / "log", self.environment) as receiver:
            yield receiver, raw, http
        shutil.rmtree(folder)

    def bare(
        self, count: int, size: int, threads: int, parts: int = 0, *, alike: bool = False
    ) -> Figure:
        """Measure obstore alone."""
        line = [sys.executable, str(HERE / "scripts" / "bare_obstore.py"), self.place().url]
        line += [str(count), str(size), str(threads), "--parts", str(parts)]
        line += ["--alike"] if alike else []
        done = subprocess.run(
            line, capture_output=True, text=True, check=True, env={**os.environ, **self.environment}
        )
        wall, cpu = map(float, done.stdout.split())
        return Figure((count * size if parts else count) / wall, cpu)

    @contextmanager
    def rclone(self) -> Iterator[tuple[Receiver, int]]:
        """Run ``rclone serve webdav``."""
        port = free_port()
        place = self.place()
        remote = (
            f":s3,provider=Other,env_auth,endpoint='{self.engine.engine.endpoint}'"
            f":{place.bucket}/{place.prefix}"
        )
        line = [command("rclone"), "serve", "webdav", remote, "--addr", f"127.0.0.1:{port}"]
        # With certificates of its own, the rclone of Debian 13 does not start.
        environment = {**self.environment, "AWS_CA_BUNDLE": ""}
        with Receiver(line, port, self.work / "rclone.log", environment) as receiver:
            yield receiver, port

    @contextmanager
    def tus(self) -> Iterator[tuple[Receiver, int]]:
        """Run @tus/server with its S3 store."""
        if not (HERE / "node" / "node_modules" / "@tus" / "s3-store").is_dir():
            raise UnavailableError("npm install --no-package-lock in benchmarks/node")
        port = free_port()
        line = [command("node"), str(HERE / "node" / "tus_s3_server.js"), str(port), "uploads"]
        with Receiver(line, port, self.work / "tus.log", self.environment) as receiver:
            yield receiver, port


def small(bench: Bench) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the contenders for 4 KiB, 64 at a time."""
    count, size = bench.count, 4096

    def raw() -> Figure:
        with bench.ours() as (receiver, port, _):
            return bench.measure(receiver, bench.job(port, count, size, 64))

    def put() -> Figure:
        with bench.ours() as (receiver, _, port):
            job = bench.job(port, count, size, 64, protocol="put", sender="keep-alive")
            return bench.measure(receiver, job)

    def rclone() -> Figure:
        with bench.rclone() as (receiver, port):
            job = bench.job(port, count, size, 64, protocol="put", sender="keep-alive")
            return bench.measure(receiver, job)

    def tus() -> Figure:
        with bench.tus() as (receiver, port):
            job = bench.job(
                port, count, size, 64, protocol="tus", sender="keep-alive", path="/files"
            )
            return bench.measure(receiver, job)

    yield "obstore alone, 64 threads", lambda: bench.bare(count, size, 64)
    yield (
        "the same, with metadata and checksum",
        lambda: bench.bare(count, size, 64, alike=True),
    )
    yield "twisted-upload, raw", raw
    yield "twisted-upload, PUT", put
    yield "rclone serve webdav", rclone
    yield "@tus/server, S3 store", tus


def large(bench: Bench) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the contenders for one large stream."""
    size = bench.large

    def raw() -> Figure:
        with bench.ours() as (receiver, port, _):
            return bench.measure(receiver, bench.job(port, 1, size, 1))

    def put() -> Figure:
        with bench.ours() as (receiver, _, port):
            job = bench.job(port, 1, size, 1, protocol="put", sender="keep-alive")
            return bench.measure(receiver, job)

    def rclone() -> Figure:
        with bench.rclone() as (receiver, port):
            job = bench.job(port, 1, size, 1, protocol="put", sender="keep-alive")
            return bench.measure(receiver, job)

    def tus() -> Figure:
        with bench.tus() as (receiver, port):
            job = bench.job(port, 1, size, 1, protocol="tus", sender="keep-alive", path="/files")
            return bench.measure(receiver, job)

    yield "obstore alone, 2 parts at a time", lambda: bench.bare(1, size, 1, parts=2)
    yield "obstore alone, 12 parts at a time", lambda: bench.bare(1, size, 1, parts=12)
    yield "twisted-upload, raw", raw
    yield "twisted-upload, PUT", put
    yield "rclone serve webdav", rclone
    yield "@tus/server, S3 store", tus


def forward(bench: Bench) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield a directory store with and without --forward: 4 KiB, 64 at a time."""

    def run(*options: str, away: bool = False) -> Figure:
        with bench.ours(*options, store=False) as (receiver, port, _):
            if away:
                bench.engine.pause()
            try:
                return bench.measure(receiver, bench.job(port, bench.count, 4096, 64))
            finally:
                if away:
                    bench.engine.resume()

    yield "a directory", run
    yield "--forward", lambda: run("--forward", bench.place().url)
    yield (
        "--forward, object store stopped",
        lambda: run("--forward", bench.place().url, away=True),
    )


def memory(bench: Bench, uploads: int = 6) -> float:
    """Return how many bytes of memory our daemon takes for each large upload, at most."""
    with bench.ours() as (receiver, port, _):
        bench.measure(receiver, bench.job(port, 1, 4096, 1))
        idle = receiver.memory()
        job = bench.job(port, uploads, bench.large // 4, uploads)
        highest = idle
        sender = subprocess.Popen(sender_command(bench.tools, job), stdout=subprocess.DEVNULL)
        while sender.poll() is None:
            highest = max(highest, receiver.memory())
            time.sleep(0.02)
        return (highest - idle) / uploads


def table(title: str, contenders: list[tuple[str, Callable[[], Figure]]], rounds: int) -> None:
    """Measure, and print a table of medians; rates in MiB/s for large uploads."""
    figures: dict[str, list[Figure]] = {name: [] for name, _ in contenders}
    skipped = {}
    for _ in range(rounds):
        for name, run in contenders:
            if name in skipped:
                continue
            try:
                figures[name].append(run())
            except UnavailableError as error:
                skipped[name] = str(error)
    print(f"\n{title}\n\n| | rate | of the first | CPU s |\n| --- | ---: | ---: | ---: |")
    first = None
    for name, found in figures.items():
        if name in skipped or not found:
            print(f"| {name} | {skipped.get(name, 'not measured')} | | |")
            continue
        rate = statistics.median(figure.rate for figure in found)
        cpu = statistics.median(figure.cpu for figure in found)
        first = first or rate
        shown = f"{rate / MIB:.0f} MiB/s" if rate > MIB else f"{rate:.0f}/s"
        print(f"| {name} | {shown} | {rate / first:.2f} | {cpu:.2f} |", flush=True)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=512, help="MiB of a large upload")
    parser.add_argument("--count", type=int, default=3000, help="number of small uploads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="object-store-") as folder:
        work = Path(folder)
        with SeaweedFS(work / "engine") as engine:
            bench = Bench(work, engine, arguments.large * MIB, arguments.count)
            rounds = arguments.rounds
            table("4 KiB, 64 at a time", [*small(bench)], rounds)
            table(f"One stream of {arguments.large} MiB", [*large(bench)], rounds)
            table("Acknowledged by --forward: 4 KiB, 64 at a time", [*forward(bench)], rounds)
            print(f"\nMemory of each large upload: {memory(bench) / MIB:.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
