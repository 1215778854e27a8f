"""
The fixtures for engines; ``tests/conftest.py`` makes them known everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import ceph as ceph_engine
from tests.engines.engine import Engine, Place
from tests.engines.keeper import locked, shared
from tests.engines.seaweedfs import MISSING, SeaweedFS, program

__all__ = ["ceph", "engine", "own_seaweedfs", "place", "seaweedfs"]


def _of_the_run(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all processes of the test run share."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The SeaweedFS of this test run."""
    if program() is None:
        pytest.skip(MISSING)
    with shared(_of_the_run(tmp_path_factory) / "engine") as engine:
        yield engine


@pytest.fixture(scope="session")
def ceph() -> Engine:
    """The Ceph of this machine; no test stops it."""
    return ceph_engine.running() or pytest.skip(ceph_engine.MISSING)


@pytest.fixture(params=["seaweedfs", "ceph"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def place(engine: Engine) -> Iterator[Place]:
    """A place in each engine in turn, for this test alone; it is cleared afterwards."""
    place = engine.place()
    yield place
    place.clear()


@pytest.fixture
def own_seaweedfs(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[SeaweedFS]:
    """A SeaweedFS that the test may pause, kill and start; there is one at a time."""
    if program() is None:
        pytest.skip(MISSING)
    lock = _of_the_run(tmp_path_factory) / "own-engine.lock"
    with locked(lock), SeaweedFS(tmp_path / "weed") as server:
        yield server
