"""
Shared fixtures of the command's tests: no process is left over, and there is a file to send.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import blockon  # type: ignore[import-untyped]

from tests.support.commands import started


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """End the processes that a test started, however it ends."""
    yield
    for process in started:
        if process.status is None:
            process.kill(signal.SIGKILL)
            blockon(process.ended)
    started.clear()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff" + os.urandom(100_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file larger than all buffers on the way together."""
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    return path
