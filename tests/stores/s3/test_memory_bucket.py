"""
The bucket in memory: the contract of a bucket, and failures and delays that are made to order.
"""

from __future__ import annotations

import threading

import pytest

from twisted_upload.stores.s3.bucket import MARK, About, IBucket, checked_about
from twisted_upload.stores.s3.errors import Throttled, Unreachable
from twisted_upload.testing import BucketContract, BucketUnderTest, MemoryBucket


class _UnderTest:
    def __init__(self) -> None:
        self.memory = MemoryBucket()
        self.bucket: IBucket = self.memory

    def visible(self) -> dict[str, bytes]:
        return self.memory.visible()

    def tags(self, name: str) -> dict[str, str]:
        return self.memory.tags(name)


@pytest.fixture
def under_test() -> BucketUnderTest:
    return _UnderTest()


class TestContract(BucketContract):
    """The contract, for the bucket in memory."""


ABOUT = About("text/plain", {MARK: "0" * 32})


def test_fails() -> None:
    """An operation fails as often as was asked for, without being carried out."""
    bucket = MemoryBucket()
    bucket.fail("put", Unreachable("away"), 2)
    for _ in range(2):
        with pytest.raises(Unreachable, match="away"):
            bucket.put("1-one-a", [b"x"], ABOUT)
    assert bucket.visible() == {}
    bucket.put("1-one-a", [b"x"], ABOUT)
    assert bucket.visible() == {"1-one-a": b"x"}
    assert bucket.calls == [("put", "1-one-a")] * 3


def test_fails_late() -> None:
    """An operation whose answer is lost has been carried out."""
    bucket = MemoryBucket()
    bucket.fail("put", Throttled("busy"), late=True)
    with pytest.raises(Throttled):
        bucket.put("1-one-a", [b"x"], ABOUT)
    assert bucket.visible() == {"1-one-a": b"x"}


def test_holds() -> None:
    """An operation that is held waits, and others do not."""
    bucket = MemoryBucket()
    hold = bucket.hold("put")
    thread = threading.Thread(target=bucket.put, args=("1-one-a", [b"x"], ABOUT))
    thread.start()
    assert bucket.head("1-one-a") is None
    hold.set()
    thread.join()
    assert bucket.visible() == {"1-one-a": b"x"}


@pytest.mark.parametrize(
    "wrong",
    [
        About("text/plain", {}),
        About("text/plain\r\nx-amz-acl: public-read", {MARK: "0"}),
        About("", {MARK: "0"}),
        About("text/plain", {MARK: ""}),
        About("text/plain", {MARK: "a b"}),
        About("text/plain", {MARK: "上"}),
        About("text/plain", {MARK: "0\n"}),
        About("text/plain", {MARK: "0", "Label": "x"}),
        About("text/plain", {MARK: "0", "label\n": "x"}),
        About("text/plain", {MARK: "0", "label": "x" * 2000}),
    ],
)
def test_wrong_about(wrong: About) -> None:
    """What an object store could change, or take for something else, is not sent."""
    with pytest.raises(ValueError, match=r"\A[ -~]+\Z"):
        checked_about(wrong)
    with pytest.raises(ValueError, match=r"\A[ -~]+\Z"):
        MemoryBucket().put("1-one-a", [b"x"], wrong)


def test_most_details() -> None:
    """Details of 2,000 bytes are taken."""
    most = About("text/plain; charset=utf-8", {MARK: "0" * 32, "label": "x" * (2000 - 41)})
    assert checked_about(most) is most
