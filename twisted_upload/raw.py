"""
The raw door: one TCP connection is one upload.

Every byte until the sender's half-close (FIN) is the file, unchanged.  The
answer (`twisted_upload.answers`) follows, then the connection closes.  What a
connection does is in `twisted_upload.sender`; here is what they share.
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

from twisted_upload.admission import Admission, Places
from twisted_upload.connections import Connections
from twisted_upload.doorstep import Newcomer
from twisted_upload.ends import Witness, log_end
from twisted_upload.gate import Gate
from twisted_upload.interfaces import IUploadStore
from twisted_upload.limits import AT_ONCE, Rounds
from twisted_upload.refusals import Refusals
from twisted_upload.sender import UploadProtocol
from twisted_upload.sender_base import Sender
from twisted_upload.settings import DoorSettings
from twisted_upload.terms import Terms
from twisted_upload.tls_endpoints import IGated
from twisted_upload.whole import WholeUpload

__all__ = ["DoorSettings", "UploadFactory", "UploadProtocol"]

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
        settings: DoorSettings | None = None,
        *,
        witnesses: Sequence[Witness] = (log_end,),
        name: str = "",
        places: Places | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.witnesses = witnesses
        self.store = store
        self.clock = clock
        self.rounds = Rounds(clock, LOOK_INTERVAL, self._look)
        self.refusals = refusals or Refusals(clock)
        self.gate = Gate(self, Admission(places), self.refusals, clock, serve=self._serve)
        # See `ITakesWhole`.
        self.lets_in = self.gate.lets_in
        self.hold_place = self.gate.admission.enter
        self.give_place_back = self.gate.admission.leave
        self.behave(settings or DoorSettings())

    def behave(self, settings: DoorSettings) -> None:
        """Have these settings for whoever comes from now on."""
        self.settings = settings
        self.gate.admission.change(settings.rules, settings.max_per_address)
        self.gate.balancers = settings.balancers
        self.terms = Terms(
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

    def take_whole(self, newcomer: Newcomer, *, lost: bool) -> None:
        """See `ITakesWhole.take_whole`."""
        WholeUpload(self, newcomer).take(lost=lost)

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
