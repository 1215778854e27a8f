"""
Leases: a node that has an upload for a long time says so, in the object store.

The list of the object store tells which multipart uploads are pending and since when, but not
whether anybody is still sending.  A node with one that is older than half an hour therefore
stores an empty object ``.leases/NODE-PERIOD`` in each period of ten minutes.  Nobody else
aborts its uploads as long as there is one of the last periods.  An object of a period is
never replaced, so that no condition, order or list decides anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from twisted_upload.disk.files import Files
from twisted_upload.stores.s3.bucket import MARK, About, IBucket
from twisted_upload.stores.s3.errors import NameTaken

__all__ = ["LEASES", "PERIOD", "Leases"]

LEASES = ".leases/"
"""What the names of leases begin with."""

PERIOD = 600
"""Seconds for which each lease is stored anew."""

_VALID = 3  # periods, with the current one: a late one, and a clock that is ahead or behind
_FORGOTTEN = 12  # periods before those in which old leases are removed


class Leases:
    """
    The leases of all nodes in one bucket.

    :param node: the name of this node.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(self, bucket: IBucket, node: str, files: Files, now: Callable[[], float]) -> None:
        self._bucket = bucket
        self._files = files
        self._node = node
        self._now = now
        self._renewed: int | None = None

    def renew(self) -> None:
        """
        Say that this node is alive, unless that was said in this period.

        :raises ObjectStoreError: it cannot be said.
        """
        period = self._period()
        if self._renewed != period:
            about = About("text/plain", {MARK: self._files.random(16).hex()})
            with contextlib.suppress(NameTaken):  # by another process of this node
                self._bucket.put(_name(self._node, period), [], about)
            self._renewed = period

    def is_alive(self, node: str) -> bool:
        """
        Return whether a node is alive, according to its last leases.

        :raises ObjectStoreError: it is not known.
        """
        last = self._period() + 1
        return any(
            self._bucket.head(_name(node, period)) is not None
            for period in range(last, last - _VALID - 1, -1)
        )

    def remove_old(self) -> None:
        """
        Remove the leases of this node that are no longer valid; to be called every hour.

        :raises ObjectStoreError: they cannot be removed.
        """
        oldest = self._period() - _VALID
        for period in range(oldest - _FORGOTTEN, oldest):
            self._bucket.remove(_name(self._node, period))

    def _period(self) -> int:
        return int(self._now() // PERIOD)


def _name(node: str, period: int) -> str:
    return f"{LEASES}{node}-{period}"
