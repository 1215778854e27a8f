"""
Uploads for programs that wait for them: no event loop, and no thread that outlives a call.
"""

from __future__ import annotations

from twisted_upload.client.attempts import OnAttempt
from twisted_upload.client.content import AnySource
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.resume_state import ResumeState
from twisted_upload.client.sending import Progress, Upload
from twisted_upload.client.targets import Target
from twisted_upload.core.answers import SUCCESS
from twisted_upload.receipt import Receipt

__all__ = ["upload"]


def upload(
    source: AnySource,
    target: str | Target,
    *,
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
) -> Receipt:
    """
    Send one file, and return its receipt: the server has confirmed that it is stored.

    Over HTTP, an upload that breaks goes on where it broke: the server is asked how much it
    has.  A file is stored at most once, however often it is tried.

    An exception that ends the call (`KeyboardInterrupt`, or one of ``progress``) resets the
    connection: nothing is stored, unless everything had been sent.

    :param source: a path, a binary file object (read from its current position, never
        closed here; a pipe is accepted), or bytes.
    :param target: where to send it: ``server:6666``, ``tls://server``, ``unix:PATH``,
        ``http://server:8080/``, ``https://server/``, the link of an invitation, or
        ``tcp:server:6666`` and ``tls:server:6667:cacert=FILE``.
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
        the receipt even if the server does not send it, if this is true.
    :param retry: seconds without progress for which a failed attempt is repeated, if that
        cannot store the file twice; 0 for never.  If it is not given: over HTTP 60, once
        the server has been reached; otherwise 0.
    :param state: where an interrupted upload of a path is remembered, so that the next
        process goes on (HTTP only).
    :param limit: how fast to send; several uploads share it.
    :param progress: called with the bytes sent so far and the total.  The total is `None`
        if it is unknown.  After a break the bytes may go back to what the server has.
    :param on_attempt: called when an attempt begins to send, and when one has failed and
        another will follow.
    :param connect_timeout: seconds within which each connection must be made.
    :param stall_timeout: seconds within which at least some bytes must get through.
    :param answer_timeout: seconds within which an answer must arrive after the last byte
        has got through.  Each timeout of 0 means no limit.
    :raises CouldNotConnect: there is no connection, or another protocol at that port.
    :raises SourceFailed: the source could not be read (`SourceChanged`: it changed while it
        was sent).
    :raises UploadRefused: the server refused it; its ``code`` says why.
    :raises UploadInterrupted: the connection broke before everything was sent.
    :raises UploadTimedOut: connecting took too long, or no byte got through for too long.
    :raises OutcomeUnknown: everything was sent, but no clear answer came.
    :raises ValueError: ``target`` or another argument is invalid.
    :raises TypeError: ``source`` cannot be sent.
    """
    return Upload(
        source,
        target,
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
    ).run()
