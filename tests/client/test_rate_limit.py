"""
A limit on the rate of all sources together.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.support.frontends import open_frontend
from tests.support.processes import open_descriptors
from twisted_upload import upload
from twisted_upload.client.rate_limit import LimitedFile, LimitedPipe, RateLimit
from twisted_upload.client.tar_stream import TarStream
from twisted_upload.errors import SourceChanged, SourceFailed


class Time:
    """A clock that goes on during a sleep."""

    def __init__(self) -> None:
        self.now = 5.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def limited(rate: int) -> tuple[Time, RateLimit]:
    time = Time()
    return time, RateLimit(rate, time.clock, time.sleep)


@pytest.mark.parametrize(("rate", "piece"), [(1, 1), (800, 100), (10**9, 256 * 1024)])
def test_pieces(rate: int, piece: int) -> None:
    """An eighth of a second is read at a time, and at most what is sent at a time."""
    assert limited(rate)[1].piece == piece


def test_rate() -> None:
    """A file takes as long as the rate says; time in which nothing was read is not made up for."""
    time, limit = limited(1000)
    for _ in range(10):
        limit.take(100)
    assert time.now == pytest.approx(6.0)
    time.now += 60
    limit.take(1000)
    assert time.now == pytest.approx(67.0)


def test_together() -> None:
    """Two that read at the same time get half each: the second waits for both."""
    time = Time()
    asleep: list[float] = []
    limit = RateLimit(1000, time.clock, asleep.append)  # as if both slept at once
    limit.take(500)
    limit.take(500)
    assert asleep == [pytest.approx(0.5), pytest.approx(1.0)]


def test_threads() -> None:
    """Threads may share it."""
    time, limit = limited(1_000_000)

    def take() -> None:
        for _ in range(500):
            limit.take(1)

    threads = [threading.Thread(target=take) for _ in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(time.slept) == 2000
    assert limit._free_from >= 5.0 + 2000 / 1_000_000 - 1e-6


async def test_upload(tmp_path: Path) -> None:
    """A file, a pipe, an open file and an archive are sent whole."""
    path = tmp_path / "a"
    path.write_bytes(content := os.urandom(300_000))
    _, limit = limited(10**9)
    read, write = os.pipe()
    os.write(write, b"piped")
    os.close(write)
    async with open_frontend() as frontend:
        with LimitedFile(str(path), limit) as whole:
            await upload(whole, frontend.endpoint)
        with path.open("rb", 0) as file:
            file.seek(100)
            rest = LimitedFile(file, limit)
            await upload(rest, frontend.endpoint)
            assert rest.seek(0) == rest.tell() == 0
            assert rest.read(50) == content[100:150]
        with os.fdopen(read, "rb", 0) as pipe:
            await upload(LimitedPipe(pipe, limit), frontend.endpoint)  # type: ignore[arg-type]
        await upload(LimitedFile(TarStream([]), limit), frontend.endpoint)
        assert frontend.stored == [content, content[100:], b"piped", bytes(10240)]
    assert open_descriptors(tmp_path) == []


async def test_pipe_that_does_not_block() -> None:
    """No data yet in a pipe is not its end."""
    _, limit = limited(10**9)
    read, write = os.pipe()
    os.set_blocking(read, False)
    with os.fdopen(read, "rb", 0) as pipe, os.fdopen(write, "wb", 0) as writer:
        async with open_frontend() as frontend:
            sending = upload(LimitedPipe(pipe, limit), frontend.endpoint)  # type: ignore[arg-type]
            await frontend.has_received(0)
            writer.write(b"late")
            await frontend.has_received(4)
            writer.close()
            await sending
            assert frontend.stored == [b"late"]


def test_changed(tmp_path: Path) -> None:
    """A file that has changed when its end is reached is noticed."""
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    file = LimitedFile(str(path), limited(10**9)[1])
    assert len(file.read()) == 1000
    os.utime(path, (1, 1))
    with pytest.raises(SourceChanged):
        file.read()


def test_missing(tmp_path: Path) -> None:
    """A file that cannot be opened is a source that cannot be read."""
    with pytest.raises(SourceFailed, match="No such file"):
        LimitedFile(str(tmp_path / "gone"), limited(1)[1])
