"""
What is the same for all senders at the raw front end, however their uploads arrive: the
answers, and the slot of the connection, which is the upload's.

Senders with a transport are in `twisted_upload.frontends.raw.protocol`, those whose
uploads were whole when they were accepted in
`twisted_upload.frontends.raw.whole_upload`.
"""

from __future__ import annotations

from typing import Any

from twisted_upload.core.answers import refused_answer, stored_answer
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.settings import ActiveSettings
from twisted_upload.frontends.sender import UploadSender
from twisted_upload.interfaces import Receipt
from twisted_upload.net.gate import IConnectionSlot

__all__ = ["Sender"]


class Sender(UploadSender):
    """
    One sender at the raw front end, and its upload, which is all that its connection is
    for.

    :param frontend: whose store stores the upload.
    :param active_settings: in force when the sender connected.
    :param slot: of its connection.
    """

    def __init__(
        self, frontend: Frontend[Any], active_settings: ActiveSettings, slot: IConnectionSlot
    ) -> None:
        settings = active_settings.settings
        super().__init__(frontend, settings, allow_empty=settings.allow_empty)
        self.slot: IConnectionSlot | None = slot
        self._active_settings = active_settings
        self._half_closed = False

    @property
    def connection(self) -> IConnection:
        """See `UploadSender.connection`."""
        return self

    @property
    def in_flight(self) -> bool:
        """Whether its upload has begun and has not ended."""
        return (self.size > 0 or self._half_closed) and not self._reported

    @property
    def is_new(self) -> bool:
        """Whether its upload has not begun yet."""
        return not self.in_flight

    def lingered(self) -> None:
        """Close the connection: the sender has had its time to read the answer."""
        self.abort()

    # ISender: called by the lifecycle

    def tell_stored(self, receipt: Receipt) -> None:
        """See `ISender.tell_stored`."""
        settings = self._active_settings.settings
        self._answer(stored_answer(receipt, settings.answer, receipts=settings.receipts))

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.tell_refused`."""
        self._answer(refused_answer(refusal))

    def _answer(self, answer: bytes) -> None:
        """Send the answer, and close."""
        raise NotImplementedError

    # Called by the timers

    def stood_still(self, now: float) -> None:
        """See `IConnection.stood_still`."""
        self._active_settings.lingering.stood_still()
        self._waiting = None

    def check(self, now: float) -> bool:
        """See `IConnection.check`."""
        return not self._answered and self._waits_for_the_store(now)
