"""
The daemon, and its page in the browser.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.chromium import Chromium, Tab


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A daemon with a page."""
    folder = tmp_path / "box"
    folder.mkdir()
    with Box(folder) as it:
        yield it


@pytest.fixture
def tab(chromium: Chromium, box: Box) -> Iterator[Tab]:
    """Its page, in English."""
    with chromium.tab() as it:
        it.open(box.url)
        yield it
        assert it.complaints == []
