"""
One upload that is the body of one request, or a part of it, as the lifecycle sees it.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IConsumer, IPushProducer

from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.digests import Digests
from twisted_upload.frontends.http.exchange import IBodyReader, IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.receipts import stored_response
from twisted_upload.frontends.sender import UploadSender
from twisted_upload.interfaces import Arrival, IIncomingUpload, Metadata, Receipt

__all__ = ["BodyUpload", "RequestUpload"]

HASHED = 1024 * 1024
"""Bytes of a body up to which its SHA-256 is computed without being asked for."""


class RequestUpload(UploadSender):
    """
    An upload that a request contains.

    :param exchange: the request.
    :param grant: what it may do.
    :param metadata: what it says about the file.
    :param length: of the upload in bytes, if it is known.
    :param digest: whether the store is to compute the SHA-256.
    """

    def __init__(
        self,
        exchange: IExchange,
        grant: Grant,
        metadata: Metadata,
        length: int | None,
        *,
        digest: bool,
    ) -> None:
        frontend = exchange.frontend
        settings = frontend.settings
        super().__init__(frontend, settings, allow_empty=settings.allow_empty)
        self._began_at = frontend.clock.seconds()
        self._exchange = exchange
        self._owner = grant.owner
        self._max_size = grant.limit(settings.max_size)
        self._metadata = metadata
        self._length = length
        self._digest = digest

    @property
    def peer(self) -> str:
        """See `UploadSender.peer`."""
        return self._exchange.client.peer

    @property
    def connection(self) -> IConnection:
        """See `UploadSender.connection`."""
        return self._exchange.connection

    @property
    def metadata(self) -> Metadata:
        """See `UploadSender.metadata`."""
        return self._metadata

    @property
    def max_size(self) -> int:
        """See `UploadSender.max_size`."""
        return self._max_size

    def abort(self) -> None:
        """See `UploadSender.abort`."""
        self._exchange.stopProducing()

    def arrival(self) -> Arrival:
        """See `ISender.arrival`."""
        self.frontend.progress_check.begin()
        return Arrival(
            self.peer,
            self._digest,
            self.frontend.name,
            self._length,
            self._metadata,
            self._owner,
        )


class BodyUpload(RequestUpload, IBodyReader):
    """
    The body of a request, as one upload.

    :param digests: of the body.
    """

    def __init__(
        self, exchange: IExchange, grant: Grant, metadata: Metadata, digests: Digests
    ) -> None:
        length, receipts = exchange.request.length, exchange.frontend.settings.receipts
        digest = receipts or digests.wanted == "sha-256"
        digest = digest or (length is not None and length <= HASHED)
        super().__init__(exchange, grant, metadata, length, digest=digest)
        self._digests = digests
        self._incoming: IIncomingUpload | None = None
        self._came_whole = False
        self._left = False

    # ISender: called by the lifecycle

    def began(self, incoming: IIncomingUpload) -> None:
        """See `ISender.began`."""
        if not self._came_whole:
            incoming.registerProducer(IPushProducer(self._exchange), True)
            self._incoming = incoming

    def tell_stored(self, receipt: Receipt) -> None:
        """See `ISender.tell_stored`."""
        receipt = self._with_digest(receipt)
        fields = self._digests.wanted_field(receipt.sha256)
        self._respond(stored_response(receipt, self._exchange.request.fields, fields))

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.tell_refused`."""
        self._respond(problem_response(refusal, self._exchange.request.fields))

    def tell_nothing(self) -> None:
        """See `ISender.tell_nothing`."""
        self._answered = True
        self._exchange.close()

    def report_stored(self, receipt: Receipt, *, ended_by_idle: bool, answered: bool) -> None:
        """See `ISender.report_stored`."""
        super().report_stored(
            self._with_digest(receipt), ended_by_idle=ended_by_idle, answered=answered
        )

    def _with_digest(self, receipt: Receipt) -> Receipt:
        if receipt.sha256 is not None or not self._digests:
            return receipt
        return receipt._replace(sha256=self._digests.sha256())

    def _respond(self, response: Response) -> None:
        self._answered = True
        self._exchange.respond(response)

    def _upload_ended(self) -> None:
        """End the request, which tells the front end."""
        if self._left and not self._answered:  # nobody reads it
            self._respond(Response(204))

    # IBodyReader

    @property
    def incoming(self) -> IConsumer | None:
        """See `IBodyReader.incoming`."""
        return None if self._digests or self._digest else self._incoming

    def received(self, data: bytes) -> None:
        """See `IBodyReader.received`."""
        if self._digests:
            self._digests.update(data)
        self._has_come(data)

    def spliced(self, size: int) -> None:
        """See `IBodyReader.spliced`."""
        self.size += size
        self._is_too_large()

    def ended(self, trailers: Mapping[str, str]) -> None:
        """See `IBodyReader.ended`."""
        if self._is_right(trailers):
            self._upload.ended()

    def came_whole(self, data: bytes) -> None:
        """See `IBodyReader.came_whole`."""
        self._came_whole = True
        self.size = len(data)
        if self._is_too_large():
            return
        if self._digests:
            self._digests.update(data)
            if not self._is_right({}):
                return
        self._upload.came_whole((data,))

    def _is_right(self, trailers: Mapping[str, str]) -> bool:
        """Compare the digests before the store publishes anything; refuse if one is wrong."""
        if not (self._digests or trailers):
            return True
        try:
            self._digests.verify(trailers)
        except UploadRefused as refusal:
            self.refuse(refusal)
            return False
        return True

    def broke_off(self) -> None:
        """See `IBodyReader.broke_off`."""
        self._upload.lost()

    def left(self) -> None:
        """See `IBodyReader.left`."""
        self._left = True
        self._upload.lost()

    def refused(self, refusal: UploadRefused) -> None:
        """See `IBodyReader.refused`."""
        self.refuse(refusal)

    def check(self, now: float) -> bool:
        """See `IBodyReader.check`."""
        return not self._answered and self._waits_for_the_store(now)

    def stood_still(self) -> None:
        """See `IBodyReader.stood_still`."""
        self._waiting = None
