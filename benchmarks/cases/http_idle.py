"""Connections of HTTP that stay open without a request, and the memory that a body needs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from ..bench import Bench
from ..content import inspect
from ..errors import UnavailableError
from ..figures import Values
from ..load import send
from ..peers import By, Nginx, OursHTTP, Peer
from ..settings import KIB, MIB
from ..storage import clean
from .http import ours

REQUEST = "PUT /idle.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n0123456789abcdef"
"""What each connection has sent before it is idle."""

FIRST_BODY = 16 * MIB
"""Bytes of the body with which a large one is compared."""


def http_idle(bench: Bench) -> None:
    """Memory per connection, each idle after one small PUT."""
    count = bench.settings.connections
    with bench.storage.tmpfs("http-idle", count * 16 * KIB + 256 * MIB) as place:

        def once(peer: Peer, number: int) -> None:
            values = _idle(bench, peer, place, count)
            bench.results.add("http-idle", peer.name, peer.label, number, values)

        # The automatic limit would leave file descriptors for uploads by tus, which take two.
        more = (f"--max-connections={count + 100}", *bench.settings.daemon_options)
        daemon = OursHTTP("put", more=more)
        peers = [By(Nginx(), "keep-alive"), By(daemon, "keep-alive")]
        bench.interleave("http-idle", peers, once)


def _idle(bench: Bench, peer: Peer, place: Path, count: int) -> Values:
    settings = bench.settings
    with bench.receiver(peer, place) as (receiver, inbox):
        send(bench.tools, bench.job(peer, receiver.port, 1_000, settings.small_size, 8))
        clean(inbox)
        before = receiver.memory()
        line = [bench.tools.program("hold"), str(receiver.port), str(count), "60", REQUEST]
        began = time.perf_counter()
        with subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as idle:
            assert idle.stdout is not None
            if not idle.stdout.readline().startswith("connected"):
                raise UnavailableError(f"not all got a response: {receiver.last_words()}")
            took = time.perf_counter() - began
            grown = receiver.memory() - before
            alive, _ = idle.communicate("")
    return {
        "connect_s": took,
        "kib_per_connection": grown / KIB / count,
        "dropped": count - int(alive.split()[1]),
    }


def http_bodies(bench: Bench) -> None:
    """By how much memory grows from a body of 16 MiB to a large one, however it is sent."""
    size = bench.settings.http_size
    with bench.storage.ext4("http-bodies", size) as place:

        def once(peer: Peer, number: int) -> None:
            values = _bodies(bench, peer, place, size)
            bench.results.add("http-bodies", peer.name, peer.label, number, values)

        kinds = ("put", "chunked", "form", "tus")
        bench.interleave("http-bodies", [By(ours(bench, kind), "curl") for kind in kinds], once)


def _bodies(bench: Bench, peer: Peer, place: Path, size: int) -> Values:
    peaks = []
    with bench.receiver(peer, place) as (receiver, inbox):
        for length in (FIRST_BODY, size):
            sent = send(bench.tools, bench.job(peer, receiver.port, 1, length, source=True))
            if not sent.acknowledged:
                raise UnavailableError(f"acknowledged nothing: {receiver.last_words()}")
            lost = inspect(inbox, length, bench.source).lost(set(sent.acknowledged))
            clean(inbox)
            peaks.append(receiver.peak_memory())
    return {
        "memory_mib": peaks[1] / MIB,
        "growth_mib": (peaks[1] - peaks[0]) / MIB,
        "lost": lost,
        "failed": sent.failed,
    }
