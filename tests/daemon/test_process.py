"""
The number of file descriptors, and their budget.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.daemon.process import MOST_CONNECTIONS, OBJECT_PARTS, OWN, budget, raise_limit
from twisted_upload.errors import CannotStart
from twisted_upload.stores.s3.incoming import MOST_SENT


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """The limits before the test, which are restored after it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_raise_limit(limits: tuple[int, int]) -> None:
    """The soft limit becomes the hard one."""
    hard = limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    assert raise_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@settings(deadline=None, derandomize=True)
@given(limit=st.integers(54, 1_100_000))
def test_budget_fits_the_limit(limit: int) -> None:
    """The limit is enough for two per connection and for all other uses."""
    share = budget(limit)
    pipes = 2 * min(share.splices, 32)
    assert OWN + pipes + share.rejected + share.splices + 2 * share.connections <= limit
    assert 1 <= share.connections <= MOST_CONNECTIONS


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(64, 4), (256, 76), (1024, 396), (4096, 1868), (20_000, 9820), (1_048_576, 32_768)],
)
def test_default(limit: int, connections: int) -> None:
    """The number of connections for common limits."""
    assert budget(limit).connections == connections


def test_others() -> None:
    """File descriptors of programs and their queues are not available for connections."""
    assert budget(1024, None, 100).connections == budget(1024).connections - 50


def test_resumable_stores() -> None:
    """Each store with partial uploads has file descriptors for their records."""
    without, one, two = (budget(20_000, resumable_stores=number) for number in range(3))
    assert (without.writers, one.writers, two.writers) == (0, 512, 512)
    assert without.connections - one.connections == one.connections - two.connections == 256
    assert budget(1024, resumable_stores=1).writers == 128


def test_requested() -> None:
    """An operator may request at most as many connections as the limit allows with one each."""
    assert budget(1024, 100).connections == 100
    assert budget(1024, 792).connections == 792
    assert budget(1024, 692, 100).connections == 692
    with pytest.raises(CannotStart, match=r"--max-connections 693: .* 1024 .* 692 connections"):
        budget(1024, 693, 100)
    with pytest.raises(CannotStart, match=r"--max-connections 793: .* 1024 .* 792 connections"):
        budget(1024, 793)


@pytest.mark.parametrize("limit", [0, 16, 33])
def test_too_few(limit: int) -> None:
    """A limit that is too small to serve is an error at start."""
    with pytest.raises(CannotStart, match=r"raise it"):
        budget(limit)


def test_objects() -> None:
    """An upload that becomes an object may have three parts as files, beside its connection."""
    files, objects = budget(20_000), budget(20_000, objects=True)
    assert objects.connections == files.connections // 2
    assert MOST_SENT + 1 == OBJECT_PARTS
