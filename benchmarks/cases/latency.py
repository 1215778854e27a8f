"""The latency of small uploads while large ones keep the receiver busy."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..bench import Bench
from ..content import inspect
from ..errors import UnavailableError
from ..figures import Values
from ..load import Sent, command, send
from ..peers import DurableFloor, Peer
from ..process import Receiver
from ..settings import GIB, MIB
from ..storage import clean

SLOW_SIZE = 8 * MIB + 16
"""Bytes of the upload whose fsync is slow."""
FILL_SIZE = 256 * MIB
"""Bytes of each of the consecutive uploads that keep the receiver busy."""


def latency(bench: Bench) -> None:
    """Small uploads one at a time: receiver idle, then with a stream and one in a slow fsync."""
    with bench.storage.tmpfs("latency", GIB if bench.settings.quick else 3 * GIB) as place:
        _latency(bench, "latency", place, bench.settings.latency_count)


def latency_ext4(bench: Bench) -> None:
    """The same on a journalled ext4, where the large uploads keep the disk busy as well."""
    with bench.storage.journalled(
        "latency-ext4", (1 if bench.settings.quick else 6) * GIB
    ) as place:
        # Each takes ten times as long there, so what is only for the record is repeated less.
        _latency(bench, "latency-ext4", place, bench.settings.latency_count // 3)


def _latency(bench: Bench, case: str, place: Path, busy_count: int) -> None:
    slow = SLOW_SIZE, 8.0 if bench.settings.quick else 600.0

    def once(peer: Peer, number: int) -> None:
        with bench.receiver(peer, place) as (receiver, inbox):
            _small(bench, peer, receiver, 50)
            clean(inbox)
            idle = _small(bench, peer, receiver, bench.settings.latency_count)
            kept = inspect(inbox, bench.settings.small_size)
            _add(bench, case, peer, number, "idle", "idle", idle, kept.lost(set(idle.acknowledged)))
            clean(inbox)
            with (
                _waiting(bench, peer, receiver),
                _full_speed(bench, peer, receiver, inbox) as stream,
            ):
                began, before = time.perf_counter(), stream.sent()
                busy = _small(bench, peer, receiver, busy_count)
                speed = (stream.sent() - before) / GIB / (time.perf_counter() - began)
            # A graceful stop would wait for the slow one; what was acknowledged is stored.
            receiver.kill()
            lost = inspect(inbox, bench.settings.small_size).lost(set(busy.acknowledged))
        label = "one at full speed, one in fsync"
        _add(bench, case, peer, number, "busy", label, busy, lost, stream_gib_per_s=speed)

    bench.interleave(case, [DurableFloor(slow=slow), bench.ours(fsync=True, slow=slow)], once)


def _add(
    bench: Bench, case: str, peer: Peer, number: int, name: str, label: str, sent: Sent, lost: int,
    **more: float,
) -> None:  # fmt: skip
    values = {**_figures(sent), **more, "lost": lost}
    bench.results.add(case, f"{peer.name}-{name}", f"{peer.label}: {label}", number, values)


def _small(bench: Bench, peer: Peer, receiver: Receiver, count: int) -> Sent:
    return send(bench.tools, bench.job(peer, receiver.port, count, bench.settings.small_size))


def _figures(sent: Sent) -> Values:
    return {
        "p50_ms": sent.p50 * 1e3,
        "p90_ms": sent.p90 * 1e3,
        "p99_ms": sent.p99 * 1e3,
        "worst_ms": sent.worst * 1e3,
        "failed": sent.failed,
    }


@contextmanager
def _waiting(bench: Bench, peer: Peer, receiver: Receiver) -> Iterator[None]:
    """Run an upload that waits in fsync during the whole block; else the block proves nothing."""
    job = bench.job(peer, receiver.port, 1, SLOW_SIZE, source=True)
    line = [*command(bench.tools, job), "--timeout", "600"]
    sender = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield
        if sender.poll() is not None:
            raise UnavailableError("the slow fsync was over before the small uploads were")
    finally:
        sender.kill()
        sender.wait()


@dataclass(frozen=True)
class Stream:
    """The sender of the large uploads."""

    pid: int

    def sent(self) -> int:
        """Return the bytes sent so far, as the kernel counts them."""
        for line in Path(f"/proc/{self.pid}/io").read_text().splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
        return 0


@contextmanager
def _full_speed(bench: Bench, peer: Peer, receiver: Receiver, inbox: Path) -> Iterator[Stream]:
    """Run large uploads back to back, at full speed; remove what they store at once."""
    job = bench.job(
        peer, receiver.port, 100_000, min(FILL_SIZE, bench.settings.large_size), source=True
    )
    sender = subprocess.Popen(command(bench.tools, job), stdout=subprocess.DEVNULL)
    done = threading.Event()

    def remove() -> None:
        seen: set[str] = set()
        while not done.wait(0.05):
            with os.scandir(inbox) as entries:
                for entry in entries:
                    if entry.name in seen or entry.name.startswith("."):
                        continue
                    seen.add(entry.name)
                    if entry.stat().st_size == job.size:
                        os.unlink(entry.path)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        time.sleep(0.3)
        yield Stream(sender.pid)
        if sender.poll() is not None:
            raise UnavailableError("the large uploads were over before the small ones were")
    finally:
        sender.kill()
        sender.wait()
        done.set()
        remover.join()
