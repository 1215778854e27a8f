"""The results of a command that sends files: for people, for programs, and as its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from twisted_upload.cli.folders import Skipped
from twisted_upload.cli.items import Item
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.errors import (
    AnswerTimedOut,
    CouldNotConnect,
    OutcomeUnknown,
    ReceiptMismatch,
    SourceChanged,
    SourceFailed,
    UploadError,
    UploadInterrupted,
    UploadRefused,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt

__all__ = [
    "Effort",
    "Outcome",
    "Result",
    "cancelled_result",
    "exit_status",
    "failed_result",
    "in_doubt",
    "none_sent",
    "skipped_json",
    "stored_result",
]

Outcome = Literal["stored", "refused", "failed", "unknown"]

# The first match counts, so subclasses come before their base classes.
_OUTCOMES: Sequence[tuple[type[Exception], Outcome, str, int]] = (
    (UploadRefused, "refused", "refused", ExitStatus.REFUSED),
    (CouldNotConnect, "failed", "could-not-connect", ExitStatus.NO_CONNECTION),
    (SourceChanged, "failed", "changed", ExitStatus.SOURCE),
    (SourceFailed, "failed", "cannot-read", ExitStatus.SOURCE),
    (UploadTimedOut, "failed", "timed-out", ExitStatus.TIMED_OUT),
    (UploadInterrupted, "failed", "connection-lost", ExitStatus.FAILED),
    (AnswerTimedOut, "unknown", "answer-timed-out", ExitStatus.UNKNOWN),
    (ReceiptMismatch, "unknown", "receipt-mismatch", ExitStatus.UNKNOWN),
    (OutcomeUnknown, "unknown", "no-answer", ExitStatus.UNKNOWN),
    (UploadError, "failed", "internal", ExitStatus.FAILED),
    (Exception, "failed", "internal", ExitStatus.FAILED),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """
    What was done for a file.

    :ivar seconds: from the beginning of the first attempt to the end of the last,
        including the delays between them.
    :ivar attempts: how often it was tried; 0 if there was no time to.
    :ivar resumed_bytes: how many bytes of it an attempt did not have to send, because the
        server had them from an earlier one.
    """

    seconds: float = 0.0
    attempts: int = 0
    resumed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result for one file.

    :ivar index: its position among the files, from 0.
    :ivar file: its name as given; ``-`` is standard input.
    :ivar name: the name that is sent along, if the protocol has names; `None` for standard
        input.
    :ivar code: why it is not stored, in one word: the server's own for a refusal;
        `None` if it is stored.
    :ivar receipt: if it is stored.
    :ivar error: why it is not stored, for people.
    :ivar effort: what was done for it.
    :ivar status: the exit status for this file alone.
    """

    index: int
    file: str
    name: str | None
    outcome: Outcome
    code: str | None
    receipt: Receipt | None
    error: str | None
    effort: Effort
    status: int

    @property
    def cancelled(self) -> bool:
        """Whether it ended because the user interrupted it."""
        return self.code == "cancelled"

    def to_json(self) -> dict[str, Any]:
        """Return the stable, documented form of ``--json``."""
        receipt = self.receipt
        return {
            "file": self.file,
            "name": self.name,
            "outcome": self.outcome,
            "code": self.code,
            "stored_as": receipt.name if receipt else None,
            "size": receipt.size if receipt else None,
            "sha256": receipt.sha256 if receipt else None,
            "seconds": round(self.effort.seconds, 3),
            "attempts": self.effort.attempts,
            "resumed_bytes": self.effort.resumed_bytes,
            "error": self.error,
        }


def skipped_json(skipped: Skipped) -> dict[str, Any]:
    """Return the object of ``--json`` for what is not sent although no option says so."""
    return {
        "file": skipped.path,
        "name": None,
        "outcome": "skipped",
        "code": "skipped",
        "stored_as": None,
        "size": None,
        "sha256": None,
        "seconds": 0.0,
        "attempts": 0,
        "resumed_bytes": 0,
        "error": skipped.why,
    }


def none_sent(items: Sequence[Item], why: str) -> list[Result]:
    """Return the results if no attempt could be made."""
    return [
        failed_result(index, item, UploadError(why), Effort(), all_sent=False)
        for index, item in enumerate(items)
    ]


def exit_status(results: Sequence[Result]) -> int:
    """Return the exit status for all files: their common status, or 1 if they differ."""
    statuses = {result.status for result in results}
    return statuses.pop() if len(statuses) == 1 else ExitStatus.FAILED


def stored_result(index: int, item: Item, receipt: Receipt, effort: Effort) -> Result:
    """Return the result of a file that is stored."""
    return Result(index, item.file, item.name, "stored", None, receipt, None, effort, ExitStatus.OK)


def cancelled_result(
    index: int, item: Item, signal: int, effort: Effort, *, all_sent: bool
) -> Result:
    """
    Return the result of a file whose upload the user has interrupted.

    :param all_sent: whether only the answer was missing.
    """
    error = "interrupted"
    if all_sent:
        error = "interrupted after everything was sent, but before the answer came"
    outcome: Outcome = "unknown" if all_sent else "failed"
    return Result(
        index, item.file, item.name, outcome, "cancelled", None, error, effort, 128 + signal
    )


def failed_result(
    index: int, item: Item, error: Exception, effort: Effort, *, all_sent: bool
) -> Result:
    """
    Return the result of an attempt that failed.

    :param all_sent: whether only the answer was missing.
    """
    outcome, code, status = next(end[1:] for end in _OUTCOMES if isinstance(error, end[0]))
    text = str(error)
    if isinstance(error, UploadRefused):
        code, text = error.code, error.explanation
    elif isinstance(error, SourceFailed) and isinstance(error.__cause__, OSError):
        text = error.__cause__.strerror or text  # without the path, which is printed before it
    elif not isinstance(error, UploadError):
        text = f"internal error: {error!r}"
        if all_sent:
            outcome, status = "unknown", ExitStatus.UNKNOWN
    return Result(index, item.file, item.name, outcome, code, None, text, effort, status)


def in_doubt(result: Result) -> Result:
    """Return the true result if an earlier attempt may have stored the file."""
    if result.outcome in ("stored", "unknown"):
        return result
    return replace(
        result,
        outcome="unknown",
        error=f"{result.error}; an earlier attempt may have been stored",
        status=result.status if result.cancelled else ExitStatus.UNKNOWN,
    )
