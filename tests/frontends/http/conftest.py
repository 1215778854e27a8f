"""
Tests of HTTP connections over each kind of transport.
"""

from __future__ import annotations

import pytest

from tests.support.http import OpenHTTP


@pytest.fixture(params=["eager", "plain", "TLS"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transports that read at once, as the daemon's; Twisted's own; and TLS."""
    monkeypatch.setattr(OpenHTTP, "eager", request.param == "eager")
    monkeypatch.setattr(OpenHTTP, "over_tls", request.param == "TLS")
