"""The client: `upload` sends one file and reports its outcome."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import TimeoutError as ConnectionTimedOut
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure

from twisted_upload.client.attempts import OnAttempt
from twisted_upload.client.content import AnySource
from twisted_upload.client.endpoints import target_endpoint
from twisted_upload.client.protocol import SendProtocol
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.resume_state import ResumeState
from twisted_upload.client.sendfile import sha256_of
from twisted_upload.client.sending import Progress, Upload
from twisted_upload.client.source import Source, open_source
from twisted_upload.client.system import ClientSystem
from twisted_upload.client.targets import Target
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

__all__ = ["start_upload", "upload"]


def upload(
    source: AnySource,
    endpoint: str | Target | IStreamClientEndpoint,
    *,
    reactor: Any = None,
    token: str | None = None,
    label: str = "",
    name: str | None = None,
    content_type: str | None = None,
    cacert: str | None = None,
    answer: str = SUCCESS,
    sha256: bool | None = None,
    retry: float | None = None,
    state: ResumeState | None = None,
    limit: RateLimit | None = None,
    progress: Progress | None = None,
    on_attempt: OnAttempt | None = None,
    connect_timeout: float = 30.0,
    stall_timeout: float = 60.0,
    answer_timeout: float = 300.0,
) -> Deferred[Receipt]:
    """
    Send one file; ``await`` the result, or use it as a Deferred.

    When it fires, the server has confirmed that the file is stored.  If the server
    sends receipts, size and SHA-256 have been compared with what was sent or, for a
    large file given as a path, with what is in the file afterwards.

    Over HTTP, an upload that breaks goes on where it broke: the server is asked how much it
    has.  A file is stored at most once, however often it is tried.

    Cancelling the Deferred aborts the upload: nothing is stored, unless everything had
    already been sent and only the answer was missing.

    :param source: a path, a binary file object (read from its current position, never
        closed here; a pipe is accepted), or bytes.
    :param endpoint: where to send it: ``server:6666``, ``tls://server``,
        ``http://server:8080/``, ``https://server/``, the link of an invitation,
        ``tcp:server:6666``, ``unix:/run/upload.sock``, ``tls:server:6667``,
        ``tls:server:6667:cacert=/etc/ca.pem``, or any other client endpoint of Twisted that
        supports half-close.  For TLS over another endpoint, use
        `twisted_upload.net.tls.endpoints.TLSClientEndpoint`; Twisted's own cannot
        half-close.
    :param reactor: the global one unless given.
    :param token: a token or an invitation (HTTP only).
    :param label: what it is for; the server uses it unless the token has a label (HTTP
        only).
    :param name: the original name (HTTP only); that of the file if it is not given, and
        none if it is empty.
    :param content_type: its media type (HTTP only).
    :param cacert: path of PEM certificates to trust instead of the system's.
    :param answer: the text by which that server reports success (raw only).
    :param sha256: over HTTP, have the server compute the SHA-256, and compare it with that
        of the file, unless this is false.  Otherwise, put the SHA-256 of what was sent into
        the receipt even if the server does not send it, if this is true.  A large file is
        then slower.
    :param retry: seconds without progress for which a failed attempt is repeated, if that
        cannot store the file twice; 0 for never.  If it is not given: over HTTP 60, once
        the server has been reached; otherwise 0.  Not with an endpoint object.
    :param state: where an interrupted upload of a path is remembered, so that the next
        process goes on (HTTP only).
    :param limit: how fast to send; several uploads share it.  Not with an endpoint object.
    :param progress: called with the bytes sent so far and the total.  The total is
        `None` if it is unknown, until everything has been sent: then both are equal.
        After a break the bytes may go back to what the server has.
    :param on_attempt: called when an attempt begins to send, and when one has failed and
        another will follow.
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
        sent but no clear answer arrived.  Or with `ValueError` if ``endpoint`` or another
        argument is invalid, `TypeError` if ``source`` cannot be sent, `CancelledError` if it
        is cancelled, or whatever ``progress`` has raised: nothing is stored then, unless it
        was the last call for a source of unknown length.
    """
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415 - only the caller's default

    is_object = not isinstance(endpoint, str | Target)
    if is_object and (retry or limit is not None or token is not None or cacert is not None):
        return fail(ValueError("an endpoint object takes no retry, limit, token or cacert"))
    arguments = Upload(
        source,
        endpoint if isinstance(endpoint, str | Target) else Target("an endpoint", "endpoint"),
        token=token,
        label=label,
        name=name,
        content_type=content_type,
        cacert=cacert,
        answer=answer,
        sha256=sha256,
        retry=retry,
        state=state,
        limit=limit,
        progress=progress,
        on_attempt=on_attempt,
        connect_timeout=connect_timeout,
        stall_timeout=stall_timeout,
        answer_timeout=answer_timeout,
    )
    if isinstance(endpoint, str | Target):
        return start_upload(arguments, reactor)
    return Deferred.fromCoroutine(_upload(arguments, endpoint, reactor))


def start_upload(arguments: Upload, reactor: Any) -> Deferred[Receipt]:
    """
    Carry out an upload; see `upload`.

    :param arguments: those of `upload`, and what is asked of the kernel.
    """
    try:
        target = arguments.where
        if target.is_http or arguments.retry or arguments.limit is not None:
            return in_thread(arguments, reactor)
        endpoint = target_endpoint(reactor, target)
    except (OSError, ValueError) as error:
        return fail(error)
    return Deferred.fromCoroutine(_upload(arguments, endpoint, reactor))


def in_thread(arguments: Upload, reactor: Any) -> Deferred[Receipt]:
    """
    Carry out an upload in a thread, and report to the reactor's.

    :raises OSError: out of threads or file descriptors.
    :raises ValueError: an argument is invalid.
    """
    # Imported here, because the raw protocol does not need it.
    from twisted_upload.client.in_thread import ThreadedUpload  # noqa: PLC0415

    outcome: Deferred[Receipt] = Deferred(lambda _: sending.stop())

    def done(result: Receipt | BaseException) -> None:
        if outcome.called:  # cancelled
            return
        if isinstance(result, BaseException):
            outcome.errback(Failure(result))
        else:
            outcome.callback(result)

    sending = ThreadedUpload(arguments, reactor.callFromThread, done)
    sending.start()
    return outcome


async def _upload(arguments: Upload, endpoint: IStreamClientEndpoint, reactor: Any) -> Receipt:
    system = arguments.system
    ready = open_source(arguments.source, reactor, system)
    try:
        sending = SendProtocol(
            ready,
            reactor,
            progress=arguments.progress,
            answer=arguments.answer,
            sha256=bool(arguments.sha256),
            stall_timeout=arguments.stall_timeout,
            answer_timeout=arguments.answer_timeout,
            system=system,
        )
        await _connect(endpoint, sending, reactor, arguments.connect_timeout)
        # A reactor that stops closes its connections in an orderly way: the
        # server would take half a file for a whole one.
        trigger = reactor.addSystemEventTrigger("before", "shutdown", sending.stop)
        try:
            receipt = await sending.outcome
            return await _checked(receipt, ready, reactor, system) if sending.unchecked else receipt
        finally:
            reactor.removeSystemEventTrigger(trigger)
    finally:
        ready.close()


async def _checked(receipt: Receipt, source: Source, reactor: Any, system: ClientSystem) -> Receipt:
    """
    Compare a server's receipt with the file, whose bytes did not pass through this
    process.

    :raises ReceiptMismatch: they differ, or the file can no longer be read.
    """
    assert source.descriptor is not None
    try:
        found = await sha256_of(source.descriptor, 0, receipt.size, reactor, system)
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
    endpoint: IStreamClientEndpoint,
    sending: SendProtocol,
    reactor: Any,
    connect_timeout: float,
) -> None:
    """
    Connect.

    :raises CouldNotConnect: it failed.
    :raises UploadTimedOut: it took more than ``connect_timeout`` seconds.
    """

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
