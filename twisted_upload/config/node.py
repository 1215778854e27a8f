"""
The default of ``--node``.
"""

from __future__ import annotations

import re

from twisted_upload.core.nodes import LONGEST_NODE

__all__ = ["default_node"]


def default_node(host: str) -> str:
    """
    Return the name of a node whose machine has this host name.

    It is the first label of the host name, in lower case; whatever is not allowed in the
    name of a node becomes a hyphen.  The machine keeps its node as long as it keeps its
    host name.

    :return: empty if nothing is left: then the operator has to name the node.
    """
    label = host.partition(".")[0].lower()
    return re.sub("[^a-z0-9]+", "-", label).strip("-")[:LONGEST_NODE].rstrip("-")
