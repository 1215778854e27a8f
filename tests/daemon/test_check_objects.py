"""
``--check`` of an object store, with one in memory.
"""

from __future__ import annotations

import pytest

from twisted_upload.daemon.check_objects import check_bucket
from twisted_upload.errors import CannotStart
from twisted_upload.stores.s3.errors import Denied, ObjectStoreError, Unreachable
from twisted_upload.testing.bucket import MemoryBucket


def checked(bucket: MemoryBucket) -> list[str]:
    """Check a bucket; return what was said."""
    said: list[str] = []
    check_bucket(bucket, said.append)
    return said


def test_all_is_tried() -> None:
    """Each kind of operation is tried, and nothing is left behind."""
    bucket = MemoryBucket()
    (line,) = checked(bucket)
    assert line.startswith("s3://memory/: multipart upload begun and aborted in ")
    assert {operation for operation, _ in bucket.calls} >= {"put", "head", "tag", "remove"}
    assert bucket.visible() == {}
    assert [*bucket.pending()] == []


@pytest.mark.parametrize("operation", ["test", "put", "head", "remove"])
def test_an_operation_that_fails(operation: str) -> None:
    """What the daemon cannot do without is an error."""
    bucket = MemoryBucket()
    bucket.fail(operation, Denied(f"s3://memory/: {operation}: access denied"))
    with pytest.raises(ObjectStoreError, match=operation):
        checked(bucket)
    if operation != "remove":
        assert bucket.visible() == {}


@pytest.mark.parametrize(("operation", "says"), [("tag", "SHA-256"), ("pending", "cleaned up")])
def test_an_operation_to_do_without(operation: str, says: str) -> None:
    """What the daemon can do without is a warning."""
    bucket = MemoryBucket()
    bucket.fail(operation, Unreachable(f"s3://memory/: {operation}: no answer"))
    warning, line = checked(bucket)
    assert warning.startswith(f"warning: s3://memory/: {operation}: no answer: ")
    assert says in warning
    assert "removed in" in line
    assert bucket.visible() == {}


class _Forgetful(MemoryBucket):
    """An object store that confirms what it does not store."""

    def put(self, name: str, *_: object) -> None: ...


def test_an_object_that_is_not_there() -> None:
    """An object store that loses objects is not used."""
    with pytest.raises(CannotStart, match="a test object was stored, and is not there"):
        checked(_Forgetful())
