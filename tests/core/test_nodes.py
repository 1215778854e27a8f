"""
The names of nodes, and ids that contain one.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.core.nodes import is_identity, is_node, node_of

TOKEN = "0123456789abcdef" * 2

NODES = st.from_regex("[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize("text", ["a", "7", "one", "rack-2", "a--b", "x" * 32, TOKEN])
def test_nodes(text: str) -> None:
    """The name of a node has small letters, digits and hyphens; 32 characters at most."""
    assert is_node(text)


@pytest.mark.parametrize(
    "text", ["", "-", "-a", "a-", "A", "a_b", "a.b", "a/b", "a\n", "é", "x" * 33]
)
def test_other_texts(text: str) -> None:
    """It has no other characters, and no hyphen at its ends."""
    assert not is_node(text)
    assert not is_identity(f"{text}-{TOKEN}")


@given(NODES)
def test_ids(node: str) -> None:
    """An id names its node, whatever that is called."""
    identity = f"{node}-{TOKEN}"
    assert is_identity(identity)
    assert node_of(identity) == node


def test_ids_without_a_node() -> None:
    """An id of a daemon that is alone names none."""
    assert is_identity(TOKEN)
    assert node_of(TOKEN) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one",
        "one-",
        f"-{TOKEN}",
        TOKEN[1:],
        TOKEN + "0",
        f"one-{TOKEN.upper()}",
        f"one-{TOKEN}\n",
    ],
)
def test_no_ids(text: str) -> None:
    """Every other text is no id, and names no node."""
    assert not is_identity(text)
    assert node_of(text) == ""
