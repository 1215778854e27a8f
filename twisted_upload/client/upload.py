"""
The client: `upload` sends one file and tells what became of it.
"""

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

from twisted_upload.client.endpoints import client_endpoint
from twisted_upload.client.protocol import Progress, SendProtocol
from twisted_upload.client.sendfile import sha256_of
from twisted_upload.client.source import AnySource, Source, open_source
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
    Send one file; ``await`` it, or use it as the Deferred that it is.

    When it fires, the server has said that the file is kept.  Where the server
    sends receipts, size and SHA-256 have been compared: of what was sent, or, for
    a large file that is given as a path, of what is in the file afterwards.

    Cancelling the Deferred aborts the upload: nothing is kept, unless
    everything had been sent already and only the answer was missing.

    :param source: a path, a binary file object (read from where it stands,
        never closed here; a pipe will do), or bytes.
    :param endpoint: where to: ``tcp:server:6666``, ``unix:/run/upload.sock``,
        ``tls:server:6667``, ``tls:server:6667:cacert=/etc/ca.pem``, or any other
        client endpoint of Twisted on which a half-close works.  TLS over another
        endpoint is `twisted_upload.net.tls.endpoints.TLSClientEndpoint`; Twisted's own cannot
        half-close.
    :param reactor: the global one unless given.
    :param progress: called with the bytes sent so far and the bytes in all
        (`None` where nobody knows, until everything has been sent: then both
        are equal).
    :param answer: the words by which that server says success.
    :param sha256: tell the SHA-256 of what was sent in the receipt, though the
        server may not.  A large file is slower then.
    :param connect_timeout: seconds until there must be a connection.
    :param stall_timeout: seconds in which at least some bytes must get through.
        A source that has nothing to send stalls nothing.
    :param answer_timeout: seconds in which the answer must come after the last
        byte has got through.
    :return: fires with a `Receipt`.  Fails with a child of `UploadError`:
        `CouldNotConnect`, `SourceFailed` (`SourceChanged` where the file changed
        while it was sent), `UploadRefused` (by the server; its
        ``code`` tells why), `UploadInterrupted`, `UploadTimedOut`, or
        `OutcomeUnknown`, when everything was sent and no clear answer came.
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
        # A reactor that stops closes its connections in an orderly way, and the
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
    Compare a server's receipt with the file, which did not pass through here.

    :raises ReceiptMismatch: they differ, or the file cannot be read any more.
    """
    assert source.descriptor is not None
    try:
        found = await sha256_of(source.descriptor, 0, receipt.size, reactor)
    except OSError as error:
        raise ReceiptMismatch(f"the file cannot be read again: {error.strerror}") from error
    if found == receipt.sha256:
        return receipt
    text = "the receipt has another SHA-256 than the file"
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
    :raises CouldNotConnect: or, after ``connect_timeout`` seconds, `UploadTimedOut`.
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

    # Not every endpoint fails as cancelled when it is.
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
        number = getattr(error, "osError", None)  # of Twisted's errors: the errno
        text = os.strerror(number) if isinstance(number, int) else None
        text = text or getattr(error, "strerror", None) or str(error)
        raise CouldNotConnect(text.strip().rstrip(".")) from error
