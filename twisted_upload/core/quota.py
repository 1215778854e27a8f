"""
Quotas: how many uploads an owner may make, as part of its name.

The name of an owner goes through the stores as it is, also through those of partial
uploads, which may outlive the daemon.  So a store knows the quota wherever it meets the
owner, and needs nobody to tell it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["INVITATION", "MOST_UPLOADS", "Quota", "quota_of"]

INVITATION = "invitation"
"""The kind of owner that may have a quota."""

MOST_UPLOADS = 10_000
"""The largest quota."""

_OWNER = re.compile(rf"{INVITATION}:([0-9a-f]{{24}}):([1-9][0-9]{{0,4}}):([0-9]{{1,12}})\Z")


class Quota(NamedTuple):
    """
    How many uploads an owner may make.

    :ivar nonce: of the invitation: 24 lower-case hexadecimal digits.
    :ivar uploads: their number, 1 to `MOST_UPLOADS`.
    :ivar expires: when it may be forgotten: seconds since the epoch.
    """

    nonce: str
    uploads: int
    expires: int

    @property
    def owner(self) -> str:
        """The name of the owner."""
        return f"{INVITATION}:{self.nonce}:{self.uploads}:{self.expires}"


def quota_of(owner: str) -> Quota | None:
    """Return the quota of an owner; `None` if it has none."""
    found = _OWNER.match(owner)
    if found is None:
        return None
    return Quota(found[1], min(int(found[2]), MOST_UPLOADS), int(found[3]))
