"""
What tests of the directory store share.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "inbox")
    yield rig
    rig.close()
    assert (rig.store.memory.held, rig.store.memory.given_up) == (0, 0)
