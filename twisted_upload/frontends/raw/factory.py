"""
The raw front end: one TCP connection is one upload.

Every byte until the sender's half-close (FIN) is the file, unchanged.  The answer
(`twisted_upload.core.answers`) follows, then the connection is closed.  The behaviour
of a connection is in `twisted_upload.frontends.raw.protocol`.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import ServerFactory

from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.protocol import UploadProtocol
from twisted_upload.frontends.raw.settings import ActiveSettings
from twisted_upload.frontends.raw.whole_upload import WholeUpload
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.net.acceptor import AcceptedConnection
from twisted_upload.net.gate import IConnectionSlot

__all__ = ["FrontendSettings", "UploadFactory", "UploadProtocol"]


class UploadFactory(Frontend, ServerFactory):
    """
    The raw front end; see `Frontend` for its parts.

    It accepts uploads that arrive whole (`IAcceptsWholeUploads`).
    """

    noisy = False

    def reconfigure(self, settings: FrontendSettings) -> None:
        """Apply these settings to new connections."""
        super().reconfigure(settings)
        self.active_settings = ActiveSettings(settings, self.clock)

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:  # type: ignore[override]
        """Build the protocol for one connection."""
        return self.gate.protocol_for(addr)

    def serve(self, address: IAddress | None, slot: IConnectionSlot) -> UploadProtocol:
        """See `Frontend.serve`."""
        return UploadProtocol(self, self.active_settings, slot, address)

    def take_whole(self, accepted_connection: AcceptedConnection, *, lost: bool) -> None:
        """See `IAcceptsWholeUploads.take_whole`."""
        WholeUpload(self, self.active_settings, accepted_connection).take(lost=lost)

    def stopFactory(self) -> None:
        """Stop: the last port has been closed."""
        self.stop_listening()
