"""
What is to be sent over HTTP, and the connection over which requests go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from twisted_upload.client.attempts import Attempts
from twisted_upload.client.conversation import (
    Abort,
    Close,
    Connect,
    ConnectionBroken,
    Conversation,
    IContent,
    Send,
)
from twisted_upload.client.http.messages import Response, receive_response, request_head
from twisted_upload.client.system import SYSTEM
from twisted_upload.client.targets import Target
from twisted_upload.core.text import format_duration
from twisted_upload.errors import AnswerTimedOut, UploadInterrupted, UploadTimedOut
from twisted_upload.receipt import NO_METADATA, Metadata

__all__ = ["BodySender", "HTTPUpload", "ISavedUpload", "Requests", "Timeouts"]

_A_MOMENT = 2.0
"""Seconds to wait for what a server has sent before the connection broke."""


_TLS_HINT = "; if it expects TLS, use https://"  # most such servers drop others silently


class ISavedUpload(Protocol):
    """
    What is remembered of an interrupted upload, also after this process.

    :ivar path: of the URL of the upload; `None` if there is none.
    :ivar finishing: whether all of it may have been sent.
    """

    path: str | None
    finishing: bool

    def save(self, path: str) -> None:
        """Remember a new upload, of which nothing has been sent."""

    def mark_finishing(self) -> None:
        """Remember that the last bytes are about to be sent."""

    def forget(self) -> None:
        """Forget it: it has ended."""

    def lost(self) -> None:
        """Forget it: the server does not know it, or does not know it any more."""


class _NotSaved:
    """Remembers it as long as the process runs."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.finishing = False

    def save(self, path: str) -> None:
        self.path, self.finishing = path, False

    def mark_finishing(self) -> None:
        self.finishing = True

    def forget(self) -> None:
        self.path, self.finishing = None, False

    def lost(self) -> None:
        self.forget()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Each in seconds; 0 for no limit.

    :ivar connect: for a connection.
    :ivar stall: in which at least some bytes must get through.
    :ivar answer: for a response, after the last byte has got through.
    """

    connect: float = 30.0
    stall: float = 60.0
    answer: float = 300.0


@dataclass(slots=True)
class HTTPUpload:
    """
    What is to be sent over HTTP.

    :ivar metadata: what the server is told about it.
    :ivar token: a token or an invitation.
    :ivar sha256: whether the server is asked for the SHA-256, which is then compared.
    :ivar progress: called with the bytes that need not be sent any more, and the total.
    :ivar saved: remembers it.
    :ivar now: returns seconds since the epoch.
    """

    target: Target
    content: IContent
    attempts: Attempts
    metadata: Metadata = NO_METADATA
    token: str | None = None
    sha256: bool = True
    timeouts: Timeouts = Timeouts()
    progress: Callable[[int, int | None], object] = lambda sent, total: None
    saved: ISavedUpload = field(default_factory=_NotSaved)
    now: Callable[[], float] = SYSTEM.now

    @property
    def digest_fields(self) -> dict[str, str]:
        """Return the field that asks for the SHA-256: RFC 9530, section 4."""
        return {"Want-Repr-Digest": "sha-256=1"} if self.sha256 else {}


BodySender = Callable[[], Conversation[bool]]
"""Sends the body of a request; returns whether all of it was sent."""


class Requests:
    """
    Requests to one server, over one connection after the other.

    :ivar peer: the other end of the last connection.
    """

    def __init__(self, job: HTTPUpload) -> None:
        self._job = job
        self._connected = False
        self._has_responded = False
        self.peer = ""

    def ask(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        *,
        length: int | None = 0,
        body: BodySender | None = None,
    ) -> Conversation[Response]:
        """
        Send a request, and return the response.

        :param length: of the body; `None` if it is chunked.
        :param body: sends it.
        :raises UploadInterrupted: the connection broke.
        :raises AnswerTimedOut: everything was sent, and no response came.
        :raises CouldNotConnect: there is no connection, or the server does not speak HTTP.
        :raises UploadTimedOut: it took too long.
        """
        job = self._job
        token = {} if job.token is None else {"Authorization": f"Bearer {job.token}"}
        head = request_head(method, job.target, path, {**token, **fields}, length)
        if not self._connected:
            self.peer = yield Connect(job.target, job.timeouts.connect)
            self._connected = True
        whole = False
        timeout = job.timeouts.answer
        try:
            try:
                whole = (yield Send(head, job.timeouts.stall)) == len(head)
                if whole and body is not None:
                    whole = yield from body()
            except ConnectionBroken:
                timeout = _A_MOMENT
            response: Response = yield from receive_response(timeout, without_body=method == "HEAD")
        except ConnectionBroken as error:
            yield from self.abort()
            hint = "" if self._has_responded or job.target.is_tls else _TLS_HINT
            raise UploadInterrupted(f"the connection broke: {error}{hint}") from error
        except AnswerTimedOut as error:
            yield from self.abort()
            if not whole:
                raise UploadInterrupted("the connection broke") from error
            if body is None:  # nothing of the file was sent
                seconds = format_duration(timeout)
                raise UploadTimedOut(f"the server did not respond within {seconds}") from error
            raise
        except UploadTimedOut:
            yield from self.abort()
            raise
        self._has_responded = True
        if not (whole and response.reusable):
            yield from self.abort()
        return response

    def close(self) -> Conversation[None]:
        """Close the connection."""
        if self._connected:
            self._connected = False
            yield Close()

    def abort(self) -> Conversation[None]:
        """Reset the connection, if there is one."""
        if self._connected:
            self._connected = False
            yield Abort()
