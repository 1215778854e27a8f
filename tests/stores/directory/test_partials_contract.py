"""
The directory store keeps the promises of a store of partial uploads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.partials import PartialsRig
from twisted_upload.testing import ResumableStoreContract, StoreContract


@pytest.fixture(params=[True, False], ids=["durable", "not durable"])
def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PartialsRig]:
    rig = PartialsRig(tmp_path / "inbox", durable=request.param)
    yield rig
    rig.close()


class TestResumableContract(ResumableStoreContract):
    """With and without fsync."""


class TestContract(StoreContract):
    """It is a store like any other."""
