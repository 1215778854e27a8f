"""
Helpers for tests of uploads whose socket is read by the store.
"""

from __future__ import annotations

from tests.support.frontends import OpenFrontend
from tests.support.stores import Rig
from tests.support.waiting import until

__all__ = ["until_lent"]


async def until_lent(frontend: OpenFrontend, rig: Rig) -> None:
    """Wait until the store has the socket of the only upload, and do not let it proceed."""

    def lent() -> bool:
        if any(sender._splicing for sender in frontend.senders):
            return True
        rig.disk.work(1)
        return False

    await until(lent)
