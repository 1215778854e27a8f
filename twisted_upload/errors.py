"""
What can go wrong, one exception for each thing that somebody can do something
about.

- `UploadRefused` and its children: the receiving side said no.  Each child
  knows the code that goes over the wire (see `twisted_upload.core.answers`), a
  default explanation for the person at the other end, and whether the same
  upload may simply be tried again.  The daemon raises them, and the client
  raises the same ones when it reads them.
- the other children of `UploadError`: what happens to a client.
- `CannotStart` and its child: the daemon cannot begin to serve; for its operator.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AnswerTimedOut",
    "Busy",
    "CannotStart",
    "CouldNotConnect",
    "Empty",
    "NoSpace",
    "NotAllowed",
    "OutcomeUnknown",
    "ReceiptMismatch",
    "ShuttingDown",
    "SourceChanged",
    "SourceFailed",
    "StoreFailed",
    "TimedOut",
    "TooLarge",
    "UploadError",
    "UploadInterrupted",
    "UploadRefused",
    "UploadTimedOut",
    "WrongConfiguration",
]


class CannotStart(Exception):
    """
    The daemon cannot serve as it was told to.

    The text is one line for the operator that names what to change.
    """


class WrongConfiguration(CannotStart):
    """What it was told makes no sense, on any machine."""


class UploadError(Exception):
    """An upload did not come to its good end."""

    safe_to_repeat: ClassVar[bool] = False
    """True where the same upload may be tried again without risk of keeping
    the file twice, and where trying again can help."""


class UploadRefused(UploadError):
    """
    The receiving side said no; nothing of the upload was kept.

    The explanation (`str`) is one line for the person at the other end.  It
    never holds a path, a traceback, or bytes of the sender.

    A child of it in this file is one more code (`twisted_upload.core.answers.CODES`).
    """

    code: str = "refused"
    """The word on the wire."""

    default_explanation: ClassVar[str] = "the upload was refused"

    def __init__(self, explanation: str | None = None) -> None:
        self.explanation = explanation or self.default_explanation
        super().__init__(self.explanation)

    def __str__(self) -> str:
        return f"{self.code}: {self.explanation}"


class Empty(UploadRefused):
    """Not one byte came before the half-close."""

    code = "empty"
    default_explanation = "nothing was sent before the end; this server keeps no empty files"


class TooLarge(UploadRefused):
    """More bytes came than this server takes in one upload."""

    code = "too-large"
    default_explanation = "the upload is larger than this server accepts"


class TimedOut(UploadRefused):
    """The sender went silent without saying that it had finished."""

    code = "timeout"
    default_explanation = "the sender went silent without half-closing; with nc, use nc -N"
    safe_to_repeat = True


class Busy(UploadRefused):
    """There is no room for one more upload just now."""

    code = "busy"
    default_explanation = "too many uploads at the moment; try again later"
    safe_to_repeat = True


class NotAllowed(UploadRefused):
    """This sender may not upload here."""

    code = "not-allowed"
    default_explanation = "this sender may not upload here"


class NoSpace(UploadRefused):
    """The store is full, or this upload does not fit in it."""

    code = "no-space"
    default_explanation = "there is no space left for this upload"
    safe_to_repeat = True


class StoreFailed(UploadRefused):
    """The store could not keep the upload; the sender still has the bytes."""

    code = "store-error"
    default_explanation = "the upload could not be stored; try again later"
    safe_to_repeat = True


class ShuttingDown(UploadRefused):
    """The daemon is about to stop."""

    code = "shutting-down"
    default_explanation = "the server is shutting down; try again later"
    safe_to_repeat = True


class CouldNotConnect(UploadError):
    """No connection came about, or not one by the protocol of the server: nothing is kept."""

    safe_to_repeat = True


class UploadInterrupted(UploadError):
    """
    The connection broke before the end was sent: the file is not kept by a
    twisted-upload server, and the sender knows it.
    """

    safe_to_repeat = True


class UploadTimedOut(UploadError):
    """
    Connecting took too long, or not one byte moved for too long.

    The client has aborted the connection: nothing is kept.
    """

    safe_to_repeat = True


class OutcomeUnknown(UploadError):
    """
    Everything was sent, the half-close too, and then no clear answer came:
    the file may or may not be kept.

    Sending it again may keep it twice.
    """


class AnswerTimedOut(OutcomeUnknown):
    """Everything was sent, and the answer did not come in time."""


class ReceiptMismatch(OutcomeUnknown):
    """The server's receipt speaks of other bytes than those that were sent."""


class SourceFailed(UploadError):
    """
    What was to be sent cannot be read.

    The connection, where there was one, has been aborted: nothing is kept.
    """


class SourceChanged(SourceFailed):
    """
    The file was written to, or cut, while it was sent.

    The connection has been aborted: nothing is kept.
    """

    safe_to_repeat = True
