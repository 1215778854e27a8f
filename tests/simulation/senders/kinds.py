"""
All kinds of senders, by their names in plans.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.senders.client import CLIENTS
from tests.simulation.senders.hostile import HOSTILE
from tests.simulation.senders.http import HTTP
from tests.simulation.senders.http_unfinished import UNFINISHED
from tests.simulation.senders.raw import RAW
from tests.simulation.senders.sender import Sender
from tests.simulation.senders.tus import TUS
from tests.simulation.senders.watch import WATCH

__all__ = ["KINDS"]

KINDS: Mapping[str, type[Sender]] = {
    kind.kind: kind for kind in (*RAW, *HTTP, *UNFINISHED, *TUS, *HOSTILE, *CLIENTS, *WATCH)
}
