"""How long a small upload takes while large ones keep the daemon busy."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..bench import Bench
from ..content import inspect
from ..errors import UnavailableError
from ..figures import Values
from ..load import Sent, command, send
from ..peers import Peer
from ..process import Receiver
from ..settings import GIB, MIB

SLOW_SIZE = 8 * MIB + 16
"""Bytes of the upload whose fsync is slow."""
FILL_SIZE = 256 * MIB
"""Bytes of each of the uploads that keep the daemon busy, one after another."""


def latency(bench: Bench) -> None:
    """Small uploads one at a time: daemon idle, then one at full speed and one in a slow fsync."""
    with bench.storage.tmpfs("latency", GIB if bench.settings.quick else 3 * GIB) as place:
        _latency(bench, "latency", place)


def latency_ext4(bench: Bench) -> None:
    """The same on a journalled ext4, where the large uploads keep the disk busy as well."""
    with bench.storage.journalled(
        "latency-ext4", (1 if bench.settings.quick else 6) * GIB
    ) as place:
        _latency(bench, "latency-ext4", place)


def _latency(bench: Bench, case: str, place: Path) -> None:
    seconds = 8.0 if bench.settings.quick else 600.0
    peer = bench.ours(fsync=True, slow=(SLOW_SIZE, seconds))

    def once(peer: Peer, number: int) -> None:
        with bench.receiver(peer, place) as (receiver, inbox):
            _small(bench, peer, receiver, 50)
            idle = _small(bench, peer, receiver, bench.settings.latency_count)
            with _waiting(bench, peer, receiver), _full_speed(bench, peer, receiver, inbox):
                busy = _small(bench, peer, receiver, bench.settings.latency_count)
            # Drained gently, it would wait for the slow one; what it has acknowledged is there.
            receiver.kill()
            kept = inspect(inbox, bench.settings.small_size)
        for name, label, sent in (
            ("idle", "daemon idle", idle),
            ("busy", "one at full speed, one in fsync", busy),
        ):
            values = {**_figures(sent), "lost": kept.lost(set(sent.acknowledged))}
            bench.results.add(case, f"{peer.name}-{name}", label, number, values)

    bench.interleave(case, [peer], once)


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
    """One upload that waits in fsync for the whole block, or the block proves nothing."""
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


@contextmanager
def _full_speed(bench: Bench, peer: Peer, receiver: Receiver, inbox: Path) -> Iterator[None]:
    """Large uploads without a pause, as fast as they go; what they leave is removed at once."""
    job = bench.job(
        peer, receiver.port, 100_000, min(FILL_SIZE, bench.settings.large_size), source=True
    )
    sender = subprocess.Popen(command(bench.tools, job), stdout=subprocess.DEVNULL)
    done = threading.Event()

    def remove() -> None:
        seen: set[str] = set()
        while not done.wait(0.05):
            for path in inbox.iterdir():
                if path.name in seen or path.name.startswith("."):
                    continue
                seen.add(path.name)
                if path.stat().st_size == job.size:
                    path.unlink()

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        time.sleep(0.3)
        yield
        if sender.poll() is not None:
            raise UnavailableError("the large uploads were over before the small ones were")
    finally:
        sender.kill()
        sender.wait()
        done.set()
        remover.join()
