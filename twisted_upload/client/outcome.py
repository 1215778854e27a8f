"""
The outcome of an upload by the raw protocol, from what the server has answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.core.answers import StoredAnswer, quoted, read_answer, speaks_tls
from twisted_upload.core.text import counted
from twisted_upload.errors import (
    CouldNotConnect,
    OutcomeUnknown,
    ReceiptMismatch,
    UploadInterrupted,
    UploadRefused,
)

__all__ = ["TLS_HINT_UP_TO", "Ending", "answer_in", "check_size"]

TLS_HINT_UP_TO = 32 * 1024 * 1024
"""Bytes that may be in flight when a server closes at once."""


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a connection ended.

    :ivar received: all that the server has sent.
    :ivar half_closed: whether everything was sent, with the half-close.
    :ivar orderly: whether the server closed it in an orderly way.
    :ivar may_be_tls: whether a server that expects TLS would have ended it so.
    :ivar failure: why this side ended it, if it did.
    """

    received: bytes
    half_closed: bool
    orderly: bool
    may_be_tls: bool
    failure: BaseException | None = None

    @property
    def tls_hint(self) -> str:
        """Suggest TLS: most TLS servers drop other clients at once, with no message."""
        return "; if it expects TLS, try --tls" if self.may_be_tls and not self.received else ""


def answer_in(ending: Ending, expected: str) -> StoredAnswer:
    """
    Return the answer of a server that has stored the upload.

    :param expected: the text that means success on that server.
    :raises UploadError: the upload is not known to be stored.
    """
    received = ending.received
    answer = read_answer(received, expected)
    if isinstance(answer, UploadRefused):
        raise answer  # whatever else happened, the server refused it
    if ending.failure is not None:
        raise ending.failure
    if answer is None and speaks_tls(received):
        raise CouldNotConnect("the server expects TLS; try --tls")
    if not ending.half_closed:
        if isinstance(answer, StoredAnswer):
            raise OutcomeUnknown("the server answered success before everything was sent")
        text = "the connection broke before everything was sent"
        if received:
            text += f"; the server answered {quoted(received)}"
        raise UploadInterrupted(text + ending.tls_hint)
    if answer is None:
        if received:
            raise OutcomeUnknown(
                f"the server answered neither success nor failure: {quoted(received)}"
            )
        text = "the connection broke before the answer came"
        if ending.orderly:
            text = "the server closed the connection without an answer"
        raise OutcomeUnknown(text + ending.tls_hint)
    return answer


def check_size(answer: StoredAnswer, sent: int) -> None:
    """:raises ReceiptMismatch: the server has another number of bytes than were sent."""
    if answer.size is not None and answer.size != sent:
        raise ReceiptMismatch(f"sent {counted(sent, 'byte')}, but the receipt says {answer.size}")
