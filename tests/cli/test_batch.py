"""
Many files, retries and their delays, without a network and with a fake clock.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_upload.cli.batch import Batch, Retries
from twisted_upload.cli.items import STDIN, FileSource, Item, StdinSource, open_stdin
from twisted_upload.cli.results import Effort, Result, exit_status
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.client.attempts import Attempt, OnAttempt
from twisted_upload.errors import (
    AnswerTimedOut,
    Busy,
    CouldNotConnect,
    NotAllowed,
    OutcomeUnknown,
    ReceiptMismatch,
    SourceChanged,
    SourceFailed,
    UploadInterrupted,
    UploadRefused,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt

RECEIPT = Receipt("1795328130123.jpg", 5, "0" * 64, "192.0.2.7:6666", 1.0, 2.0)


class Sender:
    """
    A fake `upload`, controlled by the test.

    :ivar sent: what it was asked to send, in order.
    :ivar in_progress: those without a result.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.in_progress: list[tuple[Deferred[Receipt], Callable[[int, int | None], object]]] = []

    def __call__(
        self,
        source: Any,
        *,
        name: str | None,
        progress: Callable[[int, int | None], object],
        on_attempt: OnAttempt,
    ) -> Deferred[Receipt]:
        self.on_attempt = on_attempt
        self.sent.append(source)
        upload: Deferred[Receipt] = Deferred()
        self.in_progress.append((upload, progress))
        return upload

    def store(self) -> None:
        """The first one is stored."""
        self.in_progress.pop(0)[0].callback(RECEIPT)

    def fail(self, error: Exception) -> None:
        """The first one fails."""
        self.in_progress.pop(0)[0].errback(error)

    def progress(self, sent: int, total: int | None) -> None:
        """Report progress of the first one."""
        self.in_progress[0][1](sent, total)


class Notes:
    """
    A watcher that records its calls.

    :ivar ended_: the results, in order.
    :ivar delays: the delay before each retry, in seconds.
    """

    def __init__(self) -> None:
        self.began_: list[tuple[int, Item]] = []
        self.progress_: list[tuple[int, int, int | None]] = []
        self.delays: list[float] = []
        self.ended_: list[Result] = []

    def began(self, index: int, item: Item) -> None:
        self.began_.append((index, item))

    def progress(self, index: int, sent: int, total: int | None) -> None:
        self.progress_.append((index, sent, total))

    def retrying(self, result: Result, delay: float, limit: int | None) -> None:
        self.delays.append(delay)

    def ended(self, result: Result) -> None:
        self.ended_.append(result)


def item_of(file: str, stdin: Any) -> Item:
    """Return what a word of the command line stands for."""
    if file == STDIN:
        return Item(file, None, None, StdinSource(stdin))
    return Item(file, os.path.basename(file), None, FileSource(file))


class Running:
    """A running batch and its surroundings."""

    def __init__(
        self, *files: str, jobs: int = 1, retries: Retries | None = None, stdin: Any = None
    ) -> None:
        self.clock = Clock()
        self.send = Sender()
        self.notes = Notes()
        self.batch = Batch(
            self.clock,
            self.send,
            [item_of(file, stdin or open_stdin) for file in files],
            self.notes,
            jobs=jobs,
            retries=retries,
        )
        self.done = self.batch.run()

    @property
    def result(self) -> Result:
        """The result of the only file, when the batch has ended."""
        assert self.done.called
        (result,) = self.batch.results
        assert self.notes.ended_ == [result]
        return result


def _certain(limit: int, *, unknown: bool = False) -> Retries:
    return Retries(limit, None, unknown, 1.0, random=lambda: 1.0)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A file that exists, although no test reads it."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"photo")
    return str(path)


def test_stored() -> None:
    """A stored file has its receipt and exit status 0."""
    running = Running("photo.jpg")
    running.clock.advance(2)
    running.send.store()
    assert running.result == Result(
        *(0, "photo.jpg", "photo.jpg", "stored", None, RECEIPT, None), Effort(2.0, 1), 0
    )


