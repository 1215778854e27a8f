"""
What all tests of the simulated world have in common.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent

NEEDS = 26
"""The first Twisted whose ports and transports make no system call except by their sockets."""


@pytest.fixture(autouse=True)
def the_dead_complain(expected_errors: list[str]) -> None:
    """Allow what Twisted logs when something of a process that was killed is unwound."""
    expected_errors.append("tests.simulation.scheduler.Killed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all of them with a Twisted that is too old to be simulated."""
    if int(version("twisted").partition(".")[0]) < NEEDS:
        skip = pytest.mark.skip(reason=f"needs Twisted {NEEDS}")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)
