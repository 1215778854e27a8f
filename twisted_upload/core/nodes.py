"""
The names of nodes, and ids of partial uploads that contain one.

A node is one machine with a daemon, of several behind a load balancer.  An id begins with the
name of the node that has the upload, so that a load balancer can route by the path:
``/files/one-0123456789abcdef0123456789abcdef``.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST_NODE", "is_identity", "is_node", "node_of"]

LONGEST_NODE = 32
"""Characters of the longest name of a node."""

_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_IDENTITY = re.compile(rf"(?:({_NODE.pattern})-)?[0-9a-f]{{32}}")


def is_node(text: str) -> bool:
    """Return whether this can be the name of a node."""
    return _NODE.fullmatch(text) is not None


def is_identity(text: str) -> bool:
    """Return whether this can be the id of a partial upload, of whatever node."""
    return _IDENTITY.fullmatch(text) is not None


def node_of(identity: str) -> str:
    """Return the node that an id names; empty if it names none, or is no id."""
    match = _IDENTITY.fullmatch(identity)
    return match[1] or "" if match else ""
