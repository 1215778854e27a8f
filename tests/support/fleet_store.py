"""
The object store of a fleet: SeaweedFS, behind a proxy that can fail.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.engines.seaweedfs import SeaweedFS
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.faults import FAULTS, refused

__all__ = ["FleetStore"]


class FleetStore:
    """
    An object store on the network of a fleet, in a ``with`` block.

    :param address: of this process, where the nodes reach it.
    :ivar environment: what daemons need to find it.
    :ivar url: where the files go.
    """

    def __init__(self, work: Path, address: str) -> None:
        self._server = SeaweedFS(work / "weed")
        self._address = address
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        engine = self._stack.enter_context(self._server).engine
        self._proxy = self._stack.enter_context(FaultProxy(engine.port, self._address))
        self._place = engine.place()
        self.url = self._place.url
        self.environment = engine.environment(self._proxy.endpoint)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Yield the key and the content of each object."""
        for key in self._place.witness.objects(self._place.prefix):
            yield key, self._place.witness.get(key)

    def remove_one(self) -> None:
        """Lose an object."""
        self._place.witness.remove(next(iter(self._place.witness.objects(self._place.prefix))))

    def pending(self) -> int:
        """Return the number of pending multipart uploads."""
        return len(self._place.witness.pending(self._place.prefix))

    def dies(self, seconds: float) -> None:
        """Kill it, and start it again."""
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def stalls(self, seconds: float) -> None:
        """Let it answer nothing for a while."""
        self._server.pause()
        time.sleep(seconds)
        self._server.resume()

    def throttles(self, seconds: float) -> None:
        """Answer everything with 503 SlowDown for a while."""
        with self._proxy.failing(Rule("", refused(503, "SlowDown"), times=math.inf)):
            time.sleep(seconds)

    def loses_answers(self, seconds: float) -> None:
        """Carry out a PUT each 0.2 s, and reset its connection instead of answering."""
        lost = FAULTS["reset-after"]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._proxy.failing(Rule("put", lost), Rule("complete", lost)):
                time.sleep(0.2)
