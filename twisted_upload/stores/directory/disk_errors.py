"""
What errors of the disk mean, and how they are handled.

The rules for failures, each implemented in one place:

1. If the fsync of a file fails, that upload is refused.  The fsync is never repeated,
   because a second one may succeed although the kernel has discarded the data.
   (`twisted_upload.stores.directory.commit_batch.CommitBatch.publish` does not retry it.)
   The record of names outlives an upload: its entry is written again.
   (`twisted_upload.stores.directory.name_record.NameRecord.sync_failed`)
2. An error of the disk itself (EIO, EROFS, or any error that no rule below covers) makes
   the store unhealthy: it logs this as critical, and refuses uploads until a test of the
   whole write path has passed.  (`twisted_upload.stores.health.Health.refusal`)
3. If the disk or a quota is full, a file is too large, or there are no free inodes, that
   upload is refused with ``no-space``, its space is released at once, and everything else
   continues.  (`classify`, `PartialFile.discard`)
4. If the directory cannot be synced after publishing, the upload does not succeed, and
   the name is removed.  (`PartialFile.discard`)
5. After a crash, an upload that was not acknowledged may exist, whole; one that was
   acknowledged does exist, exactly once.
   (the order of steps in `twisted_upload.stores.directory.commit_batch`)
6. Errors of close(2) are checked too.  (`PartialFile.publish`)
"""

from __future__ import annotations

import errno

from twisted_upload.errors import Busy, NoSpace, StoreFailed
from twisted_upload.stores.health import Verdict

__all__ = ["classify", "is_full"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def is_full(error: BaseException | None) -> bool:
    """Return whether an error means that the file system, or a quota, takes no more."""
    return isinstance(error, OSError) and error.errno in _FULL


def classify(error: BaseException) -> Verdict | None:
    """Return what an error of the disk means; `None` if it is none."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if is_full(error):
        return Verdict(NoSpace())
    if error.errno in _SHORT:
        return Verdict(Busy(), told=True)
    return Verdict(StoreFailed(), unhealthy=True)
