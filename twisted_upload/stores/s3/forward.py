"""
``--forward``: each stored file becomes an object, too.

**Every acknowledged file is forwarded at least once, whatever happens to the daemon, its
machine or the object store in the meantime.**  The queue is that of `--on-upload`
(`twisted_upload.hooks.spool`), under another name: the marker of a file is as durable
as the file before the file is published, and is removed when the object store has
confirmed the object, whole.

- A file is forwarded by one process at a time: it holds the lock of its marker.
- A file that is forwarded twice, because the daemon was killed in between, becomes the same
  object: its name is that of the file, and its mark follows from the marker.
- If the object store is away, no file is set aside.  One at a time is tried until it is
  back (`twisted_upload.hooks.outage`).
- A file that the object store rejects, while it takes others, is tried again each hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from twisted_upload.disk.files import Files
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.interfaces import IHookCounts, IHookThreads
from twisted_upload.hooks.log import reason
from twisted_upload.hooks.marked_file import digest_of, open_file
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.runner import HookRunner
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.task import nothing_to_do
from twisted_upload.stores.s3.about import about_of
from twisted_upload.stores.s3.bucket import About, Buffer, Content, IBucket, ObjectHead
from twisted_upload.stores.s3.content import DescriptorFile
from twisted_upload.stores.s3.errors import NameTaken, ObjectStoreError, Rejected, Unreachable
from twisted_upload.stores.s3.forward_log import ForwardLog
from twisted_upload.stores.s3.transfer import put_file

__all__ = [
    "AGAIN_AFTER",
    "ATTEMPTS",
    "FORWARD_DEADLINE",
    "FORWARD_JOBS",
    "ForwardCommand",
    "Step",
    "keep",
    "mark_of",
    "runner_of",
]

FORWARD_DEADLINE = 10.0
"""Seconds after which no further attempt is begun for a file: then it is its queue that
tries again, and says so."""

FORWARD_JOBS = 16
"""Files that one process forwards at a time."""

ATTEMPTS = 3
"""Rejections after which a file is set aside, until it is tried again."""

AGAIN_AFTER = 3600.0
"""Seconds after which a file that was set aside is tried again."""

Step = Callable[[HookSpool, Marker], object]
"""What is done with a file before it is put, or when its object is stored.  Waits for the disk."""


def keep(spool: HookSpool, marker: Marker) -> None:
    """Leave a file as it is."""


def runner_of(
    command: ForwardCommand,
    threads: IHookThreads,
    clock: IReactorTime,
    now: Callable[[], float],
    counts: IHookCounts,
    *,
    chance: Callable[[], float],
    jobs: int = FORWARD_JOBS,
    done: Callable[[Marker], object] = lambda _: None,
) -> HookRunner:
    """
    Return what has files forwarded; see `HookRunner`.

    :param threads: for as many jobs, and one more.
    :param done: called in the reactor's thread when nothing more is to be done for a file.
    """
    return HookRunner(
        command,
        threads,
        clock,
        now,
        counts,
        jobs=jobs,
        attempts=ATTEMPTS,
        chance=chance,
        log=lambda path: ForwardLog(path, clock),
        again_after=AGAIN_AFTER,
        done=done,
    )


def mark_of(marker: Marker) -> str:
    """Return the mark of the object of a file: the same each time that it is forwarded."""
    return hashlib.sha256(f"forward {marker.identity}".encode()).hexdigest()[:32]


class ForwardCommand:
    """
    Forwards files: see `twisted_upload.hooks.interfaces.IHookCommand`.

    :param bucket: where to.
    :param node: name of this node, for the metadata of objects.
    :param before: what is done with a file before it is put.
    :param after: what is done with it when its object is stored.
    """

    def __init__(
        self, bucket: IBucket, *, node: str = "", before: Step = keep, after: Step = keep
    ) -> None:
        self._bucket = _UntilStopped(bucket)
        self._node = node
        self._before = before
        self._after = after

    def use(self, bucket: IBucket) -> None:
        """Use the same bucket through this, which notes what is begun there."""
        self._bucket = _UntilStopped(bucket)

    def check(self) -> None:
        """Do nothing: a daemon starts, and stores files, while its object store is away."""

    def start(self) -> None:
        """Do nothing: the bucket connects when there is something to forward."""

    def end_orphans(self, held: int, folder: int) -> None:
        """Do nothing: nothing that forwards outlives its daemon."""

    def stop(self) -> None:
        """Begin no more requests, but for those that are being made."""
        self._bucket.stopped = True

    def close(self) -> None:
        """See `stop`; the bucket is closed by its owner."""
        self._bucket.stopped = True

    def run(self, spool: HookSpool, marker: Marker, attempt: int, held: int) -> HookEnd:
        """
        Forward a file, and do what is to be done with it then.

        When it has succeeded, the object store has confirmed the object, whole.
        """
        files = spool.files
        began = files.monotonic()
        try:
            descriptor = open_file(spool, marker)
            if descriptor is None:
                return nothing_to_do("the file is gone")
            try:
                self._before(spool, marker)
                self._put(files, marker, descriptor)
            finally:
                files.close(descriptor)
        except (Rejected, NameTaken) as error:
            return _failure(files, str(error), began)
        except ObjectStoreError as error:
            return _failure(files, str(error), began, counts=False, concerns_all=True)
        except (OSError, ValueError) as error:
            # It says nothing about the object store.
            return _failure(
                files, f"cannot be read: {reason(error)}", began, counts=False, ran=False
            )
        try:
            self._after(spool, marker)
        except OSError as error:
            why = f"forwarded, but cannot be removed: {reason(error)}"
            return _failure(files, why, began, counts=False)
        return HookEnd("forwarded", succeeded=True, seconds=files.monotonic() - began)

    def _put(self, files: Files, marker: Marker, descriptor: int) -> None:
        status = files.status(descriptor)
        size, sha256 = status.st_size, marker.sha256
        if (size, status.st_mtime_ns) != (marker.size, marker.modified):
            sha256 = digest_of(descriptor, files)  # another program has changed it in place
        about = about_of(
            mark_of(marker),
            arrived=marker.arrived,
            sender=marker.peer,
            node=self._node,
            sha256=sha256,
            metadata=marker.metadata,
        )
        put_file(self._bucket, marker.name, DescriptorFile(files, descriptor, size), about)


class _UntilStopped:
    """
    A bucket to which nothing more is sent when the daemon stops.

    :ivar stopped: whether it does.
    """

    def __init__(self, bucket: IBucket) -> None:
        self.name = bucket.name
        self.stopped = False
        self._bucket = bucket
        self.complete, self.abort = bucket.complete, bucket.abort
        self.tag, self.remove = bucket.tag, bucket.remove
        self.pending, self.test = bucket.pending, bucket.test

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """See `IBucket.put`."""
        self._go_on()
        self._bucket.put(name, pieces, about)

    def head(self, name: str) -> ObjectHead | None:
        """See `IBucket.head`."""
        self._go_on()
        return self._bucket.head(name)

    def begin(self, name: str, about: About) -> str:
        """See `IBucket.begin`."""
        self._go_on()
        return self._bucket.begin(name, about)

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """See `IBucket.put_part`."""
        self._go_on()
        return self._bucket.put_part(name, identity, number, content, size)

    def _go_on(self) -> None:
        if self.stopped:
            raise Unreachable(f"{self.name}: stopped with the daemon")


def _failure(
    files: Files,
    what: str,
    began: float,
    *,
    ran: bool = True,
    counts: bool = True,
    concerns_all: bool = False,
) -> HookEnd:
    seconds = files.monotonic() - began
    return HookEnd(what, False, seconds, ran=ran, counts=counts, concerns_all=concerns_all)
