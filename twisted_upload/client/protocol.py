"""
Sending one file to a server, over one connection.

The protocol runs a `FileSender`, half-closes after the last byte, and then waits
for the answer.  Its socket lingers for 0 s (``SO_LINGER``), so the kernel resets
the connection if the client crashes or is killed: a half-sent file is then
discarded and never taken for a whole one.  The orderly end is an explicit
half-close, which ``SO_LINGER`` does not affect.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorTime,
    IReadWriteDescriptor,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_upload.client.digest import Digest
from twisted_upload.client.outcome import TLS_HINT_UP_TO, Ending, answer_in, check_size
from twisted_upload.client.sendfile import FROM, SendFile, can_send_in_kernel
from twisted_upload.client.sending import Progress
from twisted_upload.client.source import SendingStopped, Source
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.core.answers import (
    LONGEST_ANSWER,
    StoredAnswer,
    quoted,
)
from twisted_upload.core.text import format_duration
from twisted_upload.errors import (
    AnswerTimedOut,
    CouldNotConnect,
    OutcomeUnknown,
    ReceiptMismatch,
    SourceFailed,
    UploadError,
    UploadInterrupted,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt
from twisted_upload.net.addresses import peer_name
from twisted_upload.net.linger import reset_on_close

__all__ = ["SendProtocol"]

_TCP_INFO_BYTES_ACKED = (120, 8)  # offset and length in struct tcp_info, linux/tcp.h


class SendProtocol(Protocol):
    """
    Sends one file.

    A plain `Protocol`: when the server has sent all of its answer, the transport ends
    the connection by itself.

    :ivar outcome: fires once with a `Receipt`, or fails: with an `UploadError`, with
        `CancelledError`, or with what ``progress`` has raised.
    :ivar unchecked: whether the SHA-256 of the receipt must still be compared with the
        file.
    """

    transport: Any  # an ITCPTransport that is also an IConsumer, as Twisted's are

    def __init__(
        self,
        source: Source,
        reactor: Any,
        *,
        progress: Progress | None,
        answer: str,
        sha256: bool,
        stall_timeout: float,
        answer_timeout: float,
        system: ClientSystem = SYSTEM,
    ) -> None:
        self._system = system
        self.outcome: Deferred[Receipt] = Deferred(self._cancel)
        self._source = source
        self._clock: IReactorTime = reactor
        self._reactor = reactor
        self._progress = progress
        self._expected = answer
        self._stall_timeout = stall_timeout
        self._answer_timeout = answer_timeout
        self._sent = 0
        self._hash = Digest()
        self._with_sha256 = sha256
        self._in_kernel: SendFile | None = None
        self._half_closed = False
        self.unchecked = False
        self._received = b""
        self._failure: BaseException | None = None
        self._timer: IDelayedCall | None = None
        self._closed: Deferred[None] | None = Deferred()
        self._last_mark: object = None

    def connectionMade(self) -> None:
        """Send the file, then half-close."""
        self._peer = peer_name(self.transport.getPeer())
        self._arrived = self._system.now()
        transport = self.transport
        half_closes = ITCPTransport.providedBy(transport)
        if ISSLTransport.providedBy(transport) or not half_closes:
            self._give_up(
                CouldNotConnect(
                    "this endpoint cannot send a half-close; for TLS, use tls:HOST:PORT"
                )
            )
            return
        reset_on_close(transport.getHandle())
        self._start_timer(self._stall_timeout)
        if self._progress is not None:
            try:
                self._progress(0, self._source.total)
            except Exception as error:
                self._give_up(error)
                return
        self._send().addCallbacks(self._all_sent, self._not_sent)

    def _send(self) -> Deferred[Any]:
        source, transport = self._source, self.transport
        large = source.descriptor is not None and (source.total or 0) >= FROM
        is_socket: bool = IReadWriteDescriptor.providedBy(transport)  # and not TLS
        if not large or self._with_sha256 or not is_socket or not can_send_in_kernel(self._system):
            return source.send_to(transport, self._chunk_passed)
        assert source.descriptor is not None
        try:
            in_kernel = SendFile(
                source.descriptor,
                source.total or 0,
                transport.fileno(),
                self._reactor,
                self._bytes_sent,
                system=self._system,
            )
            sending = in_kernel.start()
        except (OSError, RuntimeError):  # out of file descriptors or threads
            return source.send_to(transport, self._chunk_passed)
        self._in_kernel = in_kernel
        return sending

    def dataReceived(self, data: bytes) -> None:
        """Collect part of the answer."""
        self._received += data
        if len(self._received) > LONGEST_ANSWER:
            self._give_up(
                OutcomeUnknown(f"the server's answer is too long: {quoted(self._received)}")
            )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Determine the outcome: no more of the answer will arrive."""
        self._hash.close()
        if self._in_kernel is not None:
            self._in_kernel.stop()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed.callback(None)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        try:
            receipt = self._find_outcome(reason)
        except (UploadError, Exception) as error:
            if not self.outcome.called:
                self.outcome.errback(Failure(error))
        else:
            if not self.outcome.called:
                self.outcome.callback(receipt)

    def stop(self) -> Deferred[None] | None:
        """
        Abort because the reactor is about to stop, unless everything has been sent.

        :return: fires when the connection is closed.
        """
        if self._half_closed or self._closed is None:
            return None
        self._give_up(UploadInterrupted("the program stopped before everything was sent"))
        return self._closed

    def _chunk_passed(self, chunk: bytes) -> bytes:
        self._sent += len(chunk)
        self._hash.update(chunk)
        if self._progress is not None:
            self._progress(self._sent, self._source.total)
        return chunk

    def _bytes_sent(self, size: int) -> None:
        self._sent += size
        if self._progress is not None:
            try:
                self._progress(self._sent, self._source.total)
            except Exception as error:
                self._give_up(error)

    def _all_sent(self, _: object) -> None:
        try:
            self._source.check(self._sent)
        except SourceFailed as error:
            self._give_up(error)
            return
        self._half_closed = True
        self.transport.loseWriteConnection()
        self._start_timer(self._answer_timeout)
        if self._progress is not None and self._source.total != self._sent:
            try:
                self._progress(self._sent, self._sent)
            except Exception as error:
                self._give_up(error)

    def _not_sent(self, failure: Failure) -> None:
        # If the connection itself is closed, connectionLost knows more.
        if failure.check(SendingStopped) is None:
            self._give_up(cast(BaseException, failure.value))

    def _find_outcome(self, reason: Failure) -> Receipt:
        """
        Determine the outcome, now that the connection is closed.

        :raises UploadError: the upload is not known to be stored.
        """
        early = not self._received and self._sent <= TLS_HINT_UP_TO
        is_plain = IReadWriteDescriptor.providedBy(self.transport)
        by_tcp = isinstance(self.transport.getPeer(), IPv4Address | IPv6Address)
        ending = Ending(
            self._received,
            half_closed=self._half_closed,
            orderly=reason.check(ConnectionDone) is not None,
            may_be_tls=early and is_plain and by_tcp,
            failure=self._failure,
        )
        answer = answer_in(ending, self._expected)
        self._check(answer)
        told = answer.sha256 or (self._hash.hexdigest() if self._with_sha256 else None)
        now = self._system.now()
        return Receipt(answer.name, self._sent, told, self._peer, self._arrived, now)

    def _check(self, confirmed: StoredAnswer) -> None:
        check_size(confirmed, self._sent)
        if confirmed.sha256 is None:
            if self._in_kernel is not None:
                self._check_unchanged()
            return
        if self._in_kernel is not None:
            self.unchecked = True
        elif confirmed.sha256 != self._hash.hexdigest():
            raise ReceiptMismatch("the SHA-256 in the receipt is not that of what was sent")

    def _check_unchanged(self) -> None:
        # The kernel may read the file only when it transmits, after sendfile(2) has returned.
        try:
            self._source.check(self._sent)
        except SourceFailed as error:
            raise OutcomeUnknown(
                "the file changed before the answer came; either version may have been stored"
            ) from error

    def _give_up(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure
            self.transport.abortConnection()

    def _cancel(self, _: Deferred[Receipt]) -> None:
        self._give_up(CancelledError())

    # Stall and answer timeouts

    def _start_timer(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if seconds > 0:
            self._last_mark = self._progress_mark()
            self._timer = self._clock.callLater(seconds, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if self._source.waiting or self._progress_mark() != self._last_mark:
            self._start_timer(self._answer_timeout if self._half_closed else self._stall_timeout)
        elif self._half_closed:
            seconds = format_duration(self._answer_timeout)
            self._give_up(
                AnswerTimedOut(f"everything was sent, but no answer came within {seconds}")
            )
        else:
            seconds = format_duration(self._stall_timeout)
            self._give_up(UploadTimedOut(f"no byte was transferred for {seconds}"))

    def _progress_mark(self) -> tuple[int, int]:
        """Return a value that changes if, and only if, bytes get through."""
        start, length = _TCP_INFO_BYTES_ACKED
        try:
            handle = self.transport.getHandle()
            info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, start + length)
        except (OSError, AttributeError):
            return self._sent, 0  # not TCP: fall back to what the transport has taken
        acked = info[start : start + length]
        return self._sent, int.from_bytes(acked, "little") if len(acked) == length else 0
