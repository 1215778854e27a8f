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
import struct
import time
from collections.abc import Callable
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
from twisted_upload.client.sendfile import FROM, SendFile, can_send_in_kernel
from twisted_upload.client.source import SendingStopped, Source
from twisted_upload.core.answers import (
    LONGEST_ANSWER,
    StoredAnswer,
    quoted,
    read_answer,
    speaks_tls,
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
    UploadRefused,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt
from twisted_upload.net.addresses import peer_name

__all__ = ["Progress", "SendProtocol"]

Progress = Callable[[int, "int | None"], object]
"""Called with the number of bytes sent so far, and the total if known."""

_EARLY = 32 * 1024 * 1024
"""Bytes that may be in flight when a server closes at once."""

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
    ) -> None:
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
        self._tell_hash = sha256
        self._in_kernel: SendFile | None = None
        self._half_closed = False
        self.unchecked = False
        self._heard = b""
        self._verdict: BaseException | None = None
        self._watch: IDelayedCall | None = None
        self._gone: Deferred[None] | None = Deferred()
        self._got_through: object = None

    def connectionMade(self) -> None:
        """Send the file, then half-close."""
        self._peer = peer_name(self.transport.getPeer())
        self._arrived = time.time()
        transport = self.transport
        half_closes = ITCPTransport.providedBy(transport)
        if ISSLTransport.providedBy(transport) or not half_closes:
            self._give_up(
                CouldNotConnect(
                    "this endpoint cannot send a half-close; for TLS, use tls:HOST:PORT"
                )
            )
            return
        handle = transport.getHandle()
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._watch_for(self._stall_timeout)
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
        if not large or self._tell_hash or not is_socket or not can_send_in_kernel():
            return source.send_to(transport, self._passing)
        assert source.descriptor is not None
        try:
            in_kernel = SendFile(
                source.descriptor,
                source.total or 0,
                transport.fileno(),
                self._reactor,
                self._moved,
            )
            sending = in_kernel.start()
        except (OSError, RuntimeError):  # out of file descriptors or threads
            return source.send_to(transport, self._passing)
        self._in_kernel = in_kernel
        return sending

    def dataReceived(self, data: bytes) -> None:
        """Collect part of the answer."""
        self._heard += data
        if len(self._heard) > LONGEST_ANSWER:
            self._give_up(OutcomeUnknown(f"the server's answer is too long: {quoted(self._heard)}"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Determine the outcome: no more of the answer will arrive."""
        self._hash.close()
        if self._in_kernel is not None:
            self._in_kernel.stop()
        gone, self._gone = self._gone, None
        if gone is not None:
            gone.callback(None)
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        try:
            receipt = self._judge(reason)
        except (UploadError, Exception) as error:
            if not self.outcome.called:
                self.outcome.errback(Failure(error))
        else:
            if not self.outcome.called:
                self.outcome.callback(receipt)

    def stop(self) -> Deferred[None] | None:
        """
        Abort because the reactor is about to stop, unless everything has been sent.

        :return: fires when the connection is gone.
        """
        if self._half_closed or self._gone is None:
            return None
        self._give_up(UploadInterrupted("the program stopped before everything was sent"))
        return self._gone

    def _passing(self, chunk: bytes) -> bytes:
        self._sent += len(chunk)
        self._hash.update(chunk)
        if self._progress is not None:
            self._progress(self._sent, self._source.total)
        return chunk

    def _moved(self, size: int) -> None:
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
        self._watch_for(self._answer_timeout)
        if self._progress is not None and self._source.total != self._sent:
            try:
                self._progress(self._sent, self._sent)
            except Exception as error:
                self._give_up(error)

    def _not_sent(self, failure: Failure) -> None:
        # If the connection itself is gone, connectionLost knows more.
        if failure.check(SendingStopped) is None:
            self._give_up(cast(BaseException, failure.value))

    def _judge(self, reason: Failure) -> Receipt:
        """
        Determine the outcome, now that the connection is gone.

        :raises UploadError: the upload is not known to be stored.
        """
        answer = read_answer(self._heard, self._expected)
        if isinstance(answer, UploadRefused):
            raise answer  # whatever else happened, the server refused it
        if self._verdict is not None:
            raise self._verdict
        if answer is None and speaks_tls(self._heard):
            raise CouldNotConnect("the server expects TLS; try --tls")
        if not self._half_closed:
            if isinstance(answer, StoredAnswer):
                raise OutcomeUnknown("the server answered success before everything was sent")
            text = "the connection broke before everything was sent"
            if self._heard:
                text += f"; the server answered {quoted(self._heard)}"
            raise UploadInterrupted(text + self._perhaps_tls())
        if answer is None:
            if self._heard:
                raise OutcomeUnknown(
                    f"the server answered neither success nor failure: {quoted(self._heard)}"
                )
            text = "the connection broke before the answer came"
            if reason.check(ConnectionDone):
                text = "the server closed the connection without an answer"
            raise OutcomeUnknown(text + self._perhaps_tls())
        self._check(answer)
        told = answer.sha256 or (self._hash.hexdigest() if self._tell_hash else None)
        return Receipt(answer.name, self._sent, told, self._peer, self._arrived, time.time())

    def _perhaps_tls(self) -> str:
        """Suggest TLS: most TLS servers drop other clients at once, with no message."""
        early = not self._heard and self._sent <= _EARLY
        is_plain = IReadWriteDescriptor.providedBy(self.transport)
        by_tcp = isinstance(self.transport.getPeer(), IPv4Address | IPv6Address)
        return "; if it expects TLS, try --tls" if early and is_plain and by_tcp else ""

    def _check(self, kept: StoredAnswer) -> None:
        if kept.size is not None and kept.size != self._sent:
            raise ReceiptMismatch(f"{self._sent} bytes were sent, but the receipt says {kept.size}")
        if kept.sha256 is None:
            if self._in_kernel is not None:
                self._check_the_kernel()
            return
        if self._in_kernel is not None:
            self.unchecked = True
        elif kept.sha256 != self._hash.hexdigest():
            raise ReceiptMismatch("the SHA-256 in the receipt is not that of what was sent")

    def _check_the_kernel(self) -> None:
        # The kernel may read the file only when it transmits, after sendfile(2) has returned.
        try:
            self._source.check(self._sent)
        except SourceFailed as error:
            raise OutcomeUnknown(
                "the file changed before the answer came; either version may have been stored"
            ) from error

    def _give_up(self, verdict: BaseException) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self.transport.abortConnection()

    def _cancel(self, _: Deferred[Receipt]) -> None:
        self._give_up(CancelledError())

    # Stall and answer timeouts

    def _watch_for(self, seconds: float) -> None:
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._watch = None
        if seconds > 0:
            self._got_through = self._progress_mark()
            self._watch = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._watch = None
        if self._source.waiting or self._progress_mark() != self._got_through:
            self._watch_for(self._answer_timeout if self._half_closed else self._stall_timeout)
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
