"""Small uploads: in memory, on a disk that is synced, with several workers."""

from __future__ import annotations

import json
import shutil

from ..bench import Bench
from ..build import run
from ..peers import FLOORS, OTHERS, Peer
from ..peers.base import script
from ..settings import MIB
from .uploads import settle, upload_small


def small(bench: Bench) -> None:
    """Many small uploads to tmpfs; nobody syncs."""
    _in_memory(bench, "small", _everybody(bench))


def small_single(bench: Bench) -> None:
    """The same from a sender that does one thing at a time."""
    _in_memory(bench, "small-single", _everybody(bench), habit="single")


def small_slow(bench: Bench) -> None:
    """The same from a sender that pauses between connecting, sending and half-closing."""
    _in_memory(bench, "small-slow", _everybody(bench), habit="slow")


def _everybody(bench: Bench) -> list[Peer]:
    return [*(peer for peer in (*FLOORS, *OTHERS) if "small" in peer.kinds), bench.ours()]


def workers(bench: Bench) -> None:
    """The small uploads again, with one worker and with two."""
    _in_memory(bench, "workers", [bench.ours(), bench.ours(workers=2)])


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
                settle(place, settings.plain_order_count * settings.small_size)
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

        bench.interleave(
            "small-durable", [PlainOrder(), bench.ours(fsync=True), bench.ours()], once
        )


class PlainOrder(Peer):
    """No receiver at all: one file after the other is written, synced, published, synced."""

    name = "sequence"
    label = "plain order, one after another"
