"""
Fixtures of the tests of the store in front of an object store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_stores import ManualS3Rig, make_parts_small


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualS3Rig]:
    rig = ManualS3Rig(tmp_path / "inbox")
    yield rig
    rig.close()


@pytest.fixture
def small_part(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make parts small; return their size in bytes."""
    return make_parts_small(monkeypatch)
