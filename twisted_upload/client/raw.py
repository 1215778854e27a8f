"""
An upload by the raw protocol, as a conversation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from twisted_upload.client.attempts import Attempts
from twisted_upload.client.conversation import (
    Abort,
    Close,
    Connect,
    ConnectionBroken,
    Conversation,
    HalfClose,
    IContent,
    Read,
    Receive,
    Send,
    SendFrom,
    Sha256,
    Sleep,
)
from twisted_upload.client.digest import Digest
from twisted_upload.client.outcome import TLS_HINT_UP_TO, Ending, answer_in, check_size
from twisted_upload.client.system import SYSTEM
from twisted_upload.client.targets import Target
from twisted_upload.core.answers import LONGEST_ANSWER, SUCCESS, StoredAnswer, quoted
from twisted_upload.errors import (
    AnswerTimedOut,
    OutcomeUnknown,
    ReceiptMismatch,
    SourceFailed,
    UploadError,
)
from twisted_upload.receipt import Receipt

__all__ = ["RawUpload", "raw_upload"]

_CHUNK = 256 * 1024
_A_MOMENT = 2.0
"""Seconds to wait for what a server has sent before the connection broke."""


@dataclass(slots=True)
class RawUpload:
    """
    What is to be sent by the raw protocol.

    :ivar answer: the text by which the server reports success.
    :ivar sha256: whether the receipt must have the SHA-256.
    :ivar connect_timeout: seconds for a connection.
    :ivar stall_timeout: seconds within which at least some bytes must get through.
    :ivar answer_timeout: seconds within which the answer must arrive.
    :ivar progress: called with the bytes sent so far, and the total if it is known.
    :ivar now: returns seconds since the epoch.
    """

    target: Target
    content: IContent
    attempts: Attempts
    answer: str = SUCCESS
    sha256: bool = False
    connect_timeout: float = 30.0
    stall_timeout: float = 60.0
    answer_timeout: float = 300.0
    progress: Callable[[int, int | None], object] = lambda sent, total: None
    now: Callable[[], float] = SYSTEM.now


def raw_upload(job: RawUpload) -> Conversation[Receipt]:
    """
    Send a file by the raw protocol; again only if it is certain that it was not stored.

    :raises UploadError: it was not stored, or, with `OutcomeUnknown`, may not be.
    """
    while True:
        job.attempts.begin()
        attempt = _Attempt(job)
        try:
            return (yield from attempt.run())
        except UploadError as error:
            yield Abort()
            if not error.safe_to_repeat or isinstance(error, SourceFailed):
                raise
            if attempt.has_read and not job.content.again:
                raise
            delay = job.attempts.delay_after(error)
            yield Sleep(delay)


class _Attempt:
    """:ivar has_read: whether some of the content has been read."""

    def __init__(self, job: RawUpload) -> None:
        self._job = job
        self._digest = Digest()
        self._sent = 0
        self._half_closed = False
        self.has_read = False

    def run(self) -> Conversation[Receipt]:
        job = self._job
        peer = yield Connect(job.target, job.connect_timeout, reset_if_killed=True)
        began = job.now()
        job.attempts.sends_from(0)
        job.progress(0, job.content.total)
        try:
            with contextlib.suppress(ConnectionBroken):  # the answer may be there
                yield from self._send()
            received, orderly = yield from self._receive()
        finally:
            self._digest.close()
        may_be_tls = job.target.scheme == "raw" and self._sent <= TLS_HINT_UP_TO
        ending = Ending(received, self._half_closed, orderly, may_be_tls)
        answer = answer_in(ending, job.answer)
        yield Close()
        sha256 = yield from self._checked(answer)
        return Receipt(answer.name, self._sent, sha256, peer, began, job.now())

    def _send(self) -> Conversation[None]:
        job = self._job
        whole = (yield from self._send_whole()) if job.content.again else (yield from self._pump())
        if not whole:
            return
        job.content.check(self._sent)
        yield HalfClose()
        self._half_closed = True
        if job.content.total != self._sent:
            job.progress(self._sent, self._sent)

    def _send_whole(self) -> Conversation[bool]:
        job = self._job
        total = job.content.total or 0
        self.has_read = True
        if total:
            try:
                self._sent = yield SendFrom(
                    job.content, 0, total, job.stall_timeout, self._moved, hashed=job.sha256
                )
            except ConnectionBroken as broken:
                self._sent = broken.sent
                raise
        return self._sent == total

    def _pump(self) -> Conversation[bool]:
        job = self._job
        while True:
            self.has_read = True
            chunk: bytes = yield Read(job.content, _CHUNK, some=True)
            if not chunk:
                return True
            self._digest.update(chunk)
            sent = yield Send(chunk, job.stall_timeout)
            self._sent += sent
            job.progress(self._sent, job.content.total)
            if sent < len(chunk):
                return False

    def _moved(self, offset: int) -> None:
        self._job.progress(offset, self._job.content.total)

    def _receive(self) -> Conversation[tuple[bytes, bool]]:
        """Return the whole answer, and whether the connection ended in an orderly way."""
        received = b""
        timeout = self._job.answer_timeout if self._half_closed else _A_MOMENT
        try:
            while data := (yield Receive(timeout)):
                received += data
                if len(received) > LONGEST_ANSWER:
                    raise OutcomeUnknown(f"the server's answer is too long: {quoted(received)}")
        except ConnectionBroken:
            return received, False
        except AnswerTimedOut:
            if self._half_closed:
                raise
            return received, False
        return received, True

    def _checked(self, answer: StoredAnswer) -> Conversation[str | None]:
        """
        Return the SHA-256 for the receipt, compared with what was sent.

        :raises ReceiptMismatch: it is not that.
        """
        job = self._job
        check_size(answer, self._sent)
        try:
            job.content.check(self._sent)
            changed = ""
        except SourceFailed:
            changed = ", which has changed since it was sent"
        if answer.sha256 is None and not job.sha256:
            if changed:
                raise OutcomeUnknown(
                    "the file changed before the answer came; either version may have been stored"
                )
            return None
        if not job.content.again:
            computed = self._digest.hexdigest()
        else:
            try:
                computed = yield Sha256(job.content, self._sent)
            except SourceFailed as error:
                raise ReceiptMismatch(f"the file cannot be read again: {error}") from error
        if answer.sha256 is not None and computed != answer.sha256:
            raise ReceiptMismatch(f"the SHA-256 in the receipt is not that of the file{changed}")
        return computed
