"""
One connection of the HTTP front end: reads the heads of requests, passes each request to
the handler, and sends the responses, one after the other.

==========  =========================================  ===========================
state       meaning                                    how it is recognised
==========  =========================================  ===========================
idle        no byte of the next request has arrived    nothing of the below
head        a part of a head has arrived               `_buffer`
request     it is being handled                        `_transaction`
writing     the client has not taken all of a          `_writing`
            response
closing     the last response has been sent; what      `_closing`
            still arrives is discarded
==========  =========================================  ===========================

While a request is handled, or a response is written, what follows it waits: one read of
it in memory, the rest in the socket.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import BadRequest, TimedOut, UploadRefused
from twisted_upload.frontends.http.channel import Channel
from twisted_upload.frontends.http.encoding import encode_response
from twisted_upload.frontends.http.exchange import Client
from twisted_upload.frontends.http.forwarding import forwarded_client, neighbour
from twisted_upload.frontends.http.handling import HandlingFrontend
from twisted_upload.frontends.http.head import check_beginning, parse_head
from twisted_upload.frontends.http.messages import Problem, Request, Response
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.settings import ActiveHTTPSettings
from twisted_upload.frontends.http.transaction import Transaction
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.networks import TrustedProxies
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.transport import read_now

__all__ = ["HTTPConnection"]

MOST_PER_TURN = 16
"""Maximum number of requests of one connection that are handled in a turn of the reactor."""

INTERNAL_ERROR = Problem(500, "internal-error", "the server has made a mistake; nothing is stored")


@implementer(IHalfCloseableProtocol)
class HTTPConnection(Channel):
    """
    One connection.

    :param frontend: whose handler handles the requests.
    :param active: the settings in force when the client connected.
    :param slot: of the connection.
    :param address: of the client.
    """

    def __init__(
        self,
        frontend: HandlingFrontend,
        active: ActiveHTTPSettings,
        slot: IConnectionSlot,
        address: IAddress | None,
    ) -> None:
        super().__init__(active)
        self.frontend = frontend
        self.slot: IConnectionSlot | None = slot
        self._address = address
        self._client: Client | None = None
        self._transaction: Transaction | None = None
        self._serving = False
        self._served = False  # a request

    @property
    def sockets(self) -> Sockets:
        """See `ConnectionProtocol.sockets`."""
        return self.frontend.sockets

    @property
    def in_flight(self) -> bool:
        """Whether a request is being handled."""
        return self._transaction is not None

    @property
    def is_new(self) -> bool:
        """Whether its first request, or what is there of the next one, is still to be handled."""
        return self._transaction is None and (not self._served or bool(self._buffer))

    @property
    def client(self) -> Client:
        """Who has sent the request."""
        if self._client is None:
            self._client = neighbour(self._address, self.transport)
        return self._client

    def _see_through(self, proxies: TrustedProxies, request: Request) -> None:
        """
        Find out who has sent a request, if the other end is a proxy.

        :raises UploadRefused: that client is not accepted.
        """
        proxy = neighbour(self._address, self.transport)
        if proxy.host not in proxies:
            return
        self._client = client = forwarded_client(request.fields, proxy)
        if client.host is None or client.host == proxy.host:
            return
        refusal = self.frontend.gate.sender_refusal(client.host, self.slot)
        if refusal is not None:
            raise refusal

    # Called by the transport

    def connectionMade(self) -> None:
        """Start the idle timeout, and read what has already arrived."""
        super().connectionMade()
        self.active.idle.restart(self)
        self.frontend.enter(self)
        try:
            read_now(self.transport)
        except Exception:
            self.broke()

    def dataReceived(self, data: bytes) -> None:
        """Pass on the next bytes, or keep them until they may be."""
        transaction = self._transaction
        try:
            if transaction is not None and transaction.receiving:
                self._body_came(transaction, data)
            elif self._closing:
                self._discard(len(data))
            elif transaction is not None or self._writing:
                self._hold_back(data)
            else:
                self._serve(data)
        except Exception:
            self.broke()

    def readConnectionLost(self) -> None:
        """End: no more requests will come; one that is complete is still answered."""
        try:
            self._has_ended()
        except Exception:
            self.broke()

    def _has_ended(self) -> None:
        if not self._is_half_closed():
            return
        transaction = self._transaction
        if transaction is not None:
            if transaction.receiving:
                transaction.cut(_CUT)
        elif self._closing or not (self._writing or self._buffer):
            self.transport.loseConnection()
        elif not self._writing:
            self._respond_to_nothing(
                BadRequest("the connection ended within the head of a request")
            )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the reader of the body, and leave the front end."""
        self.connected = False
        self.active.cancel(self)
        self._buffer = b""
        try:
            if self._transaction is not None:
                self._transaction.lost()
        except Exception:
            self.broke()
        self.frontend.leave(self)

    # Requests

    def _serve(self, data: bytes) -> None:
        """Handle the requests that have arrived."""
        start = 0
        if self._buffer:
            start, data = max(0, len(self._buffer) - 3), self._buffer + data
        self._serving = True
        try:
            self._serve_all(data, start)
        finally:
            self._serving = False
        if self._is_idle and not self._buffer and data != _EMPTY_LINE:
            self.active.idle.restart(self)

    def _serve_all(self, data: bytes, start: int) -> None:
        begun = bool(self._buffer)
        for _ in range(MOST_PER_TURN):
            if data[:2] == _EMPTY_LINE:
                data, start = data[2:], 0  # RFC 9112, section 2.2
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4:
                self._head_goes_on(data, begun)
                return
            self._buffer = data[end:]
            self._head_came(data[:end])
            if not self._is_idle:
                return
            data, start, begun = self._buffer, 0, False
            if not data:
                return
        self._hold_back(b"")
        self.frontend.clock.callLater(0, self._go_on)

    @property
    def _is_idle(self) -> bool:
        return self._transaction is None and not (
            self._closing or self._writing or not self.connected
        )

    def _head_goes_on(self, data: bytes, begun: bool) -> None:
        """Wait for the rest of a head."""
        self._buffer = data
        if not data:
            return
        if self._half_closed:
            self._has_ended()
            return
        try:
            check_beginning(data)
        except Problem as problem:
            self._respond_to_nothing(problem)
            return
        if not begun:
            self.active.heads.restart(self)

    def _head_came(self, head: bytes) -> None:
        self.active.heads.cancel(self)
        try:
            request = parse_head(head)
        except Problem as problem:
            self._respond_to_nothing(problem)
            return
        self._served = True
        self._transaction = transaction = Transaction(self, request)
        try:
            if self.active.settings.trust_forwarded is not None:
                self._see_through(self.active.settings.trust_forwarded, request)
            self.frontend.handler(transaction)
        except (Problem, UploadRefused) as error:
            response = problem_response(error, request.fields)
            if transaction.reader is not None:
                transaction.fail(response)
            else:
                transaction.respond(response)
        if self._transaction is transaction:
            self.frontend.progress_check.begin()

    def _body_came(self, transaction: Transaction, data: bytes) -> None:
        wanted = transaction.wanted
        if len(data) > wanted:
            self._buffer = data[wanted:]
            data = data[:wanted]
            self._hold_back(b"")
        self.active.bodies.restart(self)
        transaction.body_came(data)

    def _go_on(self) -> None:
        """Serve the next request, if nothing of this one is left to do."""
        if not self._is_idle or self._serving:
            return
        self._resume()
        data, self._buffer = self._buffer, b""
        if data:
            self._serve(data)
        elif self._half_closed:
            self.transport.loseConnection()
        else:
            self.active.idle.restart(self)

    # What a transaction needs

    def wait_for_body(self) -> None:
        """See `IHTTPConnection.wait_for_body`."""
        assert self._transaction is not None
        if self._half_closed:
            self._transaction.cut(_CUT)
        elif not self._transaction.paused:
            self._resume()
            self.active.bodies.restart(self)

    def stop_waiting_for_body(self) -> None:
        """See `IHTTPConnection.stop_waiting_for_body`."""
        self.active.bodies.cancel(self)

    def pause_body(self) -> None:
        """See `IHTTPConnection.pause_body`."""
        self.active.bodies.cancel(self)
        self._pause()

    def resume_body(self) -> None:
        """See `IHTTPConnection.resume_body`."""
        self._resume()
        self.active.bodies.restart(self)

    def ended(self, transaction: Transaction) -> None:
        """See `IHTTPConnection.ended`."""
        if self._transaction is transaction:
            self._transaction = None
            self.frontend.upload_ended(self)

    # Responses

    def respond(self, transaction: Transaction, response: Response, *, close: bool = False) -> None:
        """See `IHTTPConnection.respond`."""
        if not self.connected:
            self.ended(transaction)
            return
        request = transaction.request
        if transaction.fields:
            response = replace(response, fields=response.fields + transaction.fields)
        # A body that is not wanted is discarded if all of it has arrived.
        whole = transaction.complete or (
            request.length is not None and self._skip(transaction.wanted)
        )
        close = (
            close
            or not whole
            or not request.keep_alive
            or request.length is None
            or self.frontend.stopping
            or (self._half_closed and not self._buffer)
        )
        self._respond(request, response, close=close, linger=not whole or bool(self._buffer))
        if not close:
            self._go_on()

    def _respond_to_nothing(self, error: Problem | UploadRefused) -> None:
        """Respond to what is not a request, and close."""
        self.active.heads.cancel(self)
        self._respond(_NO_REQUEST, problem_response(error), close=True, linger=True)

    def _respond(self, request: Request, response: Response, *, close: bool, linger: bool) -> None:
        connection = "close" if close else "" if request.minor_version else "keep-alive"
        date, without_body = self.frontend.dates.text(), request.method == "HEAD"
        try:
            data = encode_response(response, date, connection=connection, without_body=without_body)
        except ValueError:
            _log.failure("internal error: a response cannot be sent")
            close = linger = True
            data = encode_response(problem_response(INTERNAL_ERROR), date, connection="close")
        in_flight, self._transaction = self._transaction, None
        try:
            if close:
                self._send_last(data, linger=linger)
            else:
                self._send(data)
        finally:
            if in_flight is not None:
                self.frontend.upload_ended(self)

    # Called by the timers, and when the daemon stops

    def idle_for_too_long(self) -> None:
        """Close the connection: no request has come for the idle timeout."""
        if self._is_idle and not self._buffer:
            self._close()

    def head_is_late(self) -> None:
        """Refuse the request: its head has not arrived in time."""
        self._respond_to_nothing(TimedOut("the head of the request did not arrive in time"))

    def body_is_late(self) -> None:
        """Refuse the request: no byte of its body has come for the idle timeout."""
        if self._transaction is not None:
            self._transaction.is_idle()

    def refuse(self, refusal: UploadRefused) -> None:
        """See `IConnection.refuse`; without a request, the connection is closed."""
        if self._transaction is not None:
            self._transaction.refuse(refusal)
        elif self._closing or not self.connected:
            return
        elif self._buffer:
            self._respond_to_nothing(refusal)
        else:
            self._close()

    def stood_still(self, now: float) -> None:
        """See `IConnection.stood_still`."""
        self.active.stood_still()
        if self._transaction is not None:
            self._transaction.stood_still(now)

    def check(self, now: float) -> bool:
        """See `IConnection.check`."""
        return self._transaction is not None and self._transaction.check(now)

    def broke(self) -> None:
        """Handle an unexpected exception: end the request and the connection."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            _log.error("request aborted by a system error: {error}", error=error.strerror)
        else:
            _log.failure("internal error: request aborted")
        transaction = self._transaction
        try:
            if transaction is None:
                self.abort()
            else:
                transaction.fail(problem_response(INTERNAL_ERROR, transaction.request.fields))
        except Exception:
            _log.failure("internal error: an aborted request could not be cleaned up")
            self.abort()


_EMPTY_LINE = b"\r\n"
_NO_REQUEST = Request("", "", keep_alive=False)
_CUT = BadRequest("the connection ended before the end of the body")
_log = Logger()
