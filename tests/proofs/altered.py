"""
``python altered.py WAY twistd ...``: the real daemon with exactly one alteration, for
which there is no option, and should not be.

============================  =================================================
way                           difference from the shipped daemon
============================  =================================================
``without-directory-sync``    the directory is not synced after publishing
``without-file-sync``         files are not synced before publishing
``without-offset-sync``       offsets of partial uploads are told without a sync
``without-marker-sync``       the markers of ``--on-upload`` are not synced
``by-link``                   the file system cannot rename without replacing
``one-after-another``         each file is committed alone, after the one before
``slow-CALL``                 that call of `Files` takes two seconds
============================  =================================================
"""

from __future__ import annotations

import errno
import os
import runpy
import stat
import sys
import time
from collections.abc import Sequence
from typing import Any

from twisted_upload.daemon import stores
from twisted_upload.disk.files import Files
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.hooks.spool import HOOKS
from twisted_upload.stores.directory import group_commit
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore

__all__ = ["altered"]


def altered(way: str) -> list[str]:
    """Return the words to put before ``twistd`` to alter the daemon."""
    return [sys.executable, os.path.abspath(__file__), way]


class _NoFileSync(Files):
    def fsync(self, descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            super().fsync(descriptor)

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        for descriptor in descriptors:
            self.fsync(descriptor)
        return [None] * len(descriptors)


class _NoMarkerSync(Files):
    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        synced = [one for one in descriptors if HOOKS not in os.readlink(f"/proc/self/fd/{one}")]
        done = dict(zip(synced, super().fsync_all(synced), strict=True))
        return [done.get(descriptor) for descriptor in descriptors]


class _NoOffsetSync(Files):
    def datasync(self, descriptor: int) -> None:
        pass


class _NoRename(Files):
    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _slow(call: str) -> Files:
    files = Files()
    real = getattr(files, call)

    def slow(*arguments: Any) -> Any:
        time.sleep(2)
        return real(*arguments)

    setattr(files, call, slow)
    return files


def _replace(name: str, by: object) -> None:
    """Have the daemon built with a substitute."""
    # If the name were no longer used there, the daemon would be the shipped one.
    assert name in vars(stores), f"daemon/stores.py knows no {name}"
    vars(stores)[name] = by


def _never_later(commits: Any) -> None:
    """Have the directory synced separately, not with the files of the next batch."""
    assert "_is_for_the_next" in vars(commits)
    commits._is_for_the_next = lambda *_: False


def _main() -> None:
    way = sys.argv[1]
    changes: dict[str, Any] = {}
    if way == "without-directory-sync":
        changes["sync_folder"] = False
    elif way == "without-file-sync":
        changes["files"] = _NoFileSync()
    elif way == "without-offset-sync":
        changes["files"] = _NoOffsetSync()
    elif way == "without-marker-sync":
        changes["files"] = _NoMarkerSync()
    elif way == "by-link":
        changes["files"] = _NoRename()
    elif way == "one-after-another":
        group_commit.BATCHES_AT_A_TIME = group_commit.MOST_FILES = 1
        _never_later(group_commit.GroupCommit)
        _replace("DiskThreads", lambda reactor, _: DiskThreads(reactor, 1))
    elif way.startswith("slow-"):
        changes["files"] = _slow(way.removeprefix("slow-"))
    else:
        raise SystemExit(f"unknown way: {way}")

    def altered_store(*arguments: Any, **more: Any) -> ResumableDirectoryStore:
        return ResumableDirectoryStore(*arguments, **{**more, **changes})

    _replace("ResumableDirectoryStore", altered_store)
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
