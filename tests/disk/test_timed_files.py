"""
Measuring how long the write path waits for the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.stores import ARRIVAL, Rig
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.disk.timed_files import TimedFiles


class _FaultyAndTimed(TimedFiles, FaultyFiles):
    """Calls that can fail, with a clock that ticks once whenever it is read."""

    def __init__(self) -> None:
        self.synced: list[float] = []
        self.published: list[float] = []
        super().__init__(self.synced.append, self.published.append, map(float, count()).__next__)


@pytest.fixture
def files() -> _FaultyAndTimed:
    return _FaultyAndTimed()


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_each_upload_is_measured(files: _FaultyAndTimed, tmp_path: Path) -> None:
    """For an upload, both waits for fsync and the publishing are measured."""
    rig = Rig(tmp_path, files=files)
    assert files.published == []  # although publishing has been tested
    files.synced.clear()
    incoming = rig.store.begin(ARRIVAL, lambda _: None)
    incoming.write(b"content")
    done = incoming.commit()
    rig.close()
    assert done.called
    assert (len(files.synced), len(files.published)) == (2, 1)


def test_parallel_syncs_are_one_wait(tmp_path: Path) -> None:
    """A batch that is synced in parallel is one wait, if the kernel supports that."""
    synced: list[float] = []
    files = TimedFiles(synced.append, lambda _: None)
    if not files.syncs_in_parallel(_open(tmp_path / "0")):
        pytest.skip("needs a kernel that can sync several files at once")
    descriptors = [_open(tmp_path / str(number)) for number in range(1, 5)]
    try:
        synced.clear()
        assert files.fsync_all(descriptors) == [None] * 4
        assert len(synced) == 1
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT)


@pytest.mark.parametrize("call", ["fsync", "rename", "link"])
def test_failures_are_measured(files: _FaultyAndTimed, call: str) -> None:
    """The duration of a failed call is measured too."""
    files.fail(call, errno.EIO)
    arguments = (3,) if call == "fsync" else (3, "a", 4, "b")
    with pytest.raises(OSError, match="Input/output error"):
        getattr(files, call)(*arguments)
    assert (files.synced if call == "fsync" else files.published) == [1.0]


def test_real_calls(descriptor: int, tmp_path: Path) -> None:
    """Otherwise the calls are the real system calls."""
    files = TimedFiles(lambda _: None, lambda _: None)
    (tmp_path / "a").write_bytes(b"content")
    files.rename(descriptor, "a", descriptor, "b")
    files.link(descriptor, "b", descriptor, "c")
    files.fsync(descriptor)
    assert (tmp_path / "c").read_bytes() == (tmp_path / "b").read_bytes() == b"content"
    changed = {name for name in vars(TimedFiles) if not name.startswith("_")}
    assert changed < set(vars(Files))
