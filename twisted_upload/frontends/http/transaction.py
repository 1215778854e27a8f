"""
One request of a connection: passes its body to a reader, and its response to the
connection.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from twisted_upload.core.text import format_duration
from twisted_upload.errors import BadRequest, StoreFailed, TimedOut, UploadRefused
from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.body import ChunkedBody, InvalidBody
from twisted_upload.frontends.http.connection import IHTTPConnection
from twisted_upload.frontends.http.exchange import Client, IBodyReader
from twisted_upload.frontends.http.messages import Request, Response
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE, slower_than
from twisted_upload.frontends.splice import SocketSplice, splice_for, worth_it
from twisted_upload.interfaces import SpliceResult
from twisted_upload.net.half_close import unread_size
from twisted_upload.net.timeouts import MinimumRate, StoreTimeout

__all__ = ["IHTTPConnection", "Transaction"]


@implementer(IPushProducer)
class Transaction:
    """
    One request: see `twisted_upload.frontends.http.exchange.IExchange`.

    :param http: its connection.
    :ivar receiving: whether the reader waits for bytes of the body.
    :ivar complete: whether all of the body has been passed to the reader.
    :ivar over: whether there is a response, or nobody to respond to.
    :ivar fields: header fields that its response will have in addition.
    :ivar reader: of the body, once it has been accepted, and until the end.
    :ivar size: bytes of the body that have arrived.
    :ivar paused: whether the consumer of the body has paused it.
    """

    __slots__ = (
        "_chunked",
        "_http",
        "_may_store",
        "_rate",
        "_splice",
        "_waiting",
        "complete",
        "fields",
        "over",
        "paused",
        "reader",
        "receiving",
        "request",
        "size",
    )

    def __init__(self, http: IHTTPConnection[Transaction], request: Request) -> None:
        self.request = request
        self.fields: tuple[tuple[str, str], ...] = ()
        self.receiving = False
        self.complete = False
        self.over = False
        self.paused = False
        self.size = 0
        self._may_store = False
        self._http = http
        self.reader: IBodyReader | None = None
        self._chunked: ChunkedBody | None = None
        self._rate: MinimumRate | None = None
        self._splice: SocketSplice | None = None
        self._waiting: StoreTimeout | None = None

    # IExchange

    @property
    def client(self) -> Client:
        """See `IExchange.client`."""
        return self._http.client

    @property
    def connection(self) -> IConnection:
        """See `IExchange.connection`."""
        return self._http

    @property
    def frontend(self) -> Frontend[HTTPSettings]:
        """See `IExchange.frontend`."""
        return self._http.frontend

    def add_fields(self, *fields: tuple[str, str]) -> None:
        """See `IExchange.add_fields`."""
        self.fields += fields

    def accept_body(self, reader: IBodyReader) -> None:
        """See `IExchange.accept_body`."""
        if self.over:
            reader.broke_off()
            return
        self.reader = reader
        http, length = self._http, self.request.length
        if length is None:
            self._chunked = ChunkedBody()
        elif http.unread >= length:
            self.complete = True
            data = http.take(length)
            self.size = length
            if length:
                reader.came_whole(data)
            else:
                reader.ended({})
            return
        self.receiving = True
        data = http.take(sys.maxsize if length is None else length)
        if self.request.expects_continue and not data:
            http.send_continue()
        if self._min_rate:
            self._rate = MinimumRate(http.frontend.clock.seconds(), http.active.grace)
        if data:
            self.body_came(data)
        if self.receiving:
            http.wait_for_body()

    def respond(self, response: Response) -> None:
        """See `IExchange.respond`."""
        if not self.over:
            self._end()
            self._http.respond(self, response)

    def may_store(self) -> None:
        """See `IExchange.may_store`."""
        self._may_store = True

    def close(self) -> None:
        """See `IExchange.close`."""
        if not self.over:
            self._end()
            self._http.ended(self)
        self._http.abort()

    # The body

    def body_came(self, data: bytes) -> None:
        """Pass on the next bytes of the body; there are no more than belong to it."""
        reader = self.reader
        assert reader is not None
        if self._chunked is not None:
            self._chunks_came(reader, self._chunked, data)
            return
        self.size += len(data)
        reader.received(data)
        if self.receiving:
            if self.size == self.request.length:
                self._body_ended(reader)
            elif worth_it(self.wanted, len(data), self.transport):
                self._start_splice()

    def _chunks_came(self, reader: IBodyReader, chunked: ChunkedBody, data: bytes) -> None:
        try:
            decoded = chunked.feed(data)
        except InvalidBody as error:
            self.cut(BadRequest(str(error)))
            return
        if decoded:
            self.size += len(decoded)
            reader.received(decoded)
        if self.receiving and chunked.complete:
            self._body_ended(reader)

    def _body_ended(self, reader: IBodyReader) -> None:
        self._stop_receiving()
        self.complete = True
        reader.ended({} if self._chunked is None else self._chunked.trailers)

    def _stop_receiving(self) -> None:
        self.receiving = False
        self._rate = None
        self._http.stop_waiting_for_body()

    @property
    def wanted(self) -> int:
        """Bytes of the body that have not arrived, at most."""
        length = self.request.length
        return sys.maxsize if length is None else length - self.size

    def cut(self, refusal: UploadRefused) -> None:
        """End: the body is not valid, or there is no more of it.  Tell the client, if possible."""
        if self.over:
            return
        reader = self._end()
        if reader is not None:
            reader.broke_off()
        self._http.respond(self, problem_response(refusal, self.request.fields))

    def lost(self) -> None:
        """Note that the connection is closed."""
        if self.over:
            return
        if self.complete:
            assert self.reader is not None
            self.reader.left()
            return
        reader = self._end()
        self._http.ended(self)
        if reader is not None:
            reader.broke_off()

    def refuse(self, refusal: UploadRefused) -> None:
        """Refuse the request, whatever its state; harmless if it has ended."""
        if self.over:
            return
        if self.reader is None:
            if self._may_store:
                self.close()
            else:
                self.respond(problem_response(refusal, self.request.fields))
            return
        if self.receiving:
            self._stop_receiving()
        self.reader.refused(refusal)

    def fail(self, response: Response) -> None:
        """
        End the request and the connection after an exception that a handler must not
        raise: the reader releases what it holds.
        """
        over = self.over
        reader = self._end()
        try:
            if reader is not None:
                if self.complete:
                    reader.refused(StoreFailed())
                else:
                    reader.broke_off()
        finally:
            if over:
                self._http.abort()
            else:
                self._http.respond(self, response, close=True)

    def _end(self) -> IBodyReader | None:
        """End, and return the reader if there is one: it is called no more but by the caller."""
        if self.receiving:
            self._stop_receiving()
        self.over = True
        # The reader knows this exchange: without this, each would wait for the garbage collector.
        reader, self.reader = self.reader, None
        return reader

    # IPushProducer: called by the consumer of the body

    def pauseProducing(self) -> None:
        """Stop reading the body."""
        if self.receiving and not self.paused:
            self.paused = True
            if self._rate is not None:
                self._rate.pause(self._http.frontend.clock.seconds())
            self._try(self._http.pause_body)

    def resumeProducing(self) -> None:
        """Read on."""
        if self.receiving and not self._splicing and self.paused:
            self.paused = False
            self._waiting = None
            if self._rate is not None:
                self._rate.resume(self._http.frontend.clock.seconds())
            self._try(self._http.resume_body)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            self.broke()

    def stopProducing(self) -> None:
        """Close the connection: the consumer takes no more data."""
        self._http.abort()

    # Large bodies: see `ISplicedSender`

    @property
    def transport(self) -> Any:
        """The transport of the connection."""
        return self._http.transport

    @property
    def _splicing(self) -> bool:
        return self._splice is not None and self._splice.active

    def _start_splice(self) -> None:
        if self._splice is None:
            assert self.reader is not None
            incoming = self.reader.incoming
            if incoming is not None:
                self._splice = splice_for(
                    incoming, self, self._http.frontend.slots, self._http.frontend.sockets
                )
        if self._splice is not None:
            self._splice.start()

    def bytes_to_splice(self) -> int:
        """See `ISplicedSender.bytes_to_splice`."""
        return self.wanted if self.receiving else 0

    def spliced(self, result: SpliceResult) -> bool:
        """See `ISplicedSender.spliced`."""
        http, reader = self._http, self.reader
        self.size += result.size
        if not http.connected:
            return False
        if result.lost:
            http.abort()
            return False
        if not self.receiving:
            return False
        assert reader is not None
        if result.size:
            reader.spliced(result.size)
        if self.receiving and not self.wanted:
            self._body_ended(reader)
        return self.receiving

    def broke(self) -> None:
        """Handle an unexpected exception."""
        self._http.broke()

    # Called by the timers

    def is_idle(self) -> None:
        """Refuse: no byte of the body has come for the idle timeout."""
        seconds = format_duration(self._http.active.settings.idle_timeout)
        self.refuse(TimedOut(f"no data for {seconds}, and the body is not complete"))

    def stood_still(self, now: float) -> None:
        """See `IConnection.stood_still`."""
        self._waiting = None
        if self.reader is not None:
            self.reader.stood_still()
        if self._rate is not None:
            self._rate.stood_still(now)

    def check(self, now: float) -> bool:
        """See `IConnection.check`."""
        rate = self._min_rate
        if self._rate is not None and self._rate.is_too_slow(now, self.size, rate, self._unread):
            self.refuse(slower_than(rate))
            return True
        if self.receiving and not self.paused:
            return False
        if self.reader is not None:
            return self.reader.check(now)
        self._waiting = self._waiting or StoreTimeout(STORE_PATIENCE)
        if not self._waiting.is_too_long(now, 0):
            return False
        self.refuse(StoreFailed())
        return True

    @property
    def _min_rate(self) -> int:
        return self._http.active.settings.min_rate

    def _unread(self) -> int:
        return unread_size(self.transport, self._http.frontend.sockets)
