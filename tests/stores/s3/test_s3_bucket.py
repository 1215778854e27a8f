"""
The real bucket, held to the contract on each engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.engines.engine import Engine, Place
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.stores.s3.attempts import Attempts, NoCounts
from twisted_upload.stores.s3.bucket import IBucket
from twisted_upload.stores.s3.s3_bucket import S3Bucket
from twisted_upload.testing import BucketContract, BucketUnderTest


class _UnderTest:
    def __init__(self, bucket: S3Bucket, place: Place) -> None:
        self.bucket: IBucket = bucket
        self._place = place

    def visible(self) -> dict[str, bytes]:
        witness, prefix = self._place.witness, self._place.prefix
        return {key.removeprefix(prefix): witness.get(key) for key in witness.objects(prefix)}

    def tags(self, name: str) -> dict[str, str]:
        return self._place.witness.tags(self._place.prefix + name)


@pytest.fixture
def bucket(engine: Engine, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    """A bucket that finds the engine in the environment."""
    for name, value in engine.environment().items():
        monkeypatch.setenv(name, value)
    # Short, because Ceph wants what was aborted to be completed again, for ever (500).
    attempts = Attempts(NoCounts(), time.sleep, deadline=3)
    bucket = S3Bucket(ObjectURL(place.bucket, place.prefix), attempts=attempts)
    yield bucket
    bucket.close()


@pytest.fixture
def under_test(bucket: S3Bucket, place: Place) -> BucketUnderTest:
    return _UnderTest(bucket, place)


class TestContract(BucketContract):
    """The contract, for a real object store."""
