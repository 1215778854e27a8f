"""One round of uploads to one receiver, large or small: the building block of most cases."""

from __future__ import annotations

import mmap
import subprocess
from pathlib import Path

from ..bench import Bench
from ..build import command
from ..content import inspect
from ..errors import UnavailableError
from ..figures import Values
from ..load import send
from ..peers import Peer
from ..settings import GIB, MIB
from ..storage import clean, memory


def settle(bench: Bench, place: Path, volume: int) -> None:
    """
    Do beforehand what no contender should be charged for: sync files, allocate memory.

    The host of a virtual machine takes back memory that has been free for seconds.  The
    first process to use it waits until it is back: the C receivers then need 0.9 CPU
    seconds per GiB instead of 0.3.  Without this, that cost would fall on the contender
    that follows a slow start.

    `place`: the file system to sync.  `volume`: bytes that are about to be written.  A
    quick run skips this, because its figures mean nothing.
    """
    if bench.settings.quick:
        return
    subprocess.run([command("sync"), "-f", str(place)], check=False)
    size = min(2 * volume + 256 * MIB, memory("MemAvailable") // 2)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size, flags=flags).close()


def upload_large(
    bench: Bench, peer: Peer, place: Path, streams: int = 1, size: int | None = None
) -> Values:
    """
    Send `streams` large uploads at once to a new receiver, from the page cache.

    Together they have `size` bytes (the large size of the settings), or the share of it
    that a very slow peer gets.
    """
    size = int((size or bench.settings.large_size) * (0.25 if peer.share < 1 else 1)) // streams
    with bench.receiver(peer, place) as (receiver, inbox):
        warm = bench.job(peer, receiver.port, 1, min(size, 64 * MIB), source=True)
        send(bench.tools, warm)
        clean(inbox)
        settle(bench, place, streams * size)
        before = receiver.cpu()
        job = bench.job(peer, receiver.port, streams, size, streams, source=True)
        sent = send(bench.tools, job)
        cpu, memory = receiver.cpu() - before, receiver.peak_memory()
        kept = inspect(inbox, size, bench.source)
        lost = kept.lost(set(sent.acknowledged))
        if not sent.acknowledged:
            raise UnavailableError(f"acknowledged nothing; its last words: {receiver.last_words()}")
    volume = len(sent.acknowledged) * size / GIB
    return {
        "gib_per_s": volume / sent.wall,
        "cpu_s_per_gib": cpu / volume,
        "memory_mib": memory / MIB,
        "gib": volume,
        "lost": lost,
        "failed": sent.failed,
        "broken": kept.broken,
        "sender_cpu_share": sent.cpu_share,
    }


def upload_small(
    bench: Bench,
    peer: Peer,
    place: Path,
    count: int,
    habit: str = "ready",
    size: int | None = None,
    parallel: int | None = None,
) -> Values:
    """
    Send `count` small uploads to a new receiver.

    `habit`: of the sender; see `c/load.c`.  `size` (bytes of each) and `parallel` (how
    many at a time) default to the settings for small uploads.
    """
    size = size or bench.settings.small_size
    parallel = peer.parallel or parallel or bench.settings.parallel
    count = max(int(count * peer.share), parallel)
    with bench.receiver(peer, place) as (receiver, inbox):
        send(
            bench.tools, bench.job(peer, receiver.port, max(parallel, count // 10), size, parallel)
        )
        clean(inbox)
        settle(bench, place, count * size)
        before = receiver.cpu()
        sent = send(bench.tools, bench.job(peer, receiver.port, count, size, parallel, habit=habit))
        cpu, memory = receiver.cpu() - before, receiver.peak_memory()
        kept = inspect(inbox, size)
        if not sent.acknowledged:
            raise UnavailableError(f"acknowledged nothing; its last words: {receiver.last_words()}")
    done = len(sent.acknowledged)
    return {
        "uploads_per_s": done / sent.wall,
        "cpu_us_per_upload": cpu / done * 1e6,
        "p50_ms": sent.p50 * 1e3,
        "p99_ms": sent.p99 * 1e3,
        "memory_mib": memory / MIB,
        "uploads": done,
        "lost": kept.lost(set(sent.acknowledged)),
        "failed": sent.failed,
        "broken": kept.broken,
        "sender_cpu_share": sent.cpu_share,
    }
