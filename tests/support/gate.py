"""
What tests of the gate need: senders that are let in, and what is counted.
"""

from __future__ import annotations

import socket

from tests.support.frontends import OpenFrontend
from tests.support.senders import STORED, read_all, refusal_code
from tests.support.waiting import in_thread, until
from twisted_upload.net.networks import Rules, parse_network

__all__ = ["counted", "counts", "hear", "hear_outcome", "let_in", "rules_of"]


async def hear(peer: socket.socket) -> bytes:
    """All that a sender hears until the connection ends."""
    return await in_thread(read_all, peer)


async def hear_outcome(peer: socket.socket) -> str:
    """``kept``, or the code of the refusal."""
    answer = await hear(peer)
    return "stored" if answer == STORED else refusal_code(answer)


def rules_of(allow: str = "", deny: str = "") -> Rules:
    """Rules of networks that are separated by spaces."""
    return Rules(map(parse_network, allow.split()), map(parse_network, deny.split()))


async def let_in(frontend: OpenFrontend, number: int) -> list[socket.socket]:
    """So many senders that are let in and say nothing."""
    before = len(frontend.senders)
    peers = [frontend.connect() for _ in range(number)]
    await until(lambda: len(frontend.senders) == before + number)
    return peers


def counts(frontend: OpenFrontend) -> dict[str, int]:
    """The rejected, by the code that they heard."""
    return dict(frontend.factory.refusals.total)


def counted(frontend: OpenFrontend, expected: dict[str, int]) -> bool:
    """Whether just these have been counted."""
    return counts(frontend) == expected
