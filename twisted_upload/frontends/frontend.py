"""
What all front ends have in common, whatever protocol they speak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from twisted_upload.core.answers import refused_answer
from twisted_upload.core.outcome import UploadObserver, log_outcome
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.admission import Admission, ConnectionSlots
from twisted_upload.frontends.connections import Connections
from twisted_upload.frontends.gate import Gate
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.interfaces import IUploadStore
from twisted_upload.net.gate import IConnectionSlot, IGatedFactory
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.timeouts import AT_ONCE, PeriodicCheck

__all__ = ["CHECK_INTERVAL", "Frontend"]

CHECK_INTERVAL = 5.0
"""Seconds between two checks for senders and stores that are too slow."""


S = TypeVar("S", bound=FrontendSettings)


@implementer(IGatedFactory)
class Frontend(Connections, ServerFactory, Generic[S]):
    """
    A front end: its connections, and what their uploads need.

    :param store: stores the uploads.
    :param clock: times the uploads.
    :param settings: how the front end behaves.
    :param observers: are told of each upload that has ended.
    :param name: name of this listener, for people and programs.
    :param slots: the connections of the process, shared by its front ends.
    :param refusals: counts the rejected connections.
    :param sockets: the system calls of the connections.
    :cvar settings_type: the class of its settings.
    :ivar gate: decides which connections are accepted.
    :ivar settings: the settings for new connections.
    :ivar slots: the connections of the process.
    """

    noisy = False
    settings_type: type[S]

    def __init__(
        self,
        store: IUploadStore,
        clock: IReactorTime,
        settings: S | None = None,
        *,
        observers: Sequence[UploadObserver] = (log_outcome,),
        name: str = "",
        slots: ConnectionSlots | None = None,
        refusals: RefusalCounter | None = None,
        sockets: Sockets | None = None,
    ) -> None:
        super().__init__(sockets)
        self.name = name
        self.observers = observers
        self.store = store
        self.clock = clock
        self.progress_check = PeriodicCheck(clock, CHECK_INTERVAL, self._check_progress)
        self.refusals = refusals or RefusalCounter(clock)
        self.slots = slots or ConnectionSlots()
        self.gate = Gate(
            self,
            Admission(self.slots),
            self.refusals,
            clock,
            serve=self.serve,
            rejection=self.rejection,
        )
        self.reconfigure(settings or self.settings_type())

    def reconfigure(self, settings: S) -> None:
        """Apply these settings to new connections."""
        self.settings = settings
        self.gate.admission.change(settings.rules, settings.max_per_address)
        self.gate.trusted_proxies = settings.trusted_proxies

    def serve(self, address: IAddress | None, slot: IConnectionSlot) -> IProtocol:
        """
        Build the protocol for a sender that has been accepted.

        :param address: of the sender.
        :param slot: the slot of its connection, to be passed to `enter`.
        """
        raise NotImplementedError

    def rejection(self, refusal: UploadRefused) -> bytes:
        """Return what a rejected connection is sent."""
        return refused_answer(refusal)

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:  # type: ignore[override]
        """Build the protocol for one connection."""
        return self.gate.protocol_for(addr)

    def stopFactory(self) -> None:
        """Stop the checks and log the last summary: the last port has been closed."""
        self.progress_check.stop()
        self.refusals.log_summary()

    def _check_progress(self, now: float, late: bool) -> float | None:
        refused = 0
        for connection in self.all_there:
            if late:
                connection.stood_still(now)
            elif connection.check(now):
                refused += 1
                if refused == AT_ONCE:
                    return 0.0
        return CHECK_INTERVAL if self.all_there else None
