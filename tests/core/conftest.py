"""
An upload, its sender and its store.
"""

from __future__ import annotations

import pytest

from tests.support.lifecycle import RecordingSender
from twisted_upload.core.lifecycle import Upload, new_upload
from twisted_upload.stores.memory import MemoryStore


@pytest.fixture
def sender() -> RecordingSender:
    return RecordingSender()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 1_795_328_130.123)


@pytest.fixture
def upload(sender: RecordingSender, store: MemoryStore) -> Upload:
    return new_upload(sender, store)


@pytest.fixture
def storing(upload: Upload, store: MemoryStore) -> Upload:
    store.holding = True
    upload.received(b"content")
    upload.ended()
    return upload
