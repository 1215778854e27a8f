"""Small uploads: in memory, on a synced disk, with several workers; and medium ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from ..bench import Bench
from ..build import run
from ..peers import FLOORS, OTHERS, Before, DurableFloor, Everything, Peer, Silent
from ..peers.base import script
from ..settings import MIB
from .uploads import settle, upload_small


def small(bench: Bench) -> None:
    """Many small uploads to tmpfs without fsync; ours with three kinds of logging."""
    more = bench.settings.daemon_options
    telling = [Silent(more=more), Everything(more=more)]
    _in_memory(bench, "small", [*_everybody(bench), *telling])


def small_single(bench: Bench) -> None:
    """The same from a sender that does one thing at a time."""
    _in_memory(bench, "small-single", _everybody_but_quickly(bench), habit="single")


def small_slow(bench: Bench) -> None:
    """The same from a sender that pauses between connecting, sending and half-closing."""
    _in_memory(bench, "small-slow", _everybody_but_quickly(bench), habit="slow")


def _everybody(bench: Bench) -> list[Peer]:
    return [*(peer for peer in (*FLOORS, *OTHERS) if "small" in peer.kinds), bench.ours()]


def _everybody_but_quickly(bench: Bench) -> list[Peer]:
    # A quick run has already checked in `small` that the others work.
    quick = bench.settings.quick
    return [it for it in _everybody(bench) if not quick or it.name in {"ours", "floor-loop"}]


def medium(bench: Bench) -> None:
    """Uploads of 100 KB to tmpfs, 16 at a time; ours, an earlier version of it, the floor."""
    settings = bench.settings
    peers = [*(peer for peer in FLOORS if "medium" in peer.kinds), bench.ours()]
    if settings.before is not None:
        peers.append(Before(settings.before, more=settings.daemon_options))
    size, count = settings.medium_size, settings.medium_count
    with bench.storage.tmpfs("medium", 2 * count * size + 256 * MIB) as place:

        def once(peer: Peer, number: int) -> None:
            values = upload_small(
                bench, peer, place, count, size=size, parallel=settings.medium_parallel
            )
            bench.results.add("medium", peer.name, peer.label, number, values)

        bench.interleave("medium", peers, once)


def workers(bench: Bench) -> None:
    """The small uploads again, with one worker and with two, the sender on the same two cores."""
    with two_cores():
        _in_memory(bench, "workers", [bench.ours(), bench.ours(workers=2)])


@contextmanager
def two_cores() -> Iterator[None]:
    """Limit everything that is started in the block to two cores, however many there are."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def _in_memory(bench: Bench, case: str, peers: list[Peer], habit: str = "ready") -> None:
    settings = bench.settings
    with bench.storage.tmpfs(
        case, 2 * settings.small_count * settings.small_size + 256 * MIB
    ) as place:

        def once(peer: Peer, number: int) -> None:
            values = upload_small(bench, peer, place, settings.small_count, habit)
            bench.results.add(case, peer.name, peer.label, number, values)

        bench.interleave(case, peers, once)


def small_durable(bench: Bench) -> None:
    """Small uploads to a journalled ext4: synced, not synced, and in the plain order."""
    settings = bench.settings
    volume = settings.durable_count * (settings.small_size + 1024)
    with bench.storage.journalled("small-durable", 4 * volume + 512 * MIB) as place:

        def once(peer: Peer, number: int) -> None:
            if peer.name != "sequence":
                values = upload_small(bench, peer, place, settings.durable_count)
            else:
                inbox = place / peer.name
                inbox.mkdir()
                settle(bench, place, settings.plain_order_count * settings.small_size)
                line = [
                    *script("plain_order"),
                    str(inbox),
                    str(settings.plain_order_count),
                    str(settings.small_size),
                ]
                seen = json.loads(run(line))
                shutil.rmtree(inbox)
                values = {
                    "uploads_per_s": seen["files"] / seen["wall"],
                    "cpu_us_per_upload": seen["cpu"] / seen["files"] * 1e6,
                }
            bench.results.add("small-durable", peer.name, peer.label, number, values)

        ours = [bench.ours(fsync=True), bench.ours()]
        bench.interleave("small-durable", [PlainOrder(), DurableFloor(), *ours], once)


class PlainOrder(Peer):
    """No receiver: files are written, synced, published and synced, one after the other."""

    name = "sequence"
    label = "plain order, one after another"
