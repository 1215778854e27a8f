"""Uploads by HTTP: large ones, small ones, and by tus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..bench import Bench
from ..peers import HTTP, TUS, By, Nginx, OursHTTP, Peer
from ..settings import KIB, MIB
from .large import beside_dd
from .uploads import upload_large, upload_small

SENDFILE = "-sendfile"
"""Suffix of a contender whose sender is the C program; without it, it is curl."""


def ours(bench: Bench, protocol: str, *, fsync: bool = False) -> OursHTTP:
    """Return our daemon with the HTTP front end, and the options of the command line."""
    return OursHTTP(protocol, fsync=fsync, more=bench.settings.daemon_options)


def _both(peer: Peer) -> list[Peer]:
    return [By(peer, "curl"), By(peer, "keep-alive", suffix=SENDFILE)]


def http_large(bench: Bench) -> None:
    """One large PUT from the page cache to ext4 by curl, no fsync; and by a sendfile sender."""
    others = [By(peer, "curl") for peer in HTTP if peer.name != "nginx"]
    peers = [bench.ours(), *_both(ours(bench, "put")), *_both(Nginx()), *others]
    _large(bench, "http-large", peers)


def tus_large(bench: Bench) -> None:
    """The same as one PATCH."""
    others = [By(peer, "curl") for peer in TUS]
    _large(bench, "tus-large", [bench.ours(), *_both(ours(bench, "tus")), *others])


def tus_chunks(bench: Bench) -> None:
    """The same in PATCHes of 1 MiB, one after the other over one connection."""
    daemons: list[Peer] = [ours(bench, "tus"), ours(bench, "tus", fsync=True)]
    chunk = bench.settings.tus_chunk
    peers = [
        # These need up to a minute for each GiB.
        By(
            peer,
            "keep-alive",
            chunk=chunk,
            share=0.25 if peer.name in {"tuspyserver", "resumable-upload"} else 1.0,
        )
        for peer in [*daemons, *TUS]
    ]
    _large(bench, "tus-chunks", peers)


def _large(bench: Bench, case: str, peers: Sequence[Peer]) -> None:
    size = bench.settings.http_size
    with bench.storage.ext4(case, size) as place:

        def once(peer: Peer, number: int) -> None:
            values = upload_large(bench, peer, place, size=size)
            bench.results.add(case, peer.name, peer.label, number, values)

        bench.interleave(case, peers, once)


def http_large_fsync(bench: Bench) -> None:
    """One large PUT that is synced before the response, and dd with fsync to the same disk."""
    peers = _both(ours(bench, "put", fsync=True))
    beside_dd(bench, "http-large-fsync", bench.settings.http_size, *peers)


def _small(bench: Bench, case: str, place: Path) -> Callable[[Peer, int], None]:
    def once(peer: Peer, number: int) -> None:
        settings = bench.settings
        values = upload_small(
            bench, peer, place, settings.http_count, parallel=settings.http_parallel
        )
        bench.results.add(case, peer.name, peer.label, number, values)

    return once


def http_small(bench: Bench) -> None:
    """Small PUTs over connections that stay open, to tmpfs; and our raw ones, one by one."""
    settings = bench.settings
    others = [By(peer, "keep-alive") for peer in HTTP if peer.protocol == "put"]
    peers = [bench.ours(), By(ours(bench, "put"), "keep-alive"), *others]
    size = 2 * settings.http_count * settings.small_size + 256 * MIB
    with bench.storage.tmpfs("http-small", size) as place:
        bench.interleave("http-small", peers, _small(bench, "http-small", place))


def http_small_durable(bench: Bench) -> None:
    """The same with fsync, to a journalled ext4."""
    settings = bench.settings
    peers = [bench.ours(fsync=True), By(ours(bench, "put", fsync=True), "keep-alive")]
    volume = settings.http_count * (settings.small_size + KIB)
    with bench.storage.journalled("http-small-durable", 4 * volume + 512 * MIB) as place:
        bench.interleave("http-small-durable", peers, _small(bench, "http-small-durable", place))
