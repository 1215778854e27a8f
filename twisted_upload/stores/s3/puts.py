"""
Complete uploads that become objects: what puts them into a bucket, and who waits for that.

A resumable upload is collected on the disk of its node.  When it is complete, it is
published in the node's directory with a marker in `.forward/`, and put into the bucket as a
forwarded file is (`twisted_upload.stores.s3.forward`).  **Its client hears success when the
object store has confirmed the object**, and, if programs are started for objects, the
marker for the program is durable.

=====================  ==================  ============  ==============================
step                   marker              file          after a crash here
=====================  ==================  ============  ==============================
publish, synced        `.forward/`         there         it is put after the next start
put                    the same            there         it is put again, as the same
                                                         object
record the program's   both queues         there         the same, and the program is
marker                                                   started once or twice
remove the file, sync  both                gone          the program is started
remove the marker      `.on-upload/`       gone          the same
answer                 the same            gone          the same
=====================  ==================  ============  ==============================

The name that its data had before it was published is removed with the file, but first, and
durably: see `twisted_upload.stores.directory.published`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import StoreFailed
from twisted_upload.hooks.folders import HOOKS
from twisted_upload.hooks.interfaces import IHookCounts, IHookThreads
from twisted_upload.hooks.marked_file import remove_file
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.runner import HookRunner
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.stores.directory.published import forget_first_name
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.s3.bucket import IBucket
from twisted_upload.stores.s3.forward import ForwardCommand, runner_of

__all__ = ["LAST_WAIT", "LOOK_PAUSES", "MOST_REMEMBERED", "WAIT", "Puts"]

WAIT = 30.0
"""Seconds that a client waits for its object; then it is told to ask again."""

LAST_WAIT = 2.0
"""The same, for a client that asks while the daemon stops."""

LOOK_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before the bucket is asked for an object that another process may be putting; the
last one repeats."""

MOST_REMEMBERED = 10_000
"""Objects that are known to be stored without asking; the oldest are forgotten."""


