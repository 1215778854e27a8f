"""Who may upload: what a request is allowed to do."""

from __future__ import annotations

import pytest

from twisted_upload.frontends.http.access import Grant


@pytest.mark.parametrize(
    ("own", "listener", "limit"), [(0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5), (9, 7, 7)]
)
def test_limit(own: int, listener: int, limit: int) -> None:
    """The smaller limit counts; none is no limit."""
    assert Grant(max_size=own).limit(listener) == limit
