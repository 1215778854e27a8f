"""Sending the files of one command: several at a time, with retries."""

from __future__ import annotations

import os
import random
import stat
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from twisted_upload.cli.streams import ExitStatus
from twisted_upload.errors import (
    AnswerTimedOut,
    CouldNotConnect,
    OutcomeUnknown,
    ReceiptMismatch,
    SourceChanged,
    SourceFailed,
    UploadInterrupted,
    UploadRefused,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt

__all__ = [
    "Batch",
    "Result",
    "Retries",
    "Watcher",
    "exit_status",
    "none_sent",
    "open_stdin",
]

STDIN = "-"
LONGEST_DELAY = 60.0


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
    (Exception, "failed", "internal", ExitStatus.FAILED),
)


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result for one file.

    :ivar index: its position among the files, from 0.
    :ivar file: its name as given; ``-`` is standard input.
    :ivar code: why it is not stored, in one word: the server's own for a refusal;
        `None` if it is stored.
    :ivar receipt: if it is stored.
    :ivar error: why it is not stored, for people.
    :ivar seconds: from the beginning of the first attempt to the end of the last,
        including the delays between them.
    :ivar attempts: how often it was tried; 0 if there was no time to.
    :ivar status: the exit status for this file alone.
    """

    index: int
    file: str
    outcome: Outcome
    code: str | None
    receipt: Receipt | None
    error: str | None
    seconds: float
    attempts: int
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
            "outcome": self.outcome,
            "code": self.code,
            "name": receipt.name if receipt else None,
            "size": receipt.size if receipt else None,
            "sha256": receipt.sha256 if receipt else None,
            "seconds": round(self.seconds, 3),
            "attempts": self.attempts,
            "error": self.error,
        }


def none_sent(files: Sequence[str], why: str) -> list[Result]:
    """Return the results if no attempt could be made."""
    return [
        Result(index, file, "failed", "internal", None, why, 0.0, 0, ExitStatus.FAILED)
        for index, file in enumerate(files)
    ]


def exit_status(results: Sequence[Result]) -> int:
    """Return the exit status for all files: their common status, or 1 if they differ."""
    statuses = {result.status for result in results}
    return statuses.pop() if len(statuses) == 1 else ExitStatus.FAILED


@dataclass(frozen=True, slots=True)
class Retries:
    """
    How often to retry, and when.

    :ivar limit: attempts after the first.
    :ivar unknown: whether to retry even if the file may already be stored.
    :ivar delay: approximate seconds before the first retry; each further delay is twice
        as long, up to a minute.
    :ivar random: returns a number from 0 to 1, so that many clients that were rejected
        together do not return together.
    """

    limit: int = 0
    unknown: bool = False
    delay: float = 1.0
    random: Callable[[], float] = random.random

    def wait(self, attempts: int) -> float:
        """Return how many seconds to wait after this many attempts."""
        longest = min(self.delay * 2.0 ** min(attempts - 1, 30), LONGEST_DELAY)
        return longest * (0.5 + self.random() / 2)


class Watcher(Protocol):
    """Receives the progress of a batch."""

    def began(self, index: int, file: str) -> None:
        """A file is about to be sent."""

    def progress(self, index: int, sent: int, total: int | None) -> None:
        """This many bytes of it have been sent; if both are equal, only the answer is missing."""

    def retrying(self, result: Result, delay: float, limit: int) -> None:
        """It failed with this result, and will be retried in so many seconds."""

    def ended(self, result: Result) -> None:
        """This is its final result."""


class Send(Protocol):
    """`twisted_upload.upload`, with everything but the file and its progress already given."""

    def __call__(
        self, source: Any, *, progress: Callable[[int, int | None], object]
    ) -> Deferred[Receipt]:
        """Send one file."""


class Batch:
    """
    The files of one command.

    :param clock: measures them and the delays between attempts.
    :param jobs: how many are sent at a time.
    :param stdin: returns standard input, or raises `SourceFailed`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Send,
        files: Sequence[str],
        watcher: Watcher,
        *,
        jobs: int = 1,
        retries: Retries | None = None,
        stdin: Callable[[], BinaryIO] | None = None,
    ) -> None:
        self._clock = clock
        self._send = send
        self._waiting = deque(enumerate(files))
        self._watcher = watcher
        self._jobs = min(jobs, len(files))
        self._retries = retries or Retries()
        self._stdin = stdin or open_stdin
        self._signal = 0
        self._workers: list[Deferred[None]] = []
        self.results: list[Result] = []

    def run(self) -> Deferred[Any]:
        """Send all files.  Fires when each has its result; never fails because of a file."""
        self._workers = [Deferred.fromCoroutine(self._work()) for _ in range(self._jobs)]
        return DeferredList(self._workers, fireOnOneErrback=True, consumeErrors=True)

    def interrupt(self, signal: int) -> None:
        """
        Abort the uploads in progress and begin no more.

        Nothing of an aborted file is stored, unless all of it had been sent.
        """
        self._signal = signal
        waiting, self._waiting = self._waiting, deque()
        for worker in self._workers:
            worker.cancel()
        for index, file in waiting:
            self._end(self._cancelled(index, file, 0.0, attempts=0, all_sent=False))

    async def _work(self) -> None:
        while self._waiting:
            index, file = self._waiting.popleft()
            self._watcher.began(index, file)
            doubtful: list[Result] = []
            result = await self._send_one(index, file, doubtful)
            self._end(_in_doubt(result) if doubtful else result)

    def _end(self, result: Result) -> None:
        self.results.append(result)
        self._watcher.ended(result)

    async def _send_one(self, index: int, file: str, doubtful: list[Result]) -> Result:
        """
        Send one file, with retries.

        :param doubtful: collects the attempts before the last that may have stored the
            file.
        """
        began = self._clock.seconds()
        attempts = 0
        connected = all_sent = False

        def progress(sent: int, total: int | None) -> None:
            nonlocal connected, all_sent
            connected = True
            all_sent = sent == total
            self._watcher.progress(index, sent, total)

        def seconds() -> float:
            return self._clock.seconds() - began

        source = _Stdin(self._stdin) if file == STDIN else _Path(file)
        while True:
            attempts += 1
            connected = all_sent = False
            try:
                receipt = await self._send(source.open(), progress=progress)
            except Exception as error:
                # If cancelled during name resolution, Twisted reports that the name does not exist.
                if self._signal and not isinstance(error, UploadRefused):
                    return self._cancelled(index, file, seconds(), attempts, all_sent=all_sent)
                result = _failed(index, file, error, seconds(), attempts, all_sent=all_sent)
                # A pipe can be read only once: what was sent over a connection is gone.
                if not self._worth_repeating(error, attempts) or (
                    connected and not source.can_be_read_again()
                ):
                    return result
            else:
                return Result(
                    index, file, "stored", None, receipt, None, seconds(), attempts, ExitStatus.OK
                )
            if result.outcome == "unknown":
                doubtful.append(result)
            delay = self._retries.wait(attempts)
            self._watcher.retrying(result, delay, self._retries.limit)
            try:
                await deferLater(self._clock, delay)
            except CancelledError:
                return self._cancelled(index, file, seconds(), attempts, all_sent=False)

    def _worth_repeating(self, error: Exception, attempts: int) -> bool:
        if self._signal or attempts > self._retries.limit:
            return False
        if isinstance(error, OutcomeUnknown):
            return self._retries.unknown
        return bool(getattr(error, "safe_to_repeat", False))

    def _cancelled(
        self, index: int, file: str, seconds: float, attempts: int, *, all_sent: bool
    ) -> Result:
        error = "interrupted"
        if all_sent:
            error = "interrupted after everything was sent, but before the answer came"
        outcome: Outcome = "unknown" if all_sent else "failed"
        status = 128 + self._signal
        return Result(index, file, outcome, "cancelled", None, error, seconds, attempts, status)


