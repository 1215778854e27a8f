"""
The real system calls of the write path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import ext4
from twisted_upload.disk.aio import ParallelSync
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.files import Files


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_close_error(descriptor: int) -> None:
    """An error of close is raised: network file systems report lost data there."""
    other = os.dup(descriptor)
    files = Files()
    files.close(other)
    with pytest.raises(OSError, match="Bad file descriptor"):
        files.close(other)


def test_release(descriptor: int) -> None:
    """A finalizer closes a file whatever has become of it: nobody could handle an error."""
    other = os.dup(descriptor)
    files = Files()
    for _ in range(2):
        files.release(other)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(other)


def test_interrupted_close(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted close has closed the file: it is neither an error nor repeated."""
    calls = []

    def interrupted(number: int) -> None:
        calls.append(number)
        raise InterruptedError(errno.EINTR, "x")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", interrupted)
        Files().close(descriptor)
    assert calls == [descriptor]


def test_free(tmp_path: Path) -> None:
    """Free space is in bytes and inodes, as statvfs(3) has them for unprivileged users."""
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        space, there = Files().free(directory), os.statvfs(tmp_path)
    finally:
        os.close(directory)
    assert isinstance(space, Space)
    assert space.total == there.f_blocks * there.f_frsize
    assert 0 < space.free <= space.total
    assert space.all_inodes == there.f_files
    assert space.inodes <= space.all_inodes


def test_two_listings_at_once(tmp_path: Path) -> None:
    """A folder can be listed by two threads at once, through one descriptor: neither misses any."""
    names = {str(number) for number in range(2000)}
    for name in names:
        (tmp_path / name).touch()
    files = Files()
    folder = files.open(str(tmp_path), os.O_RDONLY)
    try:
        with files.scan(folder) as one:
            some = {next(one)}
            with files.scan(folder) as other:
                assert {*other} == names
            assert {*files.names(folder)} == names
            assert some | {*one} == names
    finally:
        files.close(folder)


class _Kernel(ParallelSync):
    """A kernel whose syncs end with given results, in a given number of batches."""

    def __init__(self, ends: list[list[int]]) -> None:
        self._ends = ends
        self._ended = 0
        super().__init__()

    def _call(self, *arguments: Any) -> int:
        if arguments[0] == self._submit:
            return sum(map(len, self._ends))
        if arguments[0] != self._events:
            return super()._call(*arguments)
        events, ends = arguments[4], self._ends.pop(0)
        for index, result in enumerate(ends):
            events[index].data = self._ended + index
            events[index].result = result
        self._ended += len(ends)
        return len(ends)


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="needs parallel fsync")
def test_errors_of_parallel_fsyncs(descriptor: int) -> None:
    """The error of each file's fsync is reported for that file, in any order."""
    kernel = _Kernel([[0, -errno.EIO], [0], [-errno.ENOSPC, 0]])
    errors = kernel.sync([descriptor] * 5)
    numbers = [error and error.errno for error in errors]
    assert numbers == [None, errno.EIO, None, errno.ENOSPC, None]


SCRIPT = """
import os, sys
from twisted_upload.disk.files import Files
folder, many = sys.argv[1], []
for number in range(4):
    many.append(os.open(f"{folder}/{number}", os.O_RDWR | os.O_CREAT))
os.fsync(many[0])
os.write(many[2], os.urandom(24 << 20))
files = Files()
assert files.syncs_in_parallel(many[0])
print([error and error.errno for error in files.fsync_all(many)])
"""


def test_failing_device(tmp_path: Path) -> None:
    """
    On a real device that cannot store the data, a parallel fsync reports the error.

    The device is a sparse file that cannot grow, under a file system that does not
    know it: the write succeeds, and the fsync fails.
    """
    before = ext4(tmp_path / "inbox", tmp_path / "thin", device="size=16m")
    done = subprocess.run(
        [*before, sys.executable, "-c", SCRIPT, str(tmp_path / "inbox")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    errors = done.stdout.strip().strip("[]").split(", ")
    assert errors[2] in {str(errno.EIO), str(errno.ENOSPC)}
