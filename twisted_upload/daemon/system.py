"""
What a process gets from its kernel, besides its reactor: system calls, threads, the time of
day, programs, object stores.

The composition root asks a `System` for them, and nobody else.  So all of them can be
replaced together, and everything above them runs as it is.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

from twisted_upload.config.listener import Listener
from twisted_upload.daemon.process import raise_limit
from twisted_upload.disk.files import Files
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.disk.timed_files import TimedFiles
from twisted_upload.net.sockets import Sockets
from twisted_upload.observability.counters import LAG_INTERVAL, DiskTimes

if TYPE_CHECKING:  # imported at run time only if there is a program, an object store
    from twisted_upload.core.object_url import ObjectURL
    from twisted_upload.hooks.command import HookCommand
    from twisted_upload.observability.object_counts import RequestCounts
    from twisted_upload.stores.s3.s3_bucket import S3Bucket

__all__ = ["System"]


class System:
    """
    The real one.

    Nothing here opens a file, or starts a thread or a program: what it returns does, when
    it is used.

    :ivar lag_interval: seconds between two looks at how late the reactor is, if that is
        reported.
    """

    lag_interval: float = LAG_INTERVAL

    def now(self) -> float:
        """Return the time of day, in seconds since the epoch."""
        return time.time()

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()  # noqa: S311 - it spreads attempts

    def files(self, times: DiskTimes | None = None) -> Files:
        """
        Make the system calls for a disk.

        :param times: are told how long they take.
        """
        return Files() if times is None else TimedFiles(times.fsync.observe, times.publish.observe)

    def threads(self, reactor: Any, size: int, name: str = "disk") -> DiskThreads:
        """Make a pool of threads; see `DiskThreads`."""
        return DiskThreads(reactor, size, name)

    def descriptors(self) -> int:
        """Raise the limit of file descriptors of this process; return it."""
        return raise_limit()

    def sockets(self) -> Sockets:
        """Make the system calls for connections."""
        return Sockets()

    def hook_command(self, listener: Listener) -> HookCommand | None:
        """Make what starts the program of a listener, if it has one."""
        settings = listener.settings
        if not settings.on_upload:
            return None
        from twisted_upload.hooks.command import HookCommand  # noqa: PLC0415

        return HookCommand(settings.on_upload, settings.on_upload_timeout, os.environ)

    def bucket(self, url: ObjectURL, counts: RequestCounts | None, deadline: float) -> S3Bucket:
        """
        Make the client of an object store; see `S3Bucket`.

        Its libraries are imported now: twistd may fork after it.
        """
        from twisted_upload.stores.s3.access import import_libraries  # noqa: PLC0415
        from twisted_upload.stores.s3.s3_bucket import S3Bucket  # noqa: PLC0415

        import_libraries()
        return S3Bucket(url, counts, deadline=deadline)
