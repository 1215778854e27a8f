"""
What tests of uploads need whose socket the store takes from.
"""

from __future__ import annotations

from tests.support.frontends import OpenFrontend
from tests.support.stores import Rig
from tests.support.waiting import until

__all__ = ["until_lent"]


async def until_lent(frontend: OpenFrontend, rig: Rig) -> None:
    """Wait until the store has the socket of the one upload, and do not let it go on."""

    def lent() -> bool:
        if any(sender._splicing for sender in frontend.senders):
            return True
        rig.disk.work(1)
        return False

    await until(lent)
