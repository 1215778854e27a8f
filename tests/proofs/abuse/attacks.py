"""
Rows about senders that use more than their share: of the disk threads, of the disk, of
CPU time and memory, of the metrics port.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests.proofs.abuse import acts
from tests.proofs.abuse.crowd import Crowd, Task
from tests.proofs.abuse.peers import READ, WRITE, Act, Peer, Wait, outcome
from tests.proofs.abuse.places import small_disk
from tests.proofs.abuse.row import Place, Run, Scale
from tests.support.scraping import Scraper

__all__ = ["half_reserved", "metrics", "reserve", "urgent"]

AT_ONCE = 1.0
"""Seconds within which a health check must be answered."""

RESERVED = 0.5
"""Share of the disk that must stay free."""

SLACK = 0.05
"""Share of the disk by which that may be missed: data that was being written already."""


def marked(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a large file with an urgent mark in it, and then nothing."""
    yield from peer.connect(crowd.address, crowd.source(number))
    yield from peer.send(acts.LARGE[:700_000])
    while True:
        try:
            peer.socket.send(b"!", socket.MSG_OOB)
            break
        except BlockingIOError:
            yield Wait(WRITE)
    with contextlib.suppress(TimeoutError):
        yield from peer.send(acts.LARGE[:400_000], 2.0)
    return outcome((yield from peer.hear()))


def urgent(run: Run) -> None:
    """Run more of them than there are disk threads, all from one address."""
    task = Task(marked, count=40, rate=200, sources=acts.addresses(1))
    run.waves(task, 5, 8, quick=3.5)


@contextlib.contextmanager
def half_reserved(work: Path, scale: Scale) -> Iterator[Place]:
    """
    Provide a small disk, half of which must stay free.

    :raises Skip: mounting is not permitted here.
    """
    with small_disk(work, scale):
        yield Place(options=(f"--reserve={RESERVED:.0%}",))


def hoard(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a file that takes all or nearly all of the space, and then grows slowly."""
    yield from peer.connect(crowd.address, crowd.source(number))
    megabytes = 512 if number % 2 else 22
    for _ in range(megabytes):
        yield from peer.send(acts.LARGE)
        if (yield Wait(READ, 0.0)):
            return outcome((yield from peer.hear()))
    while not (yield Wait(READ, 0.2)):
        yield from peer.send(acts.LARGE[:20_000])
    return outcome((yield from peer.hear()))


def reserve(run: Run) -> None:
    """They reconnect again and again; the reserve stays free, and others can upload."""
    inbox = run.daemon.directory
    free = [1.0]

    def look() -> None:
        seen = os.statvfs(inbox)
        free.append(seen.f_bavail / seen.f_blocks)

    run.watch.also = look
    task = Task(hoard, at_a_time=3, rate=20, sources=acts.addresses(2))
    run.waves(task, 5, 10)
    if not run.did["no-space"]:
        run.wrong.append("nobody has come to the reserve")
    if min(free) < RESERVED - SLACK:
        run.wrong.append(f"only {min(free):.0%} of the disk were left free")
    run.notes.append(f"{min(free):.0%} left free")
    run.honest.say("abuse")
    run.watch.until(lambda: False, 1.5)  # the daemon checks the free space once a second


_LOCAL = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"

REQUESTS = (
    _LOCAL + b"Accept: application/openmetrics-text; version=x\r\n",
    _LOCAL + b"Accept: " + b"text/plain;q=," * 900 + b"\r\n",
    _LOCAL + b"X: \xff\x00\x1b[31m\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


def nosy(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send an invalid request, an unfinished one, or none."""
    yield from peer.connect(crowd.address, None)
    if number % 4 == 0:
        request = REQUESTS[number // 4 % len(REQUESTS)]
        with contextlib.suppress(ConnectionError):
            yield from peer.send(request + b"\r\n", 1.0)
            answer = yield from peer.hear()
            return answer[9:12].decode("ascii", "replace") or "nothing"
        return "reset"
    for piece in (b"GET /metr", b"ics HTTP/1.1\r\n", *[b"X: y\r\n"] * 50):
        if number % 4 == 1:
            break
        yield from peer.send(piece)
        if (yield Wait(READ, 1.0)):
            break
    yield from peer.hear()
    return "cut off by the daemon"


def metrics(run: Run) -> None:
    """They take all connections that the metrics port allows; its health check answers."""
    port = Scraper(run.daemon).address
    took: list[float] = []

    def check() -> None:
        start = time.monotonic()
        connection = http.client.HTTPConnection(*port, timeout=AT_ONCE)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status != 200:
                run.wrong.append("it does not say that it is alive")
            took.append(time.monotonic() - start)
        except (OSError, http.client.HTTPException) as error:
            took.append(float("inf"))
            run.wrong.append(f"no answer to a health check: {error!r}")
        finally:
            connection.close()

    run.watch.also = check
    task = Task(nosy, at_a_time=64, rate=30)
    run.waves(task, 5, 8, address=port)
    run.notes.append(f"/healthz within {1000 * max(took):.0f} ms")
