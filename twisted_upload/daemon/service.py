"""
The daemon as a Twisted service: what starts and stops in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from twisted_upload.daemon.listeners import ListenerService, ListenerSpec
from twisted_upload.daemon.notify import Counts, StoredCount
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.hooks.command import GRACE
from twisted_upload.net.ports import accept_no_more, accept_the_rest, take_no_more
from twisted_upload.net.timeouts import LATE
from twisted_upload.net.transport import serve_newcomers
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.stores.directory.store import DirectoryStore, undone_on_failure

if TYPE_CHECKING:  # a daemon without one does without its module
    from twisted_upload.observability.journal import Journal

__all__ = ["STOPPING", "Storage", "UploadService"]

LAST_WORDS = 2.0
"""Seconds for which the daemon waits, when all uploads have ended, until the
senders have heard the last answers."""

DISK_PATIENCE = 5.0
"""Seconds for which it waits for disk threads after that; what a dead disk has
in hand then is left for the next start to remove."""

LAST_HANDSHAKES = 0.2
"""Seconds after which connections have come that were being made when it was
told to stop, where newcomers are to go to another server."""

FIRST_BYTES = 2.0
"""Seconds for which it waits, before draining, for the first bytes of those who
have just connected, where those who come after them are not refused."""

AFTER_A_STANDSTILL = 1.0
"""Seconds for which it goes on to wait for senders when it finds that it has stood
still itself meanwhile."""

AT_ONCE = 0.25
"""Seconds of each wait that are left, when it is to end at once."""

PROGRAM_PATIENCE = GRACE + 1.0
"""Seconds after draining in which the programs of ``--on-upload`` must end."""

JOURNAL_PATIENCE = 2.0
"""Seconds for which it waits for the journal at the very last."""

STOPPING = (
    LAST_HANDSHAKES + FIRST_BYTES + PROGRAM_PATIENCE + LAST_WORDS + DISK_PATIENCE + JOURNAL_PATIENCE
)
"""Seconds that stopping takes at the most, beside draining."""


@dataclass(frozen=True)
class Storage:
    """
    One directory.

    :ivar disk: the threads that wait for it.
    :ivar stores: those that keep files in it, each in its own way.
    :ivar times: how long they wait for it, where that is measured.
    :ivar programs: what is counted of the programs of each that starts some.
    """

    path: str
    disk: DiskThreads
    stores: Sequence[DirectoryStore]
    times: DiskTimes | None = None
    programs: Sequence[ProgramCounts] = ()


class UploadService(ListenerService):
    """
    Raw doors, the directories that they fill, and their disk threads.

    :param doorways: each with an `UploadFactory`.
    :param drain: seconds for which uploads in flight, and programs, may go on when
        it stops.
    :param journal: opened and closed with it.
    :param kept: a witness of all the doors.
    :ivar doors: the factories.
    :ivar storages: the directories.
    """

    def __init__(
        self,
        specs: Sequence[ListenerSpec],
        storages: Sequence[Storage],
        clock: IReactorTime,
        *,
        drain: float,
        journal: Journal | None = None,
        kept: StoredCount | None = None,
    ) -> None:
        super().__init__(specs)
        self.frontends = [cast(UploadFactory, spec.factory) for spec in specs]
        self._kept = kept or StoredCount()
        self._at_once = False
        self._waits: set[Callable[[], None]] = set()
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

    def startService(self) -> None:
        """Serve."""
        super().startService()
        for store in self._stores():
            store.start()

    @property
    def disks(self) -> Sequence[DiskThreads]:
        """The threads that wait for each directory."""
        return [storage.disk for storage in self.storages]

    def counts(self) -> Counts:
        """What it has to do, and has done."""
        return Counts(
            sum(frontend.uploads_in_flight for frontend in self.frontends), self._kept.kept
        )

    def when_ready(self) -> Deferred[None]:
        """Fires when it serves; it has been started."""
        return succeed(None)

    def reconfigure(
        self, settings: Mapping[str, FrontendSettings], drain: float, slots: ConnectionSlots
    ) -> None:
        """
        Have other settings for whoever comes from now on.

        :param settings: of the doors, by the names of their listeners.
        :param places: of the process.
        """
        self._drain = drain
        for spec, frontend in zip(self.specs, self.frontends, strict=True):
            frontend.reconfigure(settings[spec.name])
            frontend.slots.change(slots)

    def stopService(self) -> Deferred[None]:
        """
        Stop: uploads in flight may finish, new ones are refused, and when the
        drain time is over, the rest is refused too.

        Nobody is refused who can go elsewhere: behind a load balancer, to another
        server; at a socket that somebody keeps open, to our successor, for which
        they wait in the kernel.  Those who have come but have not sent anything
        yet may begin.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def stop_listening(self) -> Deferred[Any]:
        """Give up the ports; connections stay."""
        ports, self.ports = self.ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def end_now(self) -> None:
        """While it stops: refuse what is in flight, and hardly wait for anything."""
        self._at_once = True
        for store in self._stores():
            store.stop(0.0)
        for give_up in [*self._waits]:
            give_up()

    def _stores(self) -> Iterator[DirectoryStore]:
        return (store for storage in self.storages for store in storage.stores)

    async def _stop(self) -> None:
        programs = _all(store.stop(self._drain) for store in self._stores())
        programs_end = self._clock.seconds() + self._drain + PROGRAM_PATIENCE
        await self._send_newcomers_elsewhere()
        for port in self.ports:
            serve_newcomers(port)
        drained = _all(frontend.drain() for frontend in self.frontends)
        uploads = sum(frontend.uploads_in_flight for frontend in self.frontends)
        if uploads:
            _log.info(
                "stopping: {uploads} uploads in flight may go on for {drain:g} s",
                uploads=uploads,
                drain=self._drain,
            )
        await self._at_most(self._drain, drained, AFTER_A_STANDSTILL)
        for frontend in self.frontends:
            frontend.refuse_the_rest()
        await self._at_most(LAST_WORDS, _all(frontend.all_gone() for frontend in self.frontends))
        await self.stop_listening()
        for frontend in self.frontends:
            frontend.abort_the_rest()
        left = max(0.0, programs_end - self._clock.seconds())
        if not await self._at_most(left, programs):
            _log.warn("a program does not end; it is left behind")
        # All at once: a disk that does not answer holds up no other.
        await _all(Deferred.fromCoroutine(self._close(storage)) for storage in self.storages)
        if self._journal is not None:
            await self._at_most(JOURNAL_PATIENCE, Deferred.fromCoroutine(self._journal.close()))
        await self.stop_side_services()

    async def _send_newcomers_elsewhere(self) -> None:
        """Let those begin who have come, where whoever comes from now on is not refused."""
        for port in self.lasting:
            accept_no_more(port)
        # A filter on a socket that lasts would last as well.
        proxied = [
            frontend for frontend in self.frontends if frontend.settings.trusted_proxies is not None
        ]
        leaving = [port for port in self.ports if _frontend_of(port) in proxied]
        leaving = [port for port in leaving if port not in self.lasting]
        if leaving:
            await self._leave_trusted_proxies(leaving)
        frontends = {_frontend_of(port) for port in [*self.lasting, *leaving]}
        begun = _all(frontend.all_begun() for frontend in frontends)
        await self._at_most(min(FIRST_BYTES, self._drain), begun, AFTER_A_STANDSTILL)

    async def _leave_trusted_proxies(self, leaving: Sequence[IListeningPort]) -> None:
        """
        Have load balancers take somebody else for whoever comes from now on:
        they do where no connection can be made.
        """
        for port in leaving:
            take_no_more(port)
        await self._at_most(LAST_HANDSHAKES, Deferred())
        for port in leaving:
            accept_the_rest(port)
            if port in self.ports:  # nobody has given them up meanwhile
                self.ports.remove(port)
        await DeferredList([maybeDeferred(port.stopListening) for port in leaving])

    async def _close(self, storage: Storage) -> None:
        if await self._at_most(DISK_PATIENCE, storage.disk.stop()):
            for store in storage.stores:
                store.close()
        else:
            _log.warn(
                "{path}: the disk does not answer; what it has in hand is left behind",
                path=storage.path,
            )

    async def _at_most(self, seconds: float, waiting: Deferred[Any], more: float = 0.0) -> bool:
        """
        Wait for it, but not longer; whether it came.

        :param more: seconds to wait then, where the time is found to be long over: we
            have stood still, and what senders said meanwhile has not been read.
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
            self._waits.add(give_up)
            timer = self._clock.callLater(seconds, time_is_over)
            try:
                await waiting
            except Exception:
                if came:
                    raise
            self._waits.discard(give_up)
            if timer.active():
                timer.cancel()
        return came


def _frontend_of(port: Any) -> UploadFactory:
    frontend: UploadFactory = port.factory
    return frontend


def _all(waiting: Iterable[Deferred[None]]) -> Deferred[Any]:
    """Fires when all have.  Cancel it to stop waiting."""
    return DeferredList([*waiting], consumeErrors=True)


_log = Logger()
