"""
The store in front of an object store keeps the promises of a store of partial uploads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import blockon  # type: ignore[import-untyped]
from twisted.internet.defer import ensureDeferred

from tests.support.object_partials import ObjectPartials
from twisted_upload.testing import ResumableStoreContract, StoreContract


@pytest.fixture
def under_test(tmp_path: Path) -> Iterator[ObjectPartials]:
    rig = ObjectPartials(tmp_path / "inbox")
    yield rig
    blockon(ensureDeferred(rig.close()))
    assert [it.name for it in rig.folder.iterdir() if not it.name.startswith(".")] == []
    assert [*rig.bucket.pending()] == []


class TestResumableContract(ResumableStoreContract):
    """All of it, in front of a bucket in memory."""


class TestContract(StoreContract):
    """It is a store like any other."""
