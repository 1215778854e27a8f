"""
All planted bugs.
"""

from __future__ import annotations

from tests.simulation.planted import connections, found, partials, queues, write_path
from tests.simulation.planted.bug import Bug

__all__ = ["CATALOGUE"]

CATALOGUE: dict[str, Bug] = {
    bug.name: bug
    for bug in (*write_path.BUGS, *partials.BUGS, *connections.BUGS, *queues.BUGS, *found.BUGS)
}
"""By name."""