def _failed(
    index: int, file: str, error: Exception, seconds: float, attempts: int, *, all_sent: bool
) -> Result:
    outcome, code, status = next(end[1:] for end in _OUTCOMES if isinstance(error, end[0]))
    text = str(error)
    if isinstance(error, UploadRefused):
        code, text = error.code, error.explanation
    elif isinstance(error, SourceFailed) and isinstance(error.__cause__, OSError):
        text = error.__cause__.strerror or text  # without the path, which is printed before it
    elif code == "internal":
        text = f"internal error: {error!r}"
        if all_sent:
            outcome, status = "unknown", ExitStatus.UNKNOWN
    return Result(index, file, outcome, code, None, text, seconds, attempts, status)


def _in_doubt(result: Result) -> Result:
    """Return the true result if an earlier attempt may have stored the file."""
    if result.outcome in ("stored", "unknown"):
        return result
    return replace(
        result,
        outcome="unknown",
        error=f"{result.error}; an earlier attempt may have been stored",
        status=result.status if result.cancelled else ExitStatus.UNKNOWN,
    )


class _Path:
    """A file given by name; opened again for each attempt."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> str:
        return self._path

    def can_be_read_again(self) -> bool:
        try:
            return stat.S_ISREG(os.stat(self._path).st_mode)
        except OSError:
            return False


class _Stdin:
    """Standard input, which can be read again only if it is a file."""

    def __init__(self, opener: Callable[[], BinaryIO]) -> None:
        self._opener = opener
        self._file: BinaryIO | None = None
        self._start: int | None = None

    def open(self) -> BinaryIO:
        if self._file is None:
            self._file = self._opener()
            if self._file.seekable():
                self._start = self._file.tell()
        elif self._start is not None:
            self._file.seek(self._start)
        return self._file

    def can_be_read_again(self) -> bool:
        return self._start is not None


def open_stdin() -> BinaryIO:
    """
    Open standard input without a buffer: a thread that waits in a buffer of Python's
    would be a fatal error when the interpreter exits.

    :raises SourceFailed: there is no standard input that can be read.
    """
    if sys.stdin is None:
        raise SourceFailed("standard input is closed")
    try:
        return cast(BinaryIO, open(0, "rb", buffering=0, closefd=False))
    except OSError as error:
        raise SourceFailed("standard input cannot be read") from error
