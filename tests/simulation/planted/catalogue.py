"""
All planted bugs.
"""

from __future__ import annotations

from tests.simulation.planted import connections, found, partials, queues, write_path
from tests.simulation.planted.bug import Bug

__all__ = ["CATALOGUE", "SOON_FOUND"]

CATALOGUE: dict[str, Bug] = {
    bug.name: bug
    for bug in (*write_path.BUGS, *partials.BUGS, *connections.BUGS, *queues.BUGS, *found.BUGS)
}
"""By name."""

SOON_FOUND = (
    "file-not-synced",
    "folder-not-synced",
    "rename-before-sync",
    "file-sync-error-ignored",
    "sync-repeated-until-it-works",
    "short-write-taken-for-all",
    "rest-after-short-write-shifted",
    "aborted-upload-committed",
    "pieces-in-wrong-order",
    "digest-of-first-piece",
    "sweep-stops-at-foreign-name",
    "temporary-file-of-discarded-left",
    "memory-of-written-bytes-kept",
    "memory-of-aborted-kept",
    "partial-data-not-synced",
    "record-not-synced",
    "creation-not-synced",
    "offset-in-record-off-by-one",
    "resumed-from-the-beginning",
    "stale-offset-accepted",
    "turn-not-taken",
    "checksum-not-verified",
    "parts-in-wrong-order",
    "removal-takes-stored-file",
    "reset-taken-for-half-close",
    "reset-before-accept-taken-for-half-close",
    "nothing-there-taken-for-end",
    "nothing-there-taken-for-end-at-accept",
    "aborted-not-reported",
    "stored-upload-reported-twice",
    "completed-and-not-published",
    "next-idle-timeout-not-started",
    "hang-up-of-unix-socket-ignored",
    "lingering-without-deadline",
)
"""Names of those that take some seconds, so that CI can plant a few of them."""
