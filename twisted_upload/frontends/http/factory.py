"""
The HTTP front end: each connection carries requests, one after the other.

What a request means is up to the handler.  The behaviour of a connection is in
`twisted_upload.frontends.http.protocol`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IAddress, IReactorTime

from twisted_upload.core.outcome import UploadObserver, log_outcome
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.http.encoding import Dates, encode_response
from twisted_upload.frontends.http.exchange import Handler
from twisted_upload.frontends.http.handling import HandlingFrontend
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.protocol import HTTPConnection
from twisted_upload.frontends.http.settings import ActiveHTTPSettings, HTTPSettings
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.interfaces import IUploadStore
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.sockets import Sockets

__all__ = ["HTTPFactory"]


class HTTPFactory(HandlingFrontend):
    """
    The HTTP front end; see `Frontend` for its parts.

    :param handler: handles the requests.
    :param now: returns the time in seconds since the epoch.
    """

    settings_type = HTTPSettings

    def __init__(
        self,
        store: IUploadStore,
        clock: IReactorTime,
        settings: HTTPSettings | None = None,
        *,
        handler: Handler,
        observers: Sequence[UploadObserver] = (log_outcome,),
        name: str = "",
        slots: ConnectionSlots | None = None,
        refusals: RefusalCounter | None = None,
        sockets: Sockets | None = None,
        now: Callable[[], float],
    ) -> None:
        self.handler = handler
        self.dates = Dates(now)
        super().__init__(
            store,
            clock,
            settings,
            observers=observers,
            name=name,
            slots=slots,
            refusals=refusals,
            sockets=sockets,
        )

    def reconfigure(self, settings: HTTPSettings) -> None:
        """Apply these settings to new connections."""
        super().reconfigure(settings)
        self.gate.forwarders = settings.trust_forwarded
        self.active_settings = ActiveHTTPSettings(settings, self.clock)

    def serve(self, address: IAddress | None, slot: IConnectionSlot) -> HTTPConnection:
        """See `Frontend.serve`."""
        return HTTPConnection(self, self.active_settings, slot, address)

    def rejection(self, refusal: UploadRefused) -> bytes:
        """See `Frontend.rejection`."""
        return encode_response(problem_response(refusal), self.dates.text(), connection="close")
