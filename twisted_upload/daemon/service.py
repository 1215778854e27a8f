"""
The daemon as a Twisted service: what starts and stops, in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_upload.core.text import counted
from twisted_upload.daemon.listeners import BoundPort, ListenerService, ListenerSpec
from twisted_upload.daemon.notify import Counts, StoredCount
from twisted_upload.daemon.storage import IStore, ObjectStorage, Storage, undone_on_failure
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.hooks.command import GRACE
from twisted_upload.net.ports import accept_the_rest, drop_new_connections, stop_accepting
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.timeouts import LATE
from twisted_upload.net.transport import serve_accepted

if TYPE_CHECKING:  # imported at run time only if there is a journal
    from twisted_upload.observability.journal import Journal

__all__ = ["MAX_STOP_TIME", "UploadService"]

ANSWERS_TIMEOUT = 2.0
"""Seconds for which the daemon waits, when all uploads have ended, for the senders to
receive the last answers."""

DISK_TIMEOUT = 5.0
"""Seconds for which it waits for disk threads after that; whatever is pending on a dead
disk then is left for the next start to remove."""

OBJECTS_TIMEOUT = 3.0
"""Seconds of these for which it waits for the threads of an object store first; whatever is
pending there then is left for the next start to abort."""

HANDSHAKES_TIMEOUT = 0.2
"""Seconds that connections get to complete their handshake if they began it before the
stop and new connections are to go to another server."""

FIRST_BYTES_TIMEOUT = 2.0
"""Seconds for which it waits, before draining, for the first bytes of new connections,
if later connections can be served elsewhere."""

EXTRA_AFTER_STANDSTILL = 1.0
"""Seconds for which it continues to wait for senders if it was itself stalled during
the wait."""

AT_ONCE = 0.25
"""Seconds to which each wait is shortened when it must end at once."""

PROGRAMS_TIMEOUT = GRACE + 1.0
"""Seconds after draining within which the programs of ``--on-upload`` must end."""

JOURNAL_TIMEOUT = 2.0
"""Seconds for which it waits for the journal at the end."""

MAX_STOP_TIME = (
    HANDSHAKES_TIMEOUT
    + FIRST_BYTES_TIMEOUT
    + PROGRAMS_TIMEOUT
    + ANSWERS_TIMEOUT
    + DISK_TIMEOUT
    + JOURNAL_TIMEOUT
)
"""Maximum number of seconds that stopping takes, besides draining."""


class UploadService(ListenerService[Frontend[Any]]):
    """
    Front ends, the directories they store to, and their disk threads.

    :param specs: the listeners, each with its front end.
    :param drain: seconds for which uploads in flight and programs may continue when
        it stops.
    :param journal: opened and closed with the service.
    :param stored: an observer of all front ends.
    :param sockets: the system calls of connections.
    :ivar frontends: the front ends of the listeners.
    :ivar storages: the directories.
    """

    def __init__(
        self,
        specs: Sequence[ListenerSpec[Frontend[Any]]],
        storages: Sequence[Storage],
        clock: IReactorTime,
        *,
        drain: float,
        journal: Journal | None = None,
        stored: StoredCount | None = None,
        sockets: Sockets | None = None,
    ) -> None:
        super().__init__(specs, sockets)
        self.frontends = [spec.frontend for spec in specs]
        self._stored = stored or StoredCount()
        self._at_once = False
        self._waits: dict[Callable[[], None], None] = {}  # in an order that can be repeated
        self.storages = storages
        self._clock = clock
        self._drain = drain
        self._journal = journal

    def open(self) -> None:
        """See `ListenerService.open`."""
        stores = [*self._stores()]
        with undone_on_failure(stores):
            for store in stores:
                store.open()
            if self._journal is not None:
                self._journal.open()

    def start_stores(self) -> None:
        """See `ListenerService.start_stores`."""
        for store in self._stores():
            store.start()

    @property
    def disks(self) -> Sequence[DiskThreads]:
        """The disk threads of each directory."""
        return [storage.disk for storage in self.storages]

    def counts(self) -> Counts:
        """Count uploads in flight and stored uploads."""
        return Counts(
            sum(frontend.uploads_in_flight for frontend in self.frontends), self._stored.number
        )

    def when_ready(self) -> Deferred[None]:
        """See `IDaemon.when_ready`; it serves as soon as it has been started."""
        return succeed(None)

    def reconfigure(
        self, settings: Mapping[str, FrontendSettings], drain: float, slots: ConnectionSlots
    ) -> None:
        """
        Apply other settings to new connections.

        :param settings: the settings of each front end, by listener name.
        :param slots: the slots of the process.
        """
        self._drain = drain
        for spec in self.specs:
            frontend = spec.frontend
            frontend.reconfigure(settings[spec.name])
            frontend.slots.change(slots)

    def stopService(self) -> Deferred[None]:
        """
        Stop: uploads in flight may finish, new ones are refused, and when the drain time
        is over, the rest are refused too.

        No sender is refused that can be served elsewhere: behind a load balancer, by
        another server; on a socket that stays open, by the next daemon, for which
        connections wait in the kernel.  Senders that have connected but not sent
        anything yet may begin.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def end_now(self) -> None:
        """Refuse uploads in flight, and cut all waits short; called while it stops."""
        self._at_once = True
        for store in self._stores():
            store.stop(0.0)
        for give_up in [*self._waits]:
            give_up()

    def _stores(self) -> Iterator[IStore]:
        return (store for storage in self.storages for store in storage.in_front)

    async def _stop(self) -> None:
        programs = _all(store.stop(self._drain) for store in self._stores())
        programs_end = self._clock.seconds() + self._drain + PROGRAMS_TIMEOUT
        await self._stop_accepting()
        for bound in self.ports:
            if bound.is_open:
                serve_accepted(bound.port)
        drained = _all(frontend.drain() for frontend in self.frontends)
        uploads = sum(frontend.uploads_in_flight for frontend in self.frontends)
        if uploads:
            _log.info(
                "stopping: {uploads} in flight, {drain:g} s to finish",
                uploads=counted(uploads, "upload"),
                drain=self._drain,
            )
        await self._wait(self._drain, drained, EXTRA_AFTER_STANDSTILL)
        for frontend in self.frontends:
            frontend.refuse_the_rest()
        answered = _all(frontend.all_gone() for frontend in self.frontends)
        await self._wait(ANSWERS_TIMEOUT, answered)
        await self.close_ports()
        for frontend in self.frontends:
            frontend.abort_the_rest()
        left = max(0.0, programs_end - self._clock.seconds())
        if not await self._wait(left, programs):
            _log.warn("an on-upload program is not exiting; abandoning it")
        # All at once: a disk that does not respond does not block the others.
        await _all(Deferred.fromCoroutine(self._close(storage)) for storage in self.storages)
        if self._journal is not None:
            await self._wait(JOURNAL_TIMEOUT, Deferred.fromCoroutine(self._journal.close()))
        await self.stop_side_services()
        self.ports = []

    async def _stop_accepting(self) -> None:
        """
        Leave new connections that can be served elsewhere to others, and let those that
        were accepted begin their uploads.
        """
        lasting = [bound for bound in self.ports if bound.lasting]
        for bound in lasting:
            stop_accepting(bound.port)
        # On a socket that stays open, a filter would stay too.
        proxied = [
            bound
            for bound in self.ports
            if bound.is_open and not bound.lasting and bound.frontend.gate.behind_proxies
        ]
        if proxied:
            await self._stop_accepting_from_proxies(proxied)
        frontends = dict.fromkeys(bound.frontend for bound in [*lasting, *proxied])
        begun = _all(frontend.all_begun() for frontend in frontends)
        await self._wait(min(FIRST_BYTES_TIMEOUT, self._drain), begun, EXTRA_AFTER_STANDSTILL)

    async def _stop_accepting_from_proxies(
        self, leaving: Sequence[BoundPort[Frontend[Any]]]
    ) -> None:
        """
        Make load balancers use another server: they do if they cannot connect.
        """
        for bound in leaving:
            drop_new_connections(bound.port, self._sockets)
        await self._wait(HANDSHAKES_TIMEOUT, Deferred())
        for bound in leaving:
            accept_the_rest(bound.port, self._sockets)
        await DeferredList([bound.close() for bound in leaving])

    async def _close(self, storage: Storage) -> None:
        end = self._clock.seconds() + DISK_TIMEOUT
        if storage.objects is not None:
            await self._stop_requests(storage.objects)
        if await self._wait(end - self._clock.seconds(), storage.disk.stop()):
            for store in storage.in_front:
                store.close()
        else:
            _log.warn(
                "{path}: the disk is not responding; abandoning its pending operations",
                path=storage.path,
            )

    async def _stop_requests(self, objects: ObjectStorage) -> None:
        # Before the disk threads, which have jobs that follow from theirs.
        if not await self._wait(OBJECTS_TIMEOUT, objects.threads.stop()):
            _log.warn(
                "{path}: the object store is not responding; abandoning its pending operations",
                path=objects.path,
            )
        objects.give_up()

    async def _wait(self, seconds: float, waiting: Deferred[Any], more: float = 0.0) -> bool:
        """
        Wait for a Deferred, but not longer than this; return whether it fired.

        :param more: further seconds to wait if the time is found to be long over: we
            were stalled, and what senders sent meanwhile has not been read.
        """
        came = True
        due = self._clock.seconds() + seconds
        timer: Any = None

        def give_up() -> None:
            nonlocal came
            came = False
            waiting.cancel()

        def time_is_over() -> None:
            nonlocal timer
            if more and self._clock.seconds() - due > LATE:
                timer = self._clock.callLater(more, give_up)
            else:
                give_up()

        if not waiting.called:
            if self._at_once:
                seconds = min(seconds, AT_ONCE)
            self._waits[give_up] = None
            timer = self._clock.callLater(seconds, time_is_over)
            try:
                await waiting
            except Exception:
                if came:
                    raise
            self._waits.pop(give_up, None)
            if timer.active():
                timer.cancel()
        return came


def _all(waiting: Iterable[Deferred[None]]) -> Deferred[Any]:
    """Return a Deferred that fires when all have fired; cancel it to stop waiting."""
    return DeferredList([*waiting], consumeErrors=True)


_log = Logger()
