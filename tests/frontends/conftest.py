"""
Tests of front ends with transports that read at once, and with those that do not.
"""

from __future__ import annotations

import pytest
from hypothesis import is_hypothesis_test

from tests.support.frontends import OpenFrontend
from tests.support.ways import in_each_way


@pytest.hookimpl(tryfirst=True)  # before the parameters of the fixture ``way`` are used
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a module marked ``each_transport`` with transports of both kinds."""
    marked = metafunc.definition.get_closest_marker("each_transport") is not None
    if marked and not is_hypothesis_test(metafunc.function):
        in_each_way(metafunc)


@pytest.fixture(autouse=True)
def _eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenFrontend, "eager", getattr(request, "param", True))
