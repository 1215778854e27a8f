"""
What can be uploaded (bytes, paths, files, pipes), and what cannot.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.frontends import open_frontend
from tests.support.processes import open_descriptors
from tests.support.uploading import CONTENT, Clocked, error_of
from tests.support.waiting import in_thread, until
from twisted_upload import upload
from twisted_upload.client.content import CHUNK
from twisted_upload.errors import SourceFailed, TooLarge
from twisted_upload.frontends.raw.settings import RawSettings


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes(kind: Callable[[bytes], bytes]) -> None:
    """Bytes of any type are sent unchanged."""
    async with open_frontend() as frontend:
        receipt = await upload(kind(CONTENT), frontend.endpoint)
        assert frontend.stored == [CONTENT]
        assert receipt.size == len(CONTENT)


@pytest.mark.parametrize("sha256", [False, True])
@pytest.mark.parametrize("kind", [str, Path])
async def test_path(tmp_path: Path, kind: Callable[[str], str], sha256: bool) -> None:
    """A file is sent completely, and its SHA-256 is reported on request."""
    content = os.urandom(1 << 20) * 9 + b"end"
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    async with open_frontend() as frontend:
        receipt = await upload(kind(str(path)), frontend.endpoint, sha256=sha256)
        assert frontend.stored == [content]
    assert receipt.size == len(content)
    assert receipt.sha256 == (hashlib.sha256(content).hexdigest() if sha256 else None)
    assert open_descriptors(tmp_path) == []


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_file_object(tmp_path: Path, buffering: int) -> None:
    """A file object is read from its current position, and never closed."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    totals: list[int | None] = []
    with path.open("rb", buffering) as file:
        file.read(100)
        async with open_frontend() as frontend:
            await upload(file, frontend.endpoint, progress=lambda _, total: totals.append(total))
            assert frontend.stored == [CONTENT[100:]]
        assert not file.closed
        assert file.tell() == len(CONTENT)
    assert set(totals) == {len(CONTENT) - 100}


async def test_bytes_io() -> None:
    """A file in memory is read from its current position, and never closed."""
    file = io.BytesIO(CONTENT)
    file.seek(100)
    async with open_frontend() as frontend:
        receipt = await upload(file, frontend.endpoint)
        assert frontend.stored == [CONTENT[100:]]
    assert receipt.size == len(CONTENT) - 100
    assert not file.closed


async def test_file_object_after_a_failure() -> None:
    """A file object is not closed even if the upload fails."""
    file = io.BytesIO(CONTENT)
    async with open_frontend(RawSettings(max_size=10)) as frontend:
        assert isinstance(await error_of(upload(file, frontend.endpoint)), TooLarge)
    assert not file.closed


async def test_pipe(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A pipe is sent to its end, although its length is unknown."""
    source, sink = pipe
    seen: list[tuple[int, int | None]] = []
    async with open_frontend() as frontend:
        uploading = upload(source, frontend.endpoint, progress=lambda *now: seen.append(now))

        def fill() -> None:
            for _ in range(50):
                sink.write(CONTENT)
            sink.close()

        await in_thread(fill)
        receipt = await uploading
        assert frontend.stored == [CONTENT * 50]
    assert receipt.size == len(CONTENT) * 50
    assert not source.closed
    assert seen[0] == (0, None)
    assert {total for _, total in seen[:-1]} == {None}
    assert seen[-1] == (receipt.size, receipt.size)


async def test_slow_pipe(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A pipe that is silent for hours is no stall, and its data is sent as soon as it arrives."""
    source, sink = pipe
    ours = Clocked()
    async with open_frontend(RawSettings(idle_timeout=0)) as frontend:
        uploading = upload(source, frontend.endpoint, reactor=ours, stall_timeout=5)
        for number in range(3):
            sink.write(b"%d" % number)
            await frontend.has_received(number + 1)
            for _ in range(10):
                ours.clock.advance(3600)
        sink.close()
        await uploading
        assert frontend.stored == [b"012"]


async def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe is also waited for."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    async with open_frontend() as frontend:
        uploading = upload(path, frontend.endpoint)
        await until(lambda: frontend.factory.protocols)
        await in_thread(path.write_bytes, CONTENT)
        await uploading
        assert frontend.stored == [CONTENT]
    assert open_descriptors(tmp_path) == []


async def test_socket_file() -> None:
    """A file object over a socket is a source like a pipe."""
    ours, theirs = socket.socketpair()
    async with open_frontend() as frontend:
        with ours, theirs, ours.makefile("rb") as source:
            uploading = upload(cast(BinaryIO, source), frontend.endpoint)
            theirs.sendall(CONTENT)
            theirs.close()
            await uploading
        assert frontend.stored == [CONTENT]


@settings(deadline=None, derandomize=True, max_examples=25)
@given(size=st.one_of(st.integers(1, 10), st.integers(CHUNK - 2, CHUNK + 2), st.just(3 * CHUNK)))
async def test_any_size(size: int) -> None:
    """A file of any size is sent."""
    content = (CONTENT * (size // len(CONTENT) + 1))[:size]
    async with open_frontend() as frontend:
        assert (await upload(io.BytesIO(content), frontend.endpoint)).size == size
        assert frontend.stored == [content]


@pytest.mark.parametrize("what", ["missing", "folder", "below a file", "nul"])
async def test_no_such_source(tmp_path: Path, what: str) -> None:
    """An unreadable path is reported before a connection is made."""
    (tmp_path / "file").write_bytes(b"x")
    path = {
        "missing": str(tmp_path / "missing"),
        "folder": str(tmp_path),
        "below a file": str(tmp_path / "file" / "below"),
        "nul": "\0",
    }[what]
    error = await error_of(upload(path, "tcp:nowhere.invalid:1"))
    assert isinstance(error, SourceFailed)
    assert "\n" not in str(error)


async def test_closed_source(tmp_path: Path) -> None:
    """A closed file object cannot be read."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file = path.open("rb")
    file.close()
    assert isinstance(await error_of(upload(file, "tcp:nowhere.invalid:1")), SourceFailed)


@pytest.mark.parametrize("source", [io.StringIO("text"), 17, None, ["list"]])
async def test_invalid_source(source: Any) -> None:
    """Anything but a path, bytes or a binary file is a programming error."""
    assert isinstance(await error_of(upload(source, "tcp:nowhere.invalid:1")), TypeError)


class _Breaking(io.RawIOBase):
    """A file whose third read fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._pieces = 3

    def read(self, size: int = -1) -> bytes:
        self._pieces -= 1
        if not self._pieces:
            raise self._error
        return b"x" * 1000


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("closed")])
async def test_breaking_source(error: Exception) -> None:
    """A source that fails during the transfer ends the upload, and nothing is stored."""
    async with open_frontend() as frontend:
        failed = await error_of(upload(cast(BinaryIO, _Breaking(error)), frontend.endpoint))
        assert isinstance(failed, SourceFailed)
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.kinds in (["aborted"], [])
