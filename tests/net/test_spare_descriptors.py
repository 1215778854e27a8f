"""
Spare file descriptors, which are closed when no others are free.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from twisted_upload.net.spare_descriptors import LEFT, MARGIN, PAUSE, SPARE, SpareDescriptors


def _open() -> int:
    return len(os.listdir("/proc/self/fd")) - 1


@pytest.fixture
def spare() -> Iterator[SpareDescriptors]:
    before = _open()
    spare = SpareDescriptors()
    spare.join()
    yield spare
    spare.leave()
    assert _open() == before


@pytest.fixture
def _limit() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _leave(number: int) -> None:
    """Set the limit so that this many are left."""
    free = [number for number in range(1000) if not os.path.exists(f"/proc/self/fd/{number}")]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (free[number], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


def test_held_back() -> None:
    """Spare file descriptors are held while a listener may need them, and no longer."""
    before = _open()
    spare = SpareDescriptors()
    assert _open() == before
    spare.join()
    spare.join()
    assert _open() == before + SPARE
    spare.leave()
    assert _open() == before + SPARE
    spare.leave()
    assert _open() == before


@pytest.mark.usefixtures("_limit")
def test_let_go(spare: SpareDescriptors) -> None:
    """When no other file descriptors are left, the spare ones are released."""
    _leave(0)
    assert not spare.are_left_for_one()
    spare.let_go(0)
    assert spare.short
    connected = []
    while spare.are_left_for_one():
        connected.append(socket.socket())
        spare.accepted(connected[-1])
    assert len(connected) == (SPARE - MARGIN) // 2
    files = [os.dup(accepted_connection.fileno()) for accepted_connection in connected]
    connected.pop().close()
    os.close(files.pop())
    assert spare.are_left_for_one() is False, "the others may soon open their files"
    for accepted_connection, file in zip(connected, files, strict=True):
        accepted_connection.close()
        os.close(file)
    assert spare.are_left_for_one()


@pytest.mark.usefixtures("_limit")
def test_recover(spare: SpareDescriptors) -> None:
    """
    Spare file descriptors are held again when enough others are free, which is checked
    from time to time.
    """
    before = _open()
    spare.let_go(0)
    _leave(SPARE + LEFT - 1)
    spare.recover(PAUSE)
    assert spare.short
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    spare.recover(PAUSE + 0.1)
    assert spare.short
    spare.recover(2 * PAUSE)
    assert not spare.short
    assert _open() == before
