"""
Objects whose senders were refused are removed.
"""

from __future__ import annotations

from twisted.internet.task import Clock

from twisted_upload.disk.testing import ManualDisk
from twisted_upload.stores.s3.cleanup import INTERVAL, Cleanup
from twisted_upload.stores.s3.errors import Denied


class Discarded:
    """An upload that was not stored; its object may be locked."""

    def __init__(self, *, locked: bool = False) -> None:
        self.locked = locked
        self.is_removed = False

    def discard(self) -> None:
        """Remove its object."""
        if self.locked:
            raise Denied("s3://bucket: remove: 403 AccessDenied")
        self.is_removed = True


def test_one_cannot_be_removed() -> None:
    """An object that cannot be removed does not keep the others from being removed."""
    threads, clock = ManualDisk(), Clock()
    cleanup = Cleanup("s3://bucket", threads, clock)
    uploads = [Discarded(locked=True) for _ in range(3)]
    for upload in uploads:
        cleanup.discard(upload)
    threads.work()
    uploads[1].locked = uploads[2].locked = False
    for _ in range(2):
        clock.advance(INTERVAL)
        threads.work()
    assert [upload.is_removed for upload in uploads] == [False, True, True]
    assert [*cleanup.left] == [uploads[0]]
    uploads[0].locked = False
    clock.advance(INTERVAL)
    threads.work()
    assert uploads[0].is_removed
    assert not cleanup.left
    cleanup.stop()
