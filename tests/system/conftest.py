"""
A browser for the tests that need one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chromium import Chromium


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser for all tests."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
