"""Large uploads: one, four at once, and with fsync."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from ..bench import Bench
from ..build import command
from ..errors import UnavailableError
from ..figures import Values
from ..peers import FLOORS, OTHERS, Peer
from ..settings import GIB
from .uploads import settle, upload_large


def large(bench: Bench) -> None:
    """One large upload from the page cache to ext4, without fsync."""
    _large(bench, "large", 1)


def large4(bench: Bench) -> None:
    """The same volume as four uploads at once."""
    _large(bench, "large4", 4)


def _large(bench: Bench, case: str, streams: int) -> None:
    peers = [peer for peer in (*FLOORS, *OTHERS) if case in peer.kinds]
    with bench.storage.ext4(case, bench.settings.large_size) as place:

        def once(peer: Peer, number: int) -> None:
            values = upload_large(bench, peer, place, streams)
            bench.results.add(case, peer.name, peer.label, number, values)

        bench.interleave(case, [*peers, bench.ours()], once)


def large_fsync(bench: Bench) -> None:
    """One large upload that is synced before the answer, and dd with fsync to the same disk."""
    beside_dd(bench, "large-fsync", bench.settings.large_size, bench.ours(fsync=True))


def beside_dd(bench: Bench, case: str, size: int, *peers: Peer) -> None:
    """Large uploads to a journalled ext4 that are synced before the answer, and dd with fsync."""
    with bench.storage.journalled(case, size + size // 4 + GIB // 4) as place:

        def once(peer: Peer, number: int) -> None:
            values = (
                _dd(bench, place, size)
                if peer.name == "dd"
                else upload_large(bench, peer, place, size=size)
            )
            bench.results.add(case, peer.name, peer.label, number, values)

        bench.interleave(case, [Dd(), *peers], once)


class Dd(Peer):
    """No receiver at all: dd copies the same bytes to the same file system."""

    name = "dd"
    label = "dd conv=fsync"


def _dd(bench: Bench, place: Path, size: int) -> Values:
    # The beginning of the source is copied, and synced.
    target = place / "dd.bin"
    settle(bench, place, size)
    began = time.perf_counter()
    line = [
        *(command("dd"), f"if={bench.source}", f"of={target}", "bs=1M", f"count={size >> 20}"),
        *("conv=fsync", "status=none"),
    ]
    if subprocess.run(line, check=False).returncode:
        raise UnavailableError("dd failed")
    values = {"gib_per_s": size / GIB / (time.perf_counter() - began)}
    target.unlink()
    return values
