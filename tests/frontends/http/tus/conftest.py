"""
The handler for tus, for each test.
"""

from __future__ import annotations

import pytest

from tests.support.tus import TusRig


@pytest.fixture
def rig() -> TusRig:
    return TusRig()
