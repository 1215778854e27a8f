"""
Shared fixtures of the tests of ``--on-upload``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hook_rig import Hooks, open_hooks
from tests.support.processes import open_descriptors


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """No file descriptor stays open."""
    before = open_descriptors()
    yield
    assert len(open_descriptors()) <= len(before)


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    """Programs that the test starts."""
    with open_hooks(tmp_path) as hooks:
        yield hooks
