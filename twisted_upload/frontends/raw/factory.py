"""
The raw door: one TCP connection is one upload.

Every byte until the sender's half-close (FIN) is the file, unchanged.  The
answer (`twisted_upload.core.answers`) follows, then the connection closes.  What a
connection does is in `twisted_upload.frontends.raw.protocol`; here is what they share.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from twisted_upload.core.outcome import UploadObserver, log_end
from twisted_upload.frontends.admission import Admission, ConnectionSlots
from twisted_upload.frontends.connections import Connections
from twisted_upload.frontends.gate import Gate
from twisted_upload.frontends.raw.protocol import UploadProtocol
from twisted_upload.frontends.raw.sender import Sender
from twisted_upload.frontends.raw.terms import ActiveSettings
from twisted_upload.frontends.raw.whole_upload import WholeUpload
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.interfaces import IUploadStore
from twisted_upload.net.acceptor import AcceptedConnection
from twisted_upload.net.timeouts import AT_ONCE, PeriodicCheck
from twisted_upload.net.tls.endpoints import IGated

__all__ = ["FrontendSettings", "UploadFactory", "UploadProtocol"]

LOOK_INTERVAL = 5.0
"""Seconds between two looks at who is too slow, and for whom the store is."""


@implementer(IGated)
class UploadFactory(Connections, ServerFactory):
    """
    The raw door.

    :param store: what keeps the uploads.
    :param clock: times them.
    :param settings: how it behaves.
    :param witnesses: are told of each upload that has ended.
    :param name: of this listener, for people and their programs.
    :param places: of the process, shared by its doors.
    :param refusals: counts whom it turns away.
    """

    noisy = False

    def __init__(
        self,
        store: IUploadStore,
        clock: IReactorTime,
        settings: FrontendSettings | None = None,
        *,
        observers: Sequence[UploadObserver] = (log_end,),
        name: str = "",
        slots: ConnectionSlots | None = None,
        refusals: RefusalCounter | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.observers = observers
        self.store = store
        self.clock = clock
        self.rounds = PeriodicCheck(clock, LOOK_INTERVAL, self._look)
        self.refusals = refusals or RefusalCounter(clock)
        self.gate = Gate(self, Admission(slots), self.refusals, clock, serve=self._serve)
        # See `IAcceptsWholeUploads`.
        self.lets_in = self.gate.lets_in
        self.hold_place = self.gate.admission.enter
        self.give_place_back = self.gate.admission.leave
        self.reconfigure(settings or FrontendSettings())

    def reconfigure(self, settings: FrontendSettings) -> None:
        """Have these settings for whoever comes from now on."""
        self.settings = settings
        self.gate.admission.change(settings.rules, settings.max_per_address)
        self.gate.trusted_proxies = settings.trusted_proxies
        self.active_settings = ActiveSettings(
            settings,
            self.clock,
            idle_for_too_long=UploadProtocol.idle_for_too_long,
            fell_silent=UploadProtocol.fell_silent,
            lingered=lambda sender: sender.lingered(),
            unread=UploadProtocol.has_unread,
        )

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:  # type: ignore[override]
        """One protocol for one connection."""
        return self.gate.protocol_for(addr)

    def take_whole(self, accepted_connection: AcceptedConnection, *, lost: bool) -> None:
        """See `IAcceptsWholeUploads.take_whole`."""
        WholeUpload(self, accepted_connection).take(lost=lost)

    def stopFactory(self) -> None:
        """The last of its ports is closed."""
        self.rounds.stop()
        self.refusals.tell()

    def _serve(self, address: IAddress | None, group: str | None) -> UploadProtocol:
        return UploadProtocol(self, address, group)

    def _look(self, now: float, late: bool) -> float | None:
        refused = 0
        for protocol in self.all_there:
            if not isinstance(protocol, Sender):
                continue
            if late:
                protocol.stood_still(now)
            elif protocol.look(now):
                refused += 1
                if refused == AT_ONCE:
                    return 0.0
        return LOOK_INTERVAL if self.all_there else None
