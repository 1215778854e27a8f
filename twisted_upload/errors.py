"""
The exceptions, one for each failure that a caller can act on.

- `UploadRefused` and its subclasses: the server refused the upload.  Each subclass
  has the code that is sent over the wire (see `twisted_upload.core.answers`), a
  default explanation for the person at the other end, and whether the same upload
  may be retried.  The daemon raises them, and the client raises the same ones when
  it reads them.
- The other subclasses of `UploadError`: what can happen to a client.
- `CannotStart` and its subclass: the daemon cannot start serving; for its operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # a client without Twisted has the same errors
    from twisted.internet.defer import Deferred

__all__ = [
    "AnswerTimedOut",
    "BadRequest",
    "Busy",
    "CannotStart",
    "Conflict",
    "CouldNotConnect",
    "DigestMismatch",
    "Empty",
    "NoSpace",
    "NotAllowed",
    "NotFound",
    "OutcomeUnknown",
    "ReceiptMismatch",
    "ShuttingDown",
    "SourceChanged",
    "SourceFailed",
    "StoreFailed",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "UploadError",
    "UploadInterrupted",
    "UploadRefused",
    "UploadTimedOut",
    "WrongConfiguration",
]


class CannotStart(Exception):
    """
    The daemon cannot serve as configured.

    The text is one line for the operator and names what to change.
    """


class WrongConfiguration(CannotStart):
    """The configuration is invalid, on any machine."""


class UploadError(Exception):
    """An upload failed, or is not known to have succeeded."""

    safe_to_repeat: ClassVar[bool] = False
    """True if sending the same upload again cannot store the file twice, and may succeed."""


class UploadRefused(UploadError):
    """
    The server refused the upload; nothing of it was stored.

    The explanation (`str`) is one line for the person at the other end.  It never
    contains a path, a traceback, or bytes from the sender.

    Each subclass in this module adds one code (`twisted_upload.core.answers.CODES`).
    """

    code: str = "refused"
    """The code that is sent over the wire."""

    retry_after: float = 0.0
    """Seconds after which the server asks a client to try again; 0 if it does not say."""

    later: Deferred[Any] | None = None
    """In the daemon: fires with the state of a resumable upload, if that is stored after all;
    None if nobody tries that.  It may never fire."""

    default_explanation: ClassVar[str] = "the upload was refused"

    def __init__(self, explanation: str | None = None) -> None:
        self.explanation = explanation or self.default_explanation
        super().__init__(self.explanation)

    def __str__(self) -> str:
        return f"{self.code}: {self.explanation}"


class Empty(UploadRefused):
    """The sender half-closed without sending a byte."""

    code = "empty"
    default_explanation = "nothing was sent before the end; this server stores no empty files"


class TooLarge(UploadRefused):
    """More bytes arrived than this server accepts in one upload."""

    code = "too-large"
    default_explanation = "the upload is larger than this server accepts"


class TimedOut(UploadRefused):
    """The sender was idle, or too slow, for too long before it signalled the end."""

    code = "timeout"
    default_explanation = "no data for too long, and no half-close; with nc, use nc -N"
    safe_to_repeat = True


class Busy(UploadRefused):
    """The server has no capacity for another upload at the moment."""

    code = "busy"
    default_explanation = "too many uploads at the moment; try again later"
    safe_to_repeat = True


class NotAllowed(UploadRefused):
    """This sender is not allowed to upload to this server."""

    code = "not-allowed"
    default_explanation = "this sender is not allowed to upload here"


class NoSpace(UploadRefused):
    """The store is full, or this upload does not fit into it."""

    code = "no-space"
    default_explanation = "there is no space left for this upload"
    safe_to_repeat = True


class StoreFailed(UploadRefused):
    """The store failed to store the upload; the sender still has the bytes."""

    code = "store-error"
    default_explanation = "the upload could not be stored; try again later"
    safe_to_repeat = True


class ShuttingDown(UploadRefused):
    """The daemon is shutting down."""

    code = "shutting-down"
    default_explanation = "the server is shutting down; try again later"
    safe_to_repeat = True


class BadRequest(UploadRefused):
    """The request is malformed, or breaks a rule of its protocol (HTTP only)."""

    code = "bad-request"
    default_explanation = "the request is not valid"


class Unauthorized(UploadRefused):
    """The server requires a token, and this is not one, or not one for this (HTTP only)."""

    code = "unauthorized"
    default_explanation = "this server requires a valid token"


class NotFound(UploadRefused):
    """There is no such partial upload, or there is none any more (HTTP only)."""

    code = "not-found"
    default_explanation = "there is no such upload; it may have expired"


class Conflict(UploadRefused):
    """The request does not fit the state of the partial upload (HTTP only)."""

    code = "conflict"
    default_explanation = "the request does not fit the state of the upload; ask for its offset"


class DigestMismatch(UploadRefused):
    """The bytes that arrived do not have the digest that the sender gave (HTTP only)."""

    code = "digest-mismatch"
    default_explanation = "the bytes that arrived do not match the digest; send them again"
    safe_to_repeat = True


class CouldNotConnect(UploadError):
    """No connection was made, or none that speaks the server's protocol; nothing is stored."""

    safe_to_repeat = True


class UploadInterrupted(UploadError):
    """
    The connection broke before the end of the file was sent.

    A twisted-upload server does not store such a file, and the sender knows it.
    """

    safe_to_repeat = True


class UploadTimedOut(UploadError):
    """
    Connecting took too long, or no byte was transferred for too long.

    The client has aborted the connection; nothing is stored.
    """

    safe_to_repeat = True


class OutcomeUnknown(UploadError):
    """
    Everything was sent, including the half-close, but no clear answer arrived.

    The file may or may not be stored.  Sending it again may store it twice.
    """


class AnswerTimedOut(OutcomeUnknown):
    """Everything was sent, but the answer did not arrive in time."""


class ReceiptMismatch(OutcomeUnknown):
    """The server's receipt does not match the bytes that were sent."""


class SourceFailed(UploadError):
    """
    The source cannot be read.

    The connection, if there was one, has been aborted; nothing is stored.
    """


class SourceChanged(SourceFailed):
    """
    The file was modified or truncated while it was being sent.

    The connection has been aborted; nothing is stored.
    """

    safe_to_repeat = True
