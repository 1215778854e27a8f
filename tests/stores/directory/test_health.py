"""
What disk errors mean for the store.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import PoolStopped
from twisted_upload.stores.directory.health import Health


def test_end_of_the_daemon() -> None:
    """A job that a disk thread drops because the daemon ends does not mark the disk as failed."""
    clock = Clock()
    health = Health("/srv/inbox", ManualDisk(), clock, test=lambda: None)
    with capturedLogs() as events:
        assert health.refusal(Failure(PoolStopped())).code == "store-error"
    assert events == []
    assert health.well
    assert clock.getDelayedCalls() == []
