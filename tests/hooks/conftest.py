"""
What tests of ``--on-upload`` share.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import open_descriptors


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """Nothing stays open."""
    before = open_descriptors()
    yield
    assert len(open_descriptors()) <= len(before)
