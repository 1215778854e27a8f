"""Thousands of connected senders that send slowly."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

from ..bench import Bench
from ..content import inspect
from ..errors import UnavailableError
from ..figures import Values
from ..load import send
from ..peers import Peer, PlainTwisted, Textbook
from ..process import Receiver
from ..settings import GIB, KIB, MIB
from ..storage import clean
from .uploads import settle

REPEATS = 3
"""Large uploads with the slow senders connected, and without them; the median is reported."""


def many(bench: Bench) -> None:
    """Memory per connection, time to connect, and what is left for a large upload."""
    size = min(bench.settings.large_size, GIB)
    with bench.storage.tmpfs(
        "many", size + bench.settings.connections * 16 * KIB + 256 * MIB
    ) as place:

        def once(peer: Peer, number: int) -> None:
            bench.results.add(
                "many", peer.name, peer.label, number, _measure(bench, peer, place, size)
            )

        # One thread per connection is slow, too slow for a quick run.
        others = [PlainTwisted()] if bench.settings.quick else [PlainTwisted(), Textbook()]
        bench.interleave("many", [*others, bench.ours()], once)


def _measure(bench: Bench, peer: Peer, place: Path, size: int) -> Values:
    settings = bench.settings
    # Only our daemon is measured with a large upload in parallel, because it takes time.
    takes_uploads = peer.name == "ours"
    with bench.receiver(peer, place) as (receiver, inbox):
        if takes_uploads:
            send(
                bench.tools,
                bench.job(peer, receiver.port, settings.parallel, settings.small_size, 8),
            )
            clean(inbox)
        idle, open_before = receiver.memory(), receiver.descriptors()
        line = [bench.tools.program("hold"), str(receiver.port), str(settings.connections)]
        began = time.perf_counter()
        with subprocess.Popen(
            [*line, str(settings.trickle_interval)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as slow:  # fmt: skip
            assert slow.stdout is not None
            if not slow.stdout.readline().startswith("connected"):
                raise UnavailableError("not all senders could connect")
            accepted = _wait_for_descriptors(receiver, open_before + settings.connections)
            values = {"connect_s": time.perf_counter() - began}
            # Every sender has sent once more before memory is measured.
            time.sleep(min(settings.trickle_interval * 1.2, 15))
            values["kib_per_connection"] = (receiver.memory() - idle) / KIB / settings.connections
            if takes_uploads:
                values["beside_gib_per_s"] = _speed(bench, peer, receiver, inbox, size)
            alive, _ = slow.communicate("")
        still = int(alive.split()[1])
        values["dropped"] = settings.connections - min(still, accepted)
        if takes_uploads:
            time.sleep(1)
            clean(inbox)
            values["alone_gib_per_s"] = _speed(bench, peer, receiver, inbox, size)
    return values


def _wait_for_descriptors(receiver: Receiver, wanted: int, seconds: float = 60) -> int:
    """Wait until the receiver has accepted all senders; return how many it has accepted."""
    end = time.monotonic() + seconds
    while (have := receiver.descriptors()) < wanted and time.monotonic() < end:
        time.sleep(0.005)
    return have


def _speed(bench: Bench, peer: Peer, receiver: Receiver, inbox: Path, size: int) -> float:
    speeds = []
    for _ in range(REPEATS):
        settle(bench, inbox, size)
        sent = send(bench.tools, bench.job(peer, receiver.port, 1, size, source=True))
        if not sent.acknowledged:
            raise UnavailableError("a large upload was not acknowledged")
        # Some receivers also store files of slow senders here: check only the large one.
        if inspect(inbox, size, bench.source).lost(set(sent.acknowledged)):
            raise UnavailableError("a large upload was lost")
        for path in inbox.iterdir():
            if path.is_file() and path.stat().st_size == size:
                path.unlink()
        speeds.append(size / GIB / sent.wall)
    return statistics.median(speeds)
