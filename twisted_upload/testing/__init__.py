"""
Helpers for testing a store.

- `StoreContract`: the guarantees of `twisted_upload.interfaces`, as tests.
- `ResumableStoreContract`: those of a store of partial uploads.
- `RecordingProducer`: a push producer that records the calls it receives.
"""

from twisted_upload.testing.partials import ResumableStoreUnderTest
from twisted_upload.testing.producer import RecordingProducer
from twisted_upload.testing.resumable import ResumableStoreContract
from twisted_upload.testing.store import StoreContract, StoreUnderTest

__all__ = [
    "RecordingProducer",
    "ResumableStoreContract",
    "ResumableStoreUnderTest",
    "StoreContract",
    "StoreUnderTest",
]
