"""
Putting a file into a bucket.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twisted_upload.disk.files import Files
from twisted_upload.stores.s3.bucket import MARK, SMALLEST_PART, About
from twisted_upload.stores.s3.content import DescriptorFile
from twisted_upload.stores.s3.errors import NameTaken, Unreachable
from twisted_upload.stores.s3.transfer import put_file
from twisted_upload.testing import MemoryBucket

ABOUT = About("text/plain", {MARK: "0" * 32})
NAME = "1-one-0123456789abcdef"
LARGE = 2 * SMALLEST_PART + 1


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


def _file(folder: Path, size: int) -> tuple[int, bytes]:
    content = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    path = folder / "file"
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY), content


def _operations(bucket: MemoryBucket) -> list[str]:
    return [operation for operation, _ in bucket.calls]


@pytest.mark.parametrize("size", [0, 1, 1_000_000, SMALLEST_PART])
def test_small(tmp_path: Path, bucket: MemoryBucket, size: int) -> None:
    """A file of up to 5 MiB is one request, whatever the position in it is."""
    descriptor, content = _file(tmp_path, size)
    os.lseek(descriptor, 0, os.SEEK_END)
    put_file(bucket, NAME, DescriptorFile(Files(), descriptor, size), ABOUT)
    assert bucket.visible() == {NAME: content}
    assert bucket.about(NAME) == ABOUT
    assert _operations(bucket) == ["put"]
    os.close(descriptor)


@pytest.mark.parametrize("size", [SMALLEST_PART + 1, 2 * SMALLEST_PART, LARGE])
def test_large(tmp_path: Path, bucket: MemoryBucket, size: int) -> None:
    """A larger file is stored in parts."""
    descriptor, content = _file(tmp_path, size)
    put_file(bucket, NAME, DescriptorFile(Files(), descriptor, size), ABOUT)
    assert bucket.visible() == {NAME: content}
    assert bucket.about(NAME) == ABOUT
    assert _operations(bucket).count("put_part") == -(-size // SMALLEST_PART)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    os.close(descriptor)


@pytest.mark.parametrize("size", [1, LARGE])
def test_again(tmp_path: Path, bucket: MemoryBucket, size: int) -> None:
    """A file that is stored already is not stored again; another object is not replaced."""
    descriptor, content = _file(tmp_path, size)
    put_file(bucket, NAME, DescriptorFile(Files(), descriptor, size), ABOUT)
    put_file(bucket, NAME, DescriptorFile(Files(), descriptor, size), ABOUT)
    assert _operations(bucket).count("complete") == (size == LARGE)
    with pytest.raises(NameTaken):
        put_file(
            bucket,
            NAME,
            DescriptorFile(Files(), descriptor, size),
            About("text/plain", {MARK: "1" * 32}),
        )
    with pytest.raises(NameTaken):
        put_file(bucket, NAME, DescriptorFile(Files(), descriptor, size - 1), ABOUT)
    assert bucket.visible() == {NAME: content}
    assert not [*bucket.pending()]
    os.close(descriptor)


@pytest.mark.parametrize("step", ["put_part", "complete"])
def test_fails(tmp_path: Path, bucket: MemoryBucket, step: str) -> None:
    """If a step fails, nothing is visible, and no part remains."""
    descriptor, _ = _file(tmp_path, LARGE)
    bucket.fail(step, Unreachable("away"))
    with pytest.raises(Unreachable, match="away"):
        put_file(bucket, NAME, DescriptorFile(Files(), descriptor, LARGE), ABOUT)
    assert bucket.visible() == {}
    assert not [*bucket.pending()]
    os.close(descriptor)


def test_abort_fails(tmp_path: Path, bucket: MemoryBucket) -> None:
    """What is reported is the first failure, also if the parts cannot be removed."""
    descriptor, _ = _file(tmp_path, LARGE)
    bucket.fail("complete", Unreachable("first"))
    bucket.fail("abort", Unreachable("second"))
    with pytest.raises(Unreachable, match="first"):
        put_file(bucket, NAME, DescriptorFile(Files(), descriptor, LARGE), ABOUT)
    os.close(descriptor)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_shorter(tmp_path: Path, bucket: MemoryBucket, size: int) -> None:
    """A file that has become shorter is not stored."""
    descriptor, _ = _file(tmp_path, size)
    os.truncate(tmp_path / "file", size - 1)
    with pytest.raises(OSError, match="shorter than it was"):
        put_file(bucket, NAME, DescriptorFile(Files(), descriptor, size), ABOUT)
    assert bucket.visible() == {}
    assert not [*bucket.pending()]
    os.close(descriptor)
