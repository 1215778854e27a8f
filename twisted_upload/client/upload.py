"""The client: `upload` sends one file and reports its outcome."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import TimeoutError as ConnectionTimedOut
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
)

from twisted_upload.client.content import AnySource
from twisted_upload.client.endpoints import client_endpoint
from twisted_upload.client.protocol import Progress, SendProtocol
from twisted_upload.client.sendfile import sha256_of
from twisted_upload.client.source import Source, open_source
from twisted_upload.core.answers import SUCCESS
from twisted_upload.core.text import format_duration
from twisted_upload.errors import (
    CouldNotConnect,
    ReceiptMismatch,
    SourceFailed,
    UploadError,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt
from twisted_upload.net.tls.endpoints import TLSClientEndpoint

__all__ = ["upload"]


def upload(
    source: AnySource,
    endpoint: str | IStreamClientEndpoint,
    *,
    reactor: Any = None,
    progress: Progress | None = None,
    answer: str = SUCCESS,
    sha256: bool = False,
    connect_timeout: float = 30.0,
    stall_timeout: float = 60.0,
    answer_timeout: float = 300.0,
) -> Deferred[Receipt]:
    """
    Send one file; ``await`` the result, or use it as a Deferred.

    When it fires, the server has confirmed that the file is stored.  If the server
    sends receipts, size and SHA-256 have been compared with what was sent or, for a
    large file given as a path, with what is in the file afterwards.

    Cancelling the Deferred aborts the upload: nothing is stored, unless everything had
    already been sent and only the answer was missing.

    :param source: a path, a binary file object (read from its current position, never
        closed here; a pipe is accepted), or bytes.
    :param endpoint: where to send it: ``tcp:server:6666``, ``unix:/run/upload.sock``,
        ``tls:server:6667``, ``tls:server:6667:cacert=/etc/ca.pem``, or any other client
        endpoint of Twisted that supports half-close.  For TLS over another endpoint,
        use `twisted_upload.net.tls.endpoints.TLSClientEndpoint`; Twisted's own cannot
        half-close.
    :param reactor: the global one unless given.
    :param progress: called with the bytes sent so far and the total.  The total is
        `None` if it is unknown, until everything has been sent: then both are equal.
    :param answer: the text by which that server reports success.
    :param sha256: put the SHA-256 of what was sent into the receipt even if the server
        does not send it.  A large file is then slower.
    :param connect_timeout: seconds within which the connection must be made.  If the endpoint
        string has a ``timeout=``, the shorter of both applies.
    :param stall_timeout: seconds within which at least some bytes must get through.  A
        source that has nothing to send does not count as a stall.
    :param answer_timeout: seconds within which the answer must arrive after the last
        byte has got through.  Each timeout of 0 means no limit.
    :return: fires with a `Receipt`.  Fails with a subclass of `UploadError`:
        `CouldNotConnect`, `SourceFailed` (`SourceChanged` if the file changed while it
        was being sent), `UploadRefused` (by the server; its ``code`` says why),
        `UploadInterrupted`, `UploadTimedOut`, or `OutcomeUnknown` if everything was
        sent but no clear answer arrived.  Or with `TypeError` if ``source`` cannot be
        sent, `CancelledError` if it is cancelled, or whatever ``progress`` has raised:
        nothing is stored then, unless it was the last call for a source of unknown length.
    """
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415 - only the caller's default

    return Deferred.fromCoroutine(
        _upload(
            source,
            endpoint,
            reactor,
            connect_timeout,
            lambda ready: SendProtocol(
                ready,
                reactor,
                progress=progress,
                answer=answer,
                sha256=sha256,
                stall_timeout=stall_timeout,
                answer_timeout=answer_timeout,
            ),
        )
    )


async def _upload(
    source: AnySource,
    endpoint: str | IStreamClientEndpoint,
    reactor: Any,
    connect_timeout: float,
    protocol: Callable[[Source], SendProtocol],
) -> Receipt:
    ready = open_source(source, reactor)
    try:
        sending = protocol(ready)
        await _connect(endpoint, sending, reactor, connect_timeout)
        # A reactor that stops closes its connections in an orderly way: the
        # server would take half a file for a whole one.
        trigger = reactor.addSystemEventTrigger("before", "shutdown", sending.stop)
        try:
            receipt = await sending.outcome
            return await _checked(receipt, ready, reactor) if sending.unchecked else receipt
        finally:
            reactor.removeSystemEventTrigger(trigger)
    finally:
        ready.close()


async def _checked(receipt: Receipt, source: Source, reactor: Any) -> Receipt:
    """
    Compare a server's receipt with the file, whose bytes did not pass through this
    process.

    :raises ReceiptMismatch: they differ, or the file can no longer be read.
    """
    assert source.descriptor is not None
    try:
        found = await sha256_of(source.descriptor, 0, receipt.size, reactor)
    except OSError as error:
        raise ReceiptMismatch(f"the file cannot be read again: {error.strerror}") from error
    if found == receipt.sha256:
        return receipt
    text = "the SHA-256 in the receipt is not that of the file"
    try:
        source.check(receipt.size)
    except SourceFailed:
        text += ", which has changed since it was sent"
    raise ReceiptMismatch(text)


async def _connect(
    endpoint: str | IStreamClientEndpoint,
    sending: SendProtocol,
    reactor: Any,
    connect_timeout: float,
) -> None:
    """
    Connect.

    :raises CouldNotConnect: it failed.
    :raises UploadTimedOut: it took more than ``connect_timeout`` seconds.
    """
    if isinstance(endpoint, str):
        try:
            endpoint = client_endpoint(reactor, endpoint)
        except ValueError as error:
            raise CouldNotConnect(str(error)) from error

    def too_late(result: object, seconds: float) -> NoReturn:
        what = "TLS connection" if isinstance(endpoint, TLSClientEndpoint) else "connection"
        raise UploadTimedOut(f"no {what} within {format_duration(seconds)}")

    attempt = connectProtocol(endpoint, sending)
    if connect_timeout > 0:
        attempt.addTimeout(connect_timeout, reactor, too_late)
    cancelled = False

    def cancel(_: Deferred[None]) -> None:
        nonlocal cancelled
        cancelled = True
        attempt.cancel()

    # Not every endpoint fails with CancelledError when it is cancelled.
    connected: Deferred[None] = Deferred(cancel)
    attempt.addCallbacks(lambda _: connected.callback(None), connected.errback)
    try:
        await connected
    except UploadError:
        raise
    except ConnectionTimedOut as error:
        raise UploadTimedOut("the connection attempt timed out") from error
    except Exception as error:
        if cancelled:
            raise CancelledError from error
        number = getattr(error, "osError", None)  # the errno, in Twisted's errors
        text = os.strerror(number) if isinstance(number, int) else None
        text = text or getattr(error, "strerror", None) or str(error)
        raise CouldNotConnect(text.strip().rstrip(".")) from error
