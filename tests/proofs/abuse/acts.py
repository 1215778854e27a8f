"""
The acts of honest senders, and of those that abuse the daemon.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable

from tests.proofs.abuse.crowd import Crowd
from tests.proofs.abuse.peers import PATIENCE, READ, Act, Peer, Wait, outcome
from tests.proofs.load import Contents

__all__ = ["ABUSERS", "CONTENTS", "addresses", "repeated"]

ABUSERS = 1 << 24
"""Uploads with this number or a higher one are not from honest senders."""

LARGE = bytes(1 << 20)


def addresses(count: int) -> list[str]:
    """Return addresses of this machine, other than those of the honest senders."""
    return [f"127.66.{number // 250}.{1 + number % 250}" for number in range(count)]


class Exactly(Contents):
    """Uploads that all have the same size."""

    def __init__(self, size: int) -> None:
        super().__init__([size])
        self._size = size

    def size(self, number: int) -> int:
        """Return that size."""
        return self._size


CONTENTS = Exactly(4096)
"""Every upload that is stored here is 4 KiB, from whichever sender."""


def honest(pause: float, header: bytes = b"") -> Callable[[Crowd, Peer, int], Act]:
    """Upload again and again; each file is behind a header."""

    def upload(peer: Peer, number: int) -> Act:
        yield from peer.send(header + CONTENTS[number])
        peer.half_close()
        return outcome((yield from peer.hear()))

    return repeated(upload, pause)


def repeated(send: Callable[[Peer, int], Act], pause: float) -> Callable[[Crowd, Peer, int], Act]:
    """
    Upload, read the answer, pause, and repeat; in the phase ``rest`` only pause.

    :param send: sends the upload with a number on a connected peer, and returns the outcome.
    """

    def act(crowd: Crowd, peer: Peer, number: int) -> Act:
        report = crowd.report
        for turn in itertools.count():
            upload = number + turn * crowd.task.count
            phase, began = crowd.phase, time.monotonic()
            if phase != "rest":
                try:
                    yield from peer.connect(crowd.address, crowd.source(number))
                    how = yield from send(peer, upload)
                except TimeoutError:
                    how = "no answer"
                except OSError as error:
                    how = f"broken: {error.strerror}"
                if how == "stored":
                    report.promised.append(upload)
                    report.times[phase].append(time.monotonic() - began)
                report.ends[phase][how] += 1
                peer.renew()
            yield Wait(0, pause)
        raise AssertionError

    return act


def slow(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send one byte a second."""
    yield from peer.connect(crowd.address, crowd.source(number))
    while True:
        yield from peer.send(b"s")
        if (yield Wait(READ, 1.0)):
            return outcome((yield from peer.hear()))


def idle(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Connect, and send nothing."""
    yield from peer.connect(crowd.address, crowd.source(number))
    return outcome((yield from peer.hear()))


def stay(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Connect, read the answer, and stay connected."""
    yield from peer.connect(crowd.address, crowd.source(number))
    how = outcome((yield from peer.hear()))
    yield Wait(0, 2.5)
    return how


def storm(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Connect, and close or reset."""
    yield from peer.connect(crowd.address, crowd.source(number))
    if number % 2:
        peer.close()
        return "closed"
    return "reset"


def deaf(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a file, a file that is too large, or part of a file, and never read."""
    yield from peer.connect(crowd.address, crowd.source(number), 2048)
    kind = ("half-closed", "too large", "unfinished")[number % 3]
    if kind == "half-closed":
        yield from peer.send(CONTENTS[number])
        peer.half_close()
    elif kind == "unfinished":
        yield from peer.send(CONTENTS[number][:1000])
    else:
        with contextlib.suppress(OSError):
            for _ in range(3):
                yield from peer.send(LARGE)
    yield Wait(0, 10.0)
    return kind


MOMENTS = (
    "connected",
    "first byte",
    "in a small file",
    "in a large file",
    "half-closed",
    "file sent in two",
    "refused",
    "rejected",
)


def resets(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Reset in each state that an upload can be in."""
    moment = MOMENTS[number % len(MOMENTS)]
    chance = random.Random(number)
    source = "127.99.0.1" if moment == "rejected" else crowd.source(number)
    yield from peer.connect(crowd.address, source)
    if moment == "first byte":
        yield from peer.send(b"f")
    elif moment == "in a small file":
        yield from peer.send(CONTENTS[number][:2000])
    elif moment == "in a large file":
        yield from peer.send(LARGE[: chance.randint(300_000, 900_000)])
    elif moment == "half-closed":
        yield from peer.send(CONTENTS[number])
        peer.half_close()
    elif moment == "file sent in two":
        yield from peer.send(CONTENTS[number][:2000])
        yield Wait(0, chance.random() / 50)
        yield from peer.send(CONTENTS[number][2000:])
        peer.half_close()
    elif moment == "refused":
        yield from peer.send(LARGE + b"more")
        yield Wait(READ)
    if chance.random() < 0.7:
        yield Wait(0, chance.random() / 50)
    return moment


def endless(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a file that is larger than the disk."""
    yield from peer.connect(crowd.address, crowd.source(number))
    for _ in range(512):
        yield from peer.send(LARGE)
        if (yield Wait(READ, 0.0)):
            break
    peer.half_close()
    return outcome((yield from peer.hear()))


def half_open(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Reach each state in which the daemon waits for the sender, and send nothing more."""
    yield from peer.connect(crowd.address, None)
    size = (0, 1000, 700_000)[number % 3]
    yield from peer.send(LARGE[:size])
    return outcome((yield from peer.hear(3600)))


BLOCK = b"\r\n\r\n\0\r\nQUIT\n\x21\x11"

HEADERS: dict[str, Callable[[random.Random], bytes]] = {
    "garbage": lambda chance: chance.randbytes(chance.randint(1, 300)),
    "long line": lambda chance: b"PROXY TCP4 " + b"1" * chance.randint(97, 5000),
    "long block": lambda chance: BLOCK + b"\xff\xff" + bytes(5000),
    "false address": lambda chance: b"PROXY TCP4 %d.1.1.1 x 1 2\r\n" % chance.randrange(999),
    "slow": lambda chance: b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 6666\r",
    "begun": lambda chance: BLOCK + b"\x0f\xf0" + bytes(chance.randrange(4000)),
    "none": lambda chance: b"",
}


def balancer(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send the headers of a broken load balancer."""
    chance = random.Random(number)
    kind = [*HEADERS][number % len(HEADERS)]
    header = HEADERS[kind](chance)
    yield from peer.connect(crowd.address, crowd.source(number))
    if kind == "slow":
        for at in range(len(header)):
            yield from peer.send(header[at : at + 1])
            if (yield Wait(READ, 0.5)):
                break
    else:
        yield from peer.send(header)
    return f"{kind}: {outcome((yield from peer.hear()))}"


def begun(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send enough to have a file created, and then wait."""
    yield from peer.connect(crowd.address, crowd.source(number))
    yield from peer.send(LARGE[:600_000], 5.0)
    return outcome((yield from peer.hear(PATIENCE)))
