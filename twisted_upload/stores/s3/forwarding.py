"""
Forwards the files of a directory store, and cleans up after itself in the object store.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.interfaces import IHookCounts, IHookThreads
from twisted_upload.hooks.marked_file import remove_file
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.stores.directory.published import forget_first_name
from twisted_upload.stores.s3.bucket import IBucket
from twisted_upload.stores.s3.cleaner import PendingCleaner
from twisted_upload.stores.s3.forward import FORWARD_JOBS, ForwardCommand, keep, runner_of
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.stores.s3.pending import PendingUploads

__all__ = ["STOP_GRACE", "Forwarding"]

STOP_GRACE = 1.0
"""Seconds for requests in progress to end, after the daemon has stopped waiting for files."""


class Forwarding:
    """
    The ``forward`` of a directory store: see `twisted_upload.stores.directory.hooks.IHooks`.

    Multipart uploads that are pending are noted in `.forward/`, and aborted if this process
    is killed before they are completed: see `twisted_upload.stores.s3.pending`.

    :param bucket: where to.
    :param requests: threads that clean up there.
    :param threads: threads for the files: for as many jobs, and one more.
    :param now: returns the time in seconds since the epoch.
    :param counts: updated with each file.
    :param node: name of this node, for the metadata of objects.
    :param remove: remove a file here when its object is stored.
    :param chance: returns a random number from 0 to 1.
    :param jobs: files that are forwarded at a time.
    """

    def __init__(
        self,
        bucket: IBucket,
        requests: IDisk,
        threads: IHookThreads,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        counts: IHookCounts,
        node: str,
        remove: bool,
        chance: Callable[[], float],
        jobs: int = FORWARD_JOBS,
    ) -> None:
        self._bucket = bucket
        self._requests = requests
        self._clock = clock
        self._now = now
        self._node = node
        self._command = ForwardCommand(
            bucket,
            node=node,
            before=forget_first_name if remove else keep,
            after=remove_file if remove else keep,
        )
        self._runner = runner_of(
            *(self._command, threads, clock, now, counts), chance=chance, jobs=jobs
        )
        self._cleaner: PendingCleaner | None = None

    def check(self) -> None:
        """See `IHooks.check`."""
        self._runner.check()

    def start(self, queue: Callable[[], HookSpool | None]) -> None:
        """
        Begin, and abort what earlier processes have left pending.

        :raises CannotStart: the folder for the notes cannot be used.
        """
        spool = queue()
        if spool is not None:
            try:
                pending = PendingUploads(
                    self._bucket, spool.folder, spool.files, self._node, self._now
                )
            except OSError as error:
                raise CannotStart(
                    f"cannot use {spool.path}/{spool.name}/{PENDING}: {error.strerror or error}"
                ) from error
            self._command.use(pending.bucket)
            self._cleaner = PendingCleaner(self._bucket.name, pending, self._requests, self._clock)
            self._cleaner.start()
        self._runner.start(queue)

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        """See `IHooks.stored`."""
        self._runner.stored(spool, marker)

    def stop(self, seconds: float) -> Deferred[None]:
        """
        See `IHooks.stop`.

        A request that does not end is abandoned: its file is forwarded after the next start.
        """
        stopped: Deferred[None] = Deferred()
        running = [self._runner.stop(seconds)]
        if self._cleaner is not None:
            running.append(self._cleaner.stop())

        def fire() -> None:
            if not stopped.called:
                stopped.callback(None)

        late = self._clock.callLater(seconds + STOP_GRACE, fire)

        def ended(_: object) -> None:
            if late.active():
                late.cancel()
            fire()

        DeferredList(running).addCallback(ended)
        return stopped
