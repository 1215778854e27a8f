"""
The raw front end: one TCP connection is one upload.

Every byte until the sender's half-close (FIN) is the file, unchanged.  The answer
(`twisted_upload.core.answers`) follows, then the connection is closed.  The behaviour
of a connection is in `twisted_upload.frontends.raw.protocol`.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress

from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.protocol import UploadProtocol
from twisted_upload.frontends.raw.settings import ActiveSettings, RawSettings
from twisted_upload.frontends.raw.whole_upload import WholeUpload
from twisted_upload.net.acceptor import AcceptedConnection
from twisted_upload.net.gate import IConnectionSlot

__all__ = ["UploadFactory", "UploadProtocol"]


class UploadFactory(Frontend[RawSettings]):
    """
    The raw front end; see `Frontend` for its parts.

    It accepts uploads that arrive whole (`IAcceptsWholeUploads`).
    """

    settings_type = RawSettings

    def reconfigure(self, settings: RawSettings) -> None:
        """Apply these settings to new connections."""
        super().reconfigure(settings)
        self.active_settings = ActiveSettings(settings, self.clock)

    def serve(self, address: IAddress | None, slot: IConnectionSlot) -> UploadProtocol:
        """See `Frontend.serve`."""
        return UploadProtocol(self, self.active_settings, slot, address)

    def take_whole(self, accepted_connection: AcceptedConnection, *, lost: bool) -> None:
        """See `IAcceptsWholeUploads.take_whole`."""
        WholeUpload(self, self.active_settings, accepted_connection).take(lost=lost)
