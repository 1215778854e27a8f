"""
Helpers for tests of the gate: accepted senders, and the counts.
"""

from __future__ import annotations

import socket

from tests.support.frontends import OpenFrontend
from tests.support.senders import STORED, read_all, refusal_code
from tests.support.waiting import in_thread, until
from twisted_upload.net.networks import Rules, parse_network

__all__ = ["connect_senders", "counted", "counts", "outcome_of", "receive", "rules_of"]


async def receive(peer: socket.socket) -> bytes:
    """Return everything that a sender receives until the connection ends."""
    return await in_thread(read_all, peer)


async def outcome_of(peer: socket.socket) -> str:
    """Return ``stored``, or the code of the refusal."""
    answer = await receive(peer)
    return "stored" if answer == STORED else refusal_code(answer)


def rules_of(allow: str = "", deny: str = "") -> Rules:
    """Return rules for networks that are separated by spaces."""
    return Rules(map(parse_network, allow.split()), map(parse_network, deny.split()))


async def connect_senders(frontend: OpenFrontend, number: int) -> list[socket.socket]:
    """Connect this many senders, which are accepted and send nothing."""
    before = len(frontend.senders)
    peers = [frontend.connect() for _ in range(number)]
    await until(lambda: len(frontend.senders) == before + number)
    return peers


def counts(frontend: OpenFrontend) -> dict[str, int]:
    """Return the number of rejected connections, by the code that was sent."""
    return dict(frontend.factory.refusals.total)


def counted(frontend: OpenFrontend, expected: dict[str, int]) -> bool:
    """Return whether exactly these have been counted."""
    return counts(frontend) == expected
