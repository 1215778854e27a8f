"""
The default of ``--node``.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.config.node import default_node
from twisted_upload.core.nodes import is_node


@pytest.mark.parametrize(
    ("host", "node"),
    [
        ("one", "one"),
        ("one.rack.example", "one"),
        ("Upload_Server-7.example", "upload-server-7"),
        ("x" * 40, "x" * 32),
        ("x" * 31 + "-y", "x" * 31),
        ("世界", ""),
        ("", ""),
        ("-.example", ""),
    ],
)
def test_default(host: str, node: str) -> None:
    """It is the first label of the host name, as far as that can be the name of a node."""
    assert default_node(host) == node


@given(st.text())
def test_valid(host: str) -> None:
    """Whatever the host is called, it is the name of a node, or empty."""
    assert is_node(default_node(host) or "x")