@pytest.mark.parametrize(
    ("error", "outcome", "code", "status"),
    [
        (Busy(), "refused", "busy", 4),
        (CouldNotConnect("no"), "failed", "could-not-connect", 3),
        (SourceFailed("no"), "failed", "cannot-read", 5),
        (SourceChanged("no"), "failed", "changed", 5),
        (UploadTimedOut("no"), "failed", "timed-out", 124),
        (UploadInterrupted("no"), "failed", "connection-lost", 1),
        (AnswerTimedOut("no"), "unknown", "answer-timed-out", 6),
        (ReceiptMismatch("no"), "unknown", "receipt-mismatch", 6),
        (OutcomeUnknown("no"), "unknown", "no-answer", 6),
        (RuntimeError("no"), "failed", "internal", 1),
    ],
)
def test_failures(error: Exception, outcome: str, code: str, status: int) -> None:
    """Each failure has its outcome, code and exit status."""
    running = Running("photo.jpg")
    running.send.fail(error)
    result = running.result
    assert (result.outcome, result.code, result.status) == (outcome, code, status)
    assert result.receipt is None
    assert result.error


def test_unknown_code() -> None:
    """A refusal by a newer server has the code that the server sent."""
    refusal = UploadRefused("no virus, please")
    refusal.code = "virus"
    running = Running("photo.jpg")
    running.send.fail(refusal)
    assert (running.result.code, running.result.error) == ("virus", "no virus, please")


def test_jobs() -> None:
    """With N jobs, N files are sent at a time, and the next starts when one ends."""
    running = Running("a", "b", "c", "d", jobs=2)
    assert running.send.sent == ["a", "b"]
    running.send.store()
    assert running.send.sent == ["a", "b", "c"]
    running.send.fail(NotAllowed())
    running.send.store()
    assert running.send.sent == ["a", "b", "c", "d"]
    assert not running.done.called
    running.send.store()
    assert running.done.called
    assert [result.file for result in running.batch.results] == ["a", "b", "c", "d"]
    began = [(index, item.file) for index, item in running.notes.began_]
    assert began == [*enumerate(["a", "b", "c", "d"])]


@pytest.mark.parametrize(
    "error", [Busy(), CouldNotConnect(), UploadInterrupted(), UploadTimedOut()]
)
def test_retried(file: str, error: Exception) -> None:
    """A failure that is safe to repeat is retried after a delay."""
    running = Running(file, retries=_certain(1))
    running.send.fail(error)
    assert len(running.send.sent) == 1
    running.clock.advance(0.99)
    assert len(running.send.sent) == 1
    running.clock.advance(0.01)
    assert running.send.sent == [file, file]
    running.send.store()
    assert (running.result.outcome, running.result.effort.attempts) == ("stored", 2)
    assert running.result.effort.seconds == pytest.approx(1.0)


def test_changed_file_is_retried(file: str) -> None:
    """A file that changed while it was being sent is retried: it may be complete the next time."""
    running = Running(file, retries=_certain(9))
    running.send.progress(1, 5)
    running.send.fail(SourceChanged("the file changed"))
    running.clock.advance(10)
    running.send.store()
    assert (running.result.outcome, running.result.effort.attempts) == ("stored", 2)


@pytest.mark.parametrize("error", [CouldNotConnect("no"), Busy("later"), SourceFailed("gone")])
def test_failure_after_an_unknown_outcome(file: str, error: Exception) -> None:
    """A failed retry does not settle the unknown outcome of an earlier attempt."""
    running = Running(file, retries=Retries(1, unknown=True, delay=1.0, random=lambda: 1.0))
    running.send.fail(OutcomeUnknown("no answer"))
    running.clock.advance(1.0)
    running.send.fail(error)
    assert (running.result.outcome, running.result.status) == ("unknown", ExitStatus.UNKNOWN)
    assert (running.result.error or "").endswith("; an earlier attempt may have been stored")


