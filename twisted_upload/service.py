"""
The daemon as a Twisted service: what starts and stops in which order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger

from twisted_upload.binding import Listening
from twisted_upload.directory import DirectoryStore
from twisted_upload.disk import DiskThreads
from twisted_upload.raw import UploadFactory

__all__ = ["STOPPING", "UploadService"]

LAST_WORDS = 2.0
"""Seconds for which the daemon waits, when all uploads have ended, until the
senders have heard the last answers."""

DISK_PATIENCE = 5.0
"""Seconds for which it waits for disk threads after that; what a dead disk has
in hand then is left for the next start to remove."""

STOPPING = LAST_WORDS + DISK_PATIENCE
"""Seconds that stopping takes at the most, beside draining."""


class UploadService(Listening):
    """
    Ports, a raw door, a directory store and its disk threads.

    :param drain: seconds for which uploads in flight may go on when it stops.
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
        super().__init__(endpoints, factory, store.path)
        self._door = factory
        self._store = store
        self._disk = disk
        self._clock = clock
        self._drain = drain

    def open(self) -> None:
        """See `Listening.open`."""
        self._store.open()

    def stopService(self) -> Deferred[None]:
        """
        Stop: uploads in flight may finish, new ones are refused, and when the
        drain time is over, the rest is refused too.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def stop_listening(self) -> Deferred[Any]:
        """Give up the ports; connections stay."""
        ports, self.ports = self.ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    async def _stop(self) -> None:
        drained = self._door.drain()
        if self._door.uploads_in_flight:
            _log.info(
                "stopping: {uploads} uploads in flight may go on for {drain:g} s",
                uploads=self._door.uploads_in_flight,
                drain=self._drain,
            )
        await self._at_most(self._drain, drained)
        self._door.refuse_the_rest()
        await self._at_most(LAST_WORDS, self._door.all_gone())
        await self.stop_listening()
        self._door.abort_the_rest()
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


_log = Logger()
