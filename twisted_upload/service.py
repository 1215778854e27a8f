"""
The daemon as a Twisted service: what starts and stops in which order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from twisted_upload.addresses import listening_name
from twisted_upload.directory import DirectoryStore
from twisted_upload.disk import DiskThreads
from twisted_upload.errors import CannotStart
from twisted_upload.raw import UploadFactory

__all__ = ["UploadService"]

LAST_WORDS = 2.0
"""Seconds for which the daemon waits, when all uploads have ended, until the
senders have heard the last answers."""

DISK_PATIENCE = 5.0
"""Seconds for which it waits for disk threads after that; what a dead disk has
in hand then is left for the next start to remove."""


class UploadService(Service):
    """
    Ports, a raw door, a directory store and its disk threads.

    :param endpoints: what to listen on, each with its name for people.
    :param drain: seconds for which uploads in flight may go on when it stops.
    :ivar observer: writes the log of the application that this is a part of.
    """

    def __init__(
        self,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        factory: UploadFactory,
        store: DirectoryStore,
        disk: DiskThreads,
        clock: IReactorTime,
        *,
        drain: float,
    ) -> None:
        self._endpoints = endpoints
        self._factory = factory
        self._store = store
        self._disk = disk
        self._clock = clock
        self._drain = drain
        self.ports: list[IListeningPort] = []
        self.observer: ILogObserver | None = None

    @property
    def description(self) -> str:
        """One line: where it listens, and where files go."""
        where = ", ".join(listening_name(port.getHost()) for port in self.ports)
        return f"twisted-upload listens on {where}; files go to {self._store.path}"

    def bind(self) -> None:
        """
        Bind the ports, if that has not been done.

        :raises CannotStart: one of them cannot be had.
        """
        if self.ports:
            return
        for name, endpoint in self._endpoints:
            self.ports.append(_listen(name, endpoint, self._factory))

    def open(self) -> None:
        """
        Open the store, so that what is wrong with it is known early; it is
        opened again when the service starts, in the process that will serve.

        :raises CannotStart: it cannot be used.
        """
        self._store.open()

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application, whose log is then ours to write."""
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Bind the ports while it is still allowed."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.bind()

    def startService(self) -> None:
        """Serve."""
        self.bind()
        self.open()
        super().startService()  # type: ignore[no-untyped-call]
        _log.info("{description}", description=self.description)

    def stopService(self) -> Deferred[None]:
        """
        Stop: uploads in flight may finish, new ones are refused, and when the
        drain time is over, the rest is refused too.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        drained = self._factory.drain()
        if self._factory.uploads_in_flight:
            _log.info(
                "stopping: {uploads} uploads in flight may go on for {drain:g} s",
                uploads=self._factory.uploads_in_flight,
                drain=self._drain,
            )
        await self._at_most(self._drain, drained)
        self._factory.refuse_the_rest()
        await self._at_most(LAST_WORDS, self._factory.all_gone())
        await DeferredList([maybeDeferred(port.stopListening) for port in self.ports])
        self.ports = []
        self._factory.abort_the_rest()
        if await self._at_most(DISK_PATIENCE, self._disk.stop()):
            self._store.close()
        else:
            _log.warn("the disk does not answer; what it has in hand is left behind")

    async def _at_most(self, seconds: float, waiting: Deferred[None]) -> bool:
        """Wait for it, but not longer; whether it came."""
        came = True

        def give_up() -> None:
            nonlocal came
            came = False
            waiting.cancel()

        if not waiting.called:
            timer: Any = self._clock.callLater(seconds, give_up)
            try:
                await waiting
            except Exception:
                if came:
                    raise
            if timer.active():
                timer.cancel()
        return came


def _listen(name: str, endpoint: IStreamServerEndpoint, factory: UploadFactory) -> IListeningPort:
    results: list[Any] = []
    endpoint.listen(factory).addBoth(results.append)
    if not results:
        raise CannotStart(f"{name}: cannot listen: it is not ready at once")
    (result,) = results
    if isinstance(result, Failure):
        error = result.value
        reason = error.socketError if isinstance(error, CannotListenError) else error
        text = getattr(reason, "strerror", None) or str(reason)
        raise CannotStart(f"{name}: cannot listen: {text}") from error
    port: IListeningPort = result
    return port


_log = Logger()