def test_interrupted_after_an_unknown_outcome(file: str) -> None:
    """An interrupt of the delay before a retry leaves the outcome unknown too."""
    running = Running(file, retries=Retries(1, unknown=True, delay=1.0, random=lambda: 1.0))
    running.send.fail(OutcomeUnknown("no answer"))
    running.batch.interrupt(signal.SIGINT)
    assert (running.result.outcome, running.result.code) == ("unknown", "cancelled")
    assert running.result.status == 130


def test_stored_after_an_unknown_outcome(file: str) -> None:
    """If the retry is stored, the file is stored."""
    running = Running(file, retries=Retries(1, unknown=True, delay=1.0, random=lambda: 1.0))
    running.send.fail(OutcomeUnknown("no answer"))
    running.clock.advance(1.0)
    running.send.store()
    assert (running.result.outcome, running.result.status) == ("stored", 0)


def test_internal_error_at_the_end(file: str) -> None:
    """After an internal error once everything has been sent, the file may be stored."""
    running = Running(file)
    running.send.progress(5, 5)
    running.send.fail(RuntimeError("what"))
    assert (running.result.outcome, running.result.code) == ("unknown", "internal")
    assert running.result.status == ExitStatus.UNKNOWN


@pytest.mark.parametrize(
    "error", [NotAllowed(), OutcomeUnknown(), AnswerTimedOut(), SourceFailed(), RuntimeError()]
)
def test_not_retried(file: str, error: Exception) -> None:
    """A failure that is not safe to repeat, or would recur, is not retried."""
    running = Running(file, retries=_certain(9))
    running.send.fail(error)
    assert running.result.effort.attempts == 1


def test_unknown_is_retried_on_request(file: str) -> None:
    """--retry-unknown also retries unknown outcomes, and nothing else."""
    running = Running(file, retries=_certain(9, unknown=True))
    running.send.fail(OutcomeUnknown())
    running.clock.advance(1)
    running.send.fail(NotAllowed())
    assert (running.result.code, running.result.effort.attempts) == ("not-allowed", 2)


def test_back_off(file: str) -> None:
    """Each delay is twice the previous one, up to a minute."""
    running = Running(file, retries=_certain(9))
    for _ in range(9):
        running.send.fail(Busy())
        running.clock.advance(60)
    running.send.fail(Busy("still"))
    assert running.notes.delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (running.result.error, running.result.effort.attempts) == ("still", 10)


def test_time_limit(file: str) -> None:
    """With a time, it is retried until that has passed."""
    retries = Retries(None, 5.0, delay=1.0, random=lambda: 1.0)
    running = Running(file, retries=retries)
    for _ in range(2):
        running.send.fail(Busy())
        running.clock.advance(4)
    running.send.fail(Busy("still"))
    assert running.notes.delays == [1, 2]
    assert (running.result.error, running.result.effort.attempts) == ("still", 3)


def test_upload_that_goes_on_by_itself(file: str) -> None:
    """What an upload tells of its attempts is shown, and counted."""
    running = Running(file)
    running.send.on_attempt(Attempt(1, 0))
    running.send.progress(5, 5)
    running.send.on_attempt(Attempt(1, 3, UploadInterrupted("broken"), 1.5))
    running.send.on_attempt(Attempt(2, 3))
    assert running.notes.delays == [1.5]
    running.send.store()
    assert running.result.effort == Effort(0.0, 2, 3)


def test_jitter() -> None:
    """A delay is shortened at random, by at most half; any number of attempts is valid."""
    assert Retries(random=lambda: 0.0).wait(1) == pytest.approx(0.5)
    assert Retries(random=lambda: 1.0).wait(10_000) == pytest.approx(60)
    assert 30 <= Retries().wait(10_000) <= 60


