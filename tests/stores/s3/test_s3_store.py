"""
The store in front of an object store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import blockon  # type: ignore[import-untyped]
from twisted.internet.defer import ensureDeferred

from tests.support.object_stores import ThreadedS3Rig
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.testing import StoreContract
from twisted_upload.testing.bucket import MemoryBucket


class _InMemory(ThreadedS3Rig):
    """In front of a bucket in memory."""

    def __init__(self, folder: Path, memory: MemoryBudget) -> None:
        self.bucket = MemoryBucket()
        super().__init__(folder, self.bucket, memory=memory)

    def stored(self) -> dict[str, bytes]:
        return self.bucket.visible()

    def unfinished(self) -> int:
        return len([*self.bucket.pending()]) + len([*self.folder.glob(".incoming/upload-*")])


class TestContract(StoreContract):
    """It keeps the promises of every store."""

    @pytest.fixture(params=["memory", "spilled"])
    def under_test(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_InMemory]:
        memory = MemoryBudget() if request.param == "memory" else MemoryBudget(0)
        rig = _InMemory(tmp_path / "inbox", memory)
        yield rig
        blockon(ensureDeferred(rig.close()))
