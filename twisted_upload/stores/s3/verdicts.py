"""
What errors of an object store mean for its senders, and for the store as a whole.

- It cannot be reached, or lets us do nothing: the store is unhealthy, and refuses uploads
  until a test has passed.
- It asks for fewer requests: that upload is refused with ``busy``, and everything else
  continues.
- It refuses one request: that upload is refused, and everything else continues.
"""

from __future__ import annotations

from twisted_upload.errors import Busy, StoreFailed
from twisted_upload.stores.health import Verdict
from twisted_upload.stores.s3.errors import Denied, ObjectStoreError, Throttled, Unreachable

__all__ = ["classify"]


def classify(error: BaseException) -> Verdict | None:
    """Return what an error of an object store means; `None` if it is none."""
    if not isinstance(error, ObjectStoreError):
        return None
    if isinstance(error, Throttled):
        return Verdict(Busy("the storage of this server is busy; try again later"), told=True)
    return Verdict(StoreFailed(), unhealthy=isinstance(error, (Unreachable, Denied)), told=True)