def test_pipe_is_not_retried() -> None:
    """Standard input is not retried once bytes of it were read: they cannot be read again."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as pipe, os.fdopen(write, "wb"):
        running = Running("-", retries=_certain(9), stdin=lambda: pipe)
        running.send.fail(CouldNotConnect())  # nothing has been read: a retry is possible
        running.clock.advance(1)
        running.send.progress(0, None)  # connected: reading has begun
        running.send.fail(Busy())
        assert (running.result.code, running.result.effort.attempts) == ("busy", 2)


def test_named_pipe_is_not_retried(tmp_path: Path) -> None:
    """A named pipe is not retried once bytes of it were read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    running = Running(str(path), retries=_certain(9))
    running.send.progress(0, None)
    running.send.fail(Busy())
    assert running.result.effort.attempts == 1


def test_vanished_file_is_not_retried(tmp_path: Path) -> None:
    """A file that no longer exists is not retried."""
    running = Running(str(tmp_path / "gone"), retries=_certain(9))
    running.send.progress(0, 5)
    running.send.fail(Busy())
    assert running.result.effort.attempts == 1


def test_standard_input_from_a_file_is_retried_from_its_first_offset() -> None:
    """If standard input is a file, a retry reads it again from the offset at the start."""
    stdin = io.BytesIO(b"head body")
    stdin.seek(5)
    running = Running("-", retries=_certain(9), stdin=lambda: stdin)
    running.send.progress(0, 4)
    assert running.send.sent[0].read() == b"body"
    running.send.fail(Busy())
    running.clock.advance(1)
    assert running.send.sent[1].read() == b"body"
    running.send.store()
    assert running.result.effort.attempts == 2


def test_no_standard_input() -> None:
    """Unavailable standard input is a local failure."""

    def closed() -> Any:
        raise SourceFailed("standard input is closed")

    running = Running("-", stdin=closed)
    assert (running.result.status, running.result.error) == (5, "standard input is closed")


def test_interrupted() -> None:
    """An interrupt aborts what is being sent and starts nothing more; each file has a result."""
    running = Running("a", "b", "c", "d", jobs=2)
    running.send.progress(1, 5)
    running.batch.interrupt(signal.SIGTERM)
    assert running.done.called
    assert running.send.sent == ["a", "b"]
    results = sorted(running.batch.results, key=lambda result: result.index)
    assert [result.file for result in results] == ["a", "b", "c", "d"]
    assert [result.effort.attempts for result in results] == [1, 1, 0, 0]
    assert {(result.outcome, result.code, result.status) for result in results} == {
        ("failed", "cancelled", 143)
    }


def test_interrupted_before_the_answer() -> None:
    """A file that was completely sent before the interrupt may be stored."""
    running = Running("a")
    running.send.progress(5, 5)
    running.batch.interrupt(signal.SIGINT)
    assert (running.result.outcome, running.result.code) == ("unknown", "cancelled")


def test_interrupted_during_a_delay(file: str) -> None:
    """An interrupt ends the delay between attempts."""
    running = Running(file, retries=_certain(9))
    running.send.progress(5, 5)
    running.send.fail(Busy())
    running.batch.interrupt(signal.SIGINT)
    assert (running.result.outcome, running.result.status) == ("failed", 130)
    assert running.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([0], 0), ([0, 0], 0), ([4, 4], 4), ([0, 4], 1), ([3, 4], 1), ([6], 6), ([1, 1], 1)],
)
def test_exit_status(statuses: Sequence[int], status: int) -> None:
    """The exit status is that of all files, or 1 if they differ."""
    assert (
        exit_status(
            [
                Result(index, "a", "a", "failed", "busy", None, "no", Effort(), status)
                for index, status in enumerate(statuses)
            ]
        )
        == status
    )
    assert ExitStatus.FAILED == 1