class Puts:
    """
    Puts complete uploads into a bucket.

    :param bucket: where to.
    :param threads: run the jobs that ask it.
    :param clock: schedules them.
    """

    def __init__(self, bucket: IBucket, threads: IDisk, clock: IReactorTime) -> None:
        self._bucket = bucket
        self._threads = threads
        self._clock = clock
        self._local: DirectoryStore | None = None
        self._command: ForwardCommand | None = None
        self._stopping = False
        self._stored: dict[str, None] = {}  # names of objects, in order
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self._later: dict[str, Deferred[None]] = {}  # in order
        self._looks: dict[str, IDelayedCall | None] = {}
        self._recorded: dict[str, tuple[HookSpool, Marker]] = {}  # by threads: for the program

    def runner(
        self,
        threads: IHookThreads,
        now: Callable[[], float],
        counts: IHookCounts,
        *,
        node: str,
        chance: Callable[[], float],
    ) -> HookRunner:
        """Return what puts the files; it is the ``forward`` of the store on disk."""
        self._command = ForwardCommand(
            self._bucket, node=node, before=forget_first_name, after=self._after
        )
        return runner_of(
            *(self._command, threads, self._clock, now, counts), chance=chance, done=self._done
        )

    def opened(self, local: DirectoryStore, bucket: IBucket) -> None:
        """
        Note where the files are, and use this bucket.

        :param bucket: the same, which notes what is begun there.
        """
        self._local = local
        if self._command is not None:
            self._command.use(bucket)

    def wait_for(self, name: str, *, begun: bool) -> Deferred[None]:
        """
        Wait until an object is stored.

        :param begun: this process is putting it at this moment.
        :return: fails with `StoreFailed` if that takes too long: it is put all the same.  If
            this process begins no more puts, it fails at once: the next daemon puts it.
        """
        done: Deferred[None] = Deferred()
        if name in self._stored:
            done.callback(None)
            return done
        if begun and self._stopping:
            done.errback(StoreFailed())
            return done
        self._waiting.setdefault(name, []).append(done)
        wait = LAST_WAIT if self._stopping else WAIT
        late = self._clock.callLater(wait, self._too_late, name, done)
        if name not in self._looks:
            self._look_later(name, LOOK_PAUSES[0] if begun else 0.0, 0)

        def over(result: object) -> object:
            if late.active():
                late.cancel()
            return result

        return done.addBoth(over)

    def later(self, name: str) -> Deferred[None] | None:
        """
        Return what fires when this process has put an object that was waited for in vain.

        If there are too many, the oldest is forgotten.

        :return: None if another request has asked for that before: an object is reported once.
        """
        if name in self._later:
            return None
        stored: Deferred[None] = Deferred()
        self._later[name] = stored
        if len(self._later) > MOST_REMEMBERED:
            del self._later[next(iter(self._later))]
        return stored

    def stop(self) -> None:
        """Note that no more puts are begun: nobody is to wait for one that is not."""
        self._stopping = True

    def close(self) -> None:
        """Let nobody wait any more."""
        for name, waiting in [*self._waiting.items()]:
            for done in [*waiting]:
                self._too_late(name, done)

    def _too_late(self, name: str, done: Deferred[None]) -> None:
        waiting = self._waiting[name]
        waiting.remove(done)
        if not waiting:
            self._end_wait(name)
        done.errback(StoreFailed())

    def _end_wait(self, name: str) -> list[Deferred[None]]:
        look = self._looks.pop(name, None)
        if look is not None and look.active():
            look.cancel()
        return self._waiting.pop(name, [])

    # Asking the bucket

    def _look_later(self, name: str, seconds: float, looks: int) -> None:
        self._looks[name] = self._clock.callLater(seconds, self._look, name, looks)

    def _look(self, name: str, looks: int) -> None:
        self._looks[name] = None
        asking = self._threads.run(lambda: self._bucket.head(name) is not None)
        # An error says nothing about the object: it is asked for again.
        asking.addErrback(lambda _: False).addCallback(self._looked, name, looks)

    def _looked(self, found: bool, name: str, looks: int) -> None:
        if found:
            self._was_put(name)
        elif name in self._waiting and self._looks.get(name) is None:
            self._look_later(name, LOOK_PAUSES[min(looks, len(LOOK_PAUSES) - 1)], looks + 1)

    def _was_put(self, name: str) -> None:
        self._stored[name] = None
        while len(self._stored) > MOST_REMEMBERED:
            del self._stored[next(iter(self._stored))]
        for done in self._end_wait(name):
            done.callback(None)
        later = self._later.pop(name, None)
        if later is not None:
            later.callback(None)

    # After a put

    def _after(self, spool: HookSpool, marker: Marker) -> None:
        """Record the marker for the program, and remove the file.  Waits for the disk."""
        local = self._local
        assert local is not None
        queue = local.queue(HOOKS)
        if queue is None and HOOKS in local.queues.names:  # the daemon is about to end
            raise OSError(errno.EBADF, "the queue of programs is closed")
        if queue is not None and not _is_recorded(queue, marker):
            url = f"{self._bucket.name.rstrip('/')}/{marker.name}"
            assert marker.sha256 is not None
            program = Marker(
                # Of the same process and moment, therefore unique in that queue, too.
                marker.identity,
                marker.listener,
                marker.peer,
                marker.arrived,
                metadata=marker.metadata,
            )
            program.is_object(url, marker.name, marker.size, marker.sha256)
            queue.record(program)
            self._recorded[marker.name] = queue, program
        remove_file(spool, marker)
        spool.sync_folder()

    def _done(self, marker: Marker) -> None:
        """Tell who waits, and have the program started."""
        self._was_put(marker.name)
        recorded = self._recorded.pop(marker.name, None)
        if recorded is not None and self._local is not None:
            self._local.tell_stored(*recorded)


def _is_recorded(queue: HookSpool, marker: Marker) -> bool:
    """Return whether this process has recorded it before, or taken it over, whole."""
    try:
        return queue.read(Marker(marker.identity))
    except (FileNotFoundError, ValueError):
        return False
