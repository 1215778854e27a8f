"""
Requests for partial uploads of other nodes: the load balancer should not have sent them here.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_upload.core.nodes import node_of

__all__ = ["MisroutedLog"]

EVERY = 60.0
"""Seconds between two lines, at least: anybody may make up an id."""


class MisroutedLog:
    """
    Tells the operator that requests for uploads of other nodes arrive here.

    The sender is not told: it hears that there is no such upload, and begins anew.

    :param path: of the store, for the log.
    :param node: this node; if it is empty, nothing is logged.
    """

    def __init__(self, path: str, node: str, clock: IReactorTime) -> None:
        self._path = path
        self._node = node
        self._clock = clock
        self._next: float | None = None
        self._number = 0

    def missed(self, identity: str) -> None:
        """Note that there is no upload with this id, which may be any text."""
        node = node_of(identity)
        if not self._node or node in ("", self._node):
            return
        self._number += 1
        now = self._clock.seconds()
        if self._next is not None and now < self._next:
            return
        self._next = now + EVERY
        number, self._number = self._number, 0
        _log.warn(
            "{path}: {number} for partial uploads that are not here, the last one for node {other},"
            " but this is {node}: does the load balancer route by the id?",
            path=self._path,
            number="1 request" if number == 1 else f"{number} requests",
            other=node,
            node=self._node,
        )


_log = Logger()
