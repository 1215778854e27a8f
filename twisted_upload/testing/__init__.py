"""
Helpers for testing a store.

- `BucketContract`: the guarantees of `twisted_upload.stores.s3.bucket`, as tests.
- `MemoryBucket`: a bucket in memory, whose failures and delays are made to order.
- `StoreContract`: the guarantees of `twisted_upload.interfaces`, as tests.
- `ResumableStoreContract`: those of a store of partial uploads.
- `RecordingProducer`: a push producer that records the calls it receives.
"""

from twisted_upload.testing.bucket import MemoryBucket
from twisted_upload.testing.bucket_contract import BucketContract, BucketUnderTest
from twisted_upload.testing.partials import ResumableStoreUnderTest
from twisted_upload.testing.producer import RecordingProducer
from twisted_upload.testing.resumable import ResumableStoreContract
from twisted_upload.testing.store import StoreContract, StoreUnderTest

__all__ = [
    "BucketContract",
    "BucketUnderTest",
    "MemoryBucket",
    "RecordingProducer",
    "ResumableStoreContract",
    "ResumableStoreUnderTest",
    "StoreContract",
    "StoreUnderTest",
]
