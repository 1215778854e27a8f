"""
Bodies of requests.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.disk.files import Files
from twisted_upload.stores.s3.content import (
    Body,
    ContentFailed,
    DescriptorFile,
    FilePart,
    Pieces,
    body_of,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    pieces=st.lists(st.binary(max_size=20), max_size=8),
    reads=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), max_size=10),
)
def test_pieces(pieces: list[bytes], reads: list[tuple[int, int]]) -> None:
    """Pieces are read as the bytes that they are together, from any position."""
    body, plain = Pieces(pieces), io.BytesIO(b"".join(pieces))
    assert len(body) == len(plain.getvalue())
    for position, size in reads:
        body.seek(min(position, len(body)))
        plain.seek(min(position, len(body)))
        assert body.read(size) == plain.read(size)
        assert body.tell() == plain.tell()
    assert b"".join(body.chunks()) == plain.getvalue()
    body.seek(0)
    assert body.read() == plain.getvalue()
    assert body.read(1) == b""


def test_seek() -> None:
    """A position can be given from each of the three."""
    body = Pieces([b"one", b"two"])
    assert body.seek(-2, io.SEEK_END) == 4
    assert body.read() == b"wo"
    body.seek(1)
    assert body.seek(2, io.SEEK_CUR) == 3
    assert body.read(1) == b"t"
    assert body.readable()
    assert body.seekable()


@pytest.mark.parametrize(
    "content", [b"content", bytearray(b"content"), memoryview(b"content"), [b"con", b"tent"]]
)
def test_kinds(content: bytes | list[bytes]) -> None:
    """Content of each kind is read as what it is; another size than was told is an error."""
    assert body_of(content, 7).read() == b"content"
    with pytest.raises(ValueError, match="the size of a part is 7, not 8"):
        body_of(content, 8)


def test_part_of_a_file() -> None:
    """A part of a file begins at its position, and ends after its size."""
    file = io.BytesIO(b"before-content-after")
    file.seek(7)
    body = body_of(file, 7)
    for _ in range(2):
        assert (body.read(3), body.read(100), body.read(1)) == (b"con", b"tent", b"")
        assert b"".join(body.chunks()) == b"content"
        body.seek(0)


def test_shorter_file() -> None:
    """A part that the file does not have fails."""
    with pytest.raises(ContentFailed, match="shorter than it was"):
        FilePart(io.BytesIO(), 1).read()


class _Failing(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "the disk")


def test_unreadable_file() -> None:
    """A part that cannot be read fails with the reason."""
    with pytest.raises(ContentFailed, match="the disk") as failed:
        FilePart(_Failing(), 1).read()
    assert failed.value.error.errno == 5


def test_descriptor(tmp_path: Path) -> None:
    """A file is read without its position."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 3, os.SEEK_SET)
    body: Body = DescriptorFile(Files(), descriptor, 7)
    assert (body.read(3), body.read()) == (b"con", b"tent")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 3
    os.close(descriptor)
