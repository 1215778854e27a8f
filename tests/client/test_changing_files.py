"""
Files that change while they are being sent are stored as they were when they were opened,
or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.processes import open_descriptors
from tests.support.waiting import turns, until
from twisted_upload import OutcomeUnknown, Receipt, SourceChanged, SourceFailed, upload
from twisted_upload.client.sendfile import FROM
from twisted_upload.client.source import open_source
from twisted_upload.frontends.raw.settings import RawSettings

CONTENT = os.urandom(1 << 20) * 24 + b"end"
"""Larger than all buffers on the way together."""


def shrink(path: Path) -> None:
    os.truncate(path, 100)


def shrink_by_one(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def truncate_and_rewrite(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (1, 1))


CHANGES = [shrink, shrink_by_one, grow, rewrite, truncate_and_rewrite]


def by_kernel(path: Path, to: str) -> Deferred[Receipt]:
    return upload(path, to)


def by_reading(path: Path, to: str) -> Deferred[Receipt]:
    return upload(path, to, sha256=True)


def as_file_object(path: Path, to: str) -> Deferred[Receipt]:
    file: BinaryIO = path.open("rb")
    return upload(file, to).addBoth(_closing, file)


def _closing(result: Any, file: BinaryIO) -> Any:
    file.close()
    return result


WAYS = [by_kernel, by_reading, as_file_object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A large file that has not been modified recently."""
    path = tmp_path / "file"
    write(path, CONTENT)
    return path


async def stopped(frontend: OpenFrontend) -> Any:
    """Wait until a front end has paused the sender in the middle of the file."""
    await frontend.has_received(1)
    producer = frontend.store.unfinished[0].producer
    assert producer is not None
    producer.pauseProducing()
    await turns(50)
    return producer


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
async def test_changed(
    path: Path, way: Callable[[Path, str], Deferred[Receipt]], change: Callable[[Path], None]
) -> None:
    """A file that is truncated, extended or rewritten while being sent is reported, not stored."""
    async with open_frontend() as frontend:
        uploading = way(path, frontend.endpoint)
        producer = await stopped(frontend)
        change(path)
        producer.resumeProducing()
        with pytest.raises(
            SourceChanged, match="the file changed while it was being sent"
        ) as raised:
            await uploading
        assert isinstance(raised.value, SourceFailed)
        assert raised.value.safe_to_repeat
        await frontend.is_quiet()
        assert (frontend.stored, frontend.log.kinds) == ([], ["aborted"])
    await until(lambda: not open_descriptors(path.parent))


@pytest.mark.parametrize("change", CHANGES)
async def test_small_file(path: Path, change: Callable[[Path], None]) -> None:
    """The same for a file of a few bytes, before any of them is sent."""
    write(path, b"a few bytes" * 20)
    changes = iter([change])

    def progress(_: int, __: int | None) -> None:
        for change in changes:
            change(path)

    async with open_frontend() as frontend:
        with pytest.raises(SourceChanged):
            await upload(path, frontend.endpoint, progress=progress)
        await frontend.is_quiet()
        assert frontend.stored == []


@pytest.mark.parametrize("size", [FROM - 1, FROM])
async def test_appended_to_all_the_time(path: Path, size: int) -> None:
    """Sending a file ends even if another process appends as fast as it is sent."""
    write(path, CONTENT[:size])

    def progress(_: int, __: int | None) -> None:
        with path.open("ab") as file:
            file.write(bytes(1 << 20))

    async with open_frontend() as frontend:
        with pytest.raises(SourceChanged):
            await upload(path, frontend.endpoint, progress=progress, sha256=True)
        assert frontend.store.unfinished == [] or len(frontend.incoming) <= 2 * size


async def test_appended_bytes_are_not_sent(tmp_path: Path) -> None:
    """Bytes that are appended to a large file are not sent."""
    path = tmp_path / "file"
    write(path, CONTENT)
    seen: list[int] = []

    def progress(sent: int, _: int | None) -> None:
        if not sent:
            grow(path)
        seen.append(sent)

    async with open_frontend() as frontend:
        with pytest.raises(SourceChanged):
            await upload(path, frontend.endpoint, progress=progress)
    assert seen[-1] == len(CONTENT)


@pytest.mark.parametrize("way", WAYS)
async def test_replaced(path: Path, way: Callable[[Path, str], Deferred[Receipt]]) -> None:
    """A file that is replaced or removed is sent as it was."""
    new = path.with_name("new")
    write(new, CONTENT[::-1])
    for content, go in ((CONTENT, lambda: new.replace(path)), (CONTENT[::-1], path.unlink)):
        async with open_frontend() as frontend:
            uploading = way(path, frontend.endpoint)
            producer = await stopped(frontend)
            go()
            producer.resumeProducing()
            await uploading
            assert frontend.stored == [content]


async def test_changed_before_the_answer(path: Path) -> None:
    """
    The kernel sends the content at the time when the other end reads it: after a change
    before the answer, the server may have stored either, unless a receipt tells.
    """
    async with open_frontend() as frontend:
        frontend.store.holding = True
        uploading = upload(path, frontend.endpoint)
        await until(lambda: frontend.store._held)
        rewrite(path)
        frontend.store.release()
        with pytest.raises(OutcomeUnknown, match="changed before the answer came"):
            await uploading
    write(path, CONTENT)
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        frontend.store.holding = True
        uploading = upload(path, frontend.endpoint)
        await until(lambda: frontend.store._held)
        rewrite(path)
        frontend.store.release()
        with pytest.raises(OutcomeUnknown, match="of the file, which has changed since"):
            await uploading


async def test_changed_after_it_was_read(path: Path) -> None:
    """Bytes that have been read are stored, even if the file has changed since."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        uploading = upload(path, frontend.endpoint, sha256=True)
        await until(lambda: frontend.store._held)
        rewrite(path)
        frontend.store.release()
        await uploading
        assert frontend.stored == [CONTENT]


async def test_file_without_a_length() -> None:
    """Files of the kernel, whose reported size is wrong, are sent to their end."""
    files = [Path("/proc/version"), Path("/sys/devices/system/cpu/possible")]
    for path, content in [(path, path.read_bytes()) for path in files if path.exists()]:
        async with open_frontend() as frontend:
            await upload(path, frontend.endpoint)
            assert frontend.stored == [content]


def test_fewer_bytes_than_its_size(tmp_path: Path) -> None:
    """Reading less than the file's size means truncation, even if nothing else shows it."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    source = open_source(path, Clock())  # type: ignore[arg-type]
    source.check(len(CONTENT))
    with pytest.raises(SourceChanged):
        source.check(len(CONTENT) - 1)
    source.close()


async def test_sparse_file(tmp_path: Path) -> None:
    """A sparse file is sent completely, and its truncation is noticed."""
    path = tmp_path / "sparse"
    write(path, b"")
    os.truncate(path, 1_000_000)

    def progress(sent: int, _: int | None) -> None:
        if not sent:
            shrink(path)

    async with open_frontend() as frontend:
        await upload(path, frontend.endpoint)
        assert frontend.stored == [bytes(1_000_000)]
        with pytest.raises(SourceChanged):
            await upload(path, frontend.endpoint, progress=progress)


async def test_replaced_by_a_named_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe that replaces the file while it is being opened is not waited for."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda *_: regular)
    with pytest.raises(SourceFailed, match="replaced while it was being opened"):
        await upload(str(path), "tcp:nowhere.invalid:1")
    monkeypatch.undo()
    assert open_descriptors(tmp_path) == []
