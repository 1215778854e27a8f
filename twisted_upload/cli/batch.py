"""Sending the files of one command: several at a time, with retries."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from twisted_upload.cli.items import Item
from twisted_upload.cli.results import (
    Effort,
    Result,
    cancelled_result,
    failed_result,
    in_doubt,
    stored_result,
)
from twisted_upload.client.attempts import Attempt, OnAttempt
from twisted_upload.errors import OutcomeUnknown, UploadRefused
from twisted_upload.interfaces import Receipt

__all__ = ["Batch", "Retries", "Send", "Watcher"]

LONGEST_DELAY = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """
    How often to retry, and when.

    :ivar limit: attempts after the first; `None` for any number.
    :ivar seconds: for which to retry; `None` for any time.
    :ivar unknown: whether to retry even if the file may already be stored.
    :ivar delay: approximate seconds before the first retry; each further delay is twice
        as long, up to a minute.
    :ivar random: returns a number from 0 to 1, so that many clients that were rejected
        together do not return together.
    """

    limit: int | None = 0
    seconds: float | None = None
    unknown: bool = False
    delay: float = 1.0
    random: Callable[[], float] = random.random

    def allow(self, attempts: int, seconds: float) -> bool:
        """Return whether to retry after this many attempts, in this many seconds."""
        if self.limit is not None and attempts > self.limit:
            return False
        return self.seconds is None or seconds < self.seconds

    def wait(self, attempts: int) -> float:
        """Return how many seconds to wait after this many attempts."""
        longest = min(self.delay * 2.0 ** min(attempts - 1, 30), LONGEST_DELAY)
        return longest * (0.5 + self.random() / 2)


class Watcher(Protocol):
    """Receives the progress of a batch."""

    def began(self, index: int, item: Item) -> None:
        """An item is about to be sent."""

    def progress(self, index: int, sent: int, total: int | None) -> None:
        """This many bytes of it have been sent; if both are equal, only the answer is missing."""

    def retrying(self, result: Result, delay: float, limit: int | None) -> None:
        """
        It failed with this result, and will be retried in so many seconds, at most so many
        times in all.
        """

    def ended(self, result: Result) -> None:
        """This is its final result."""


class Send(Protocol):
    """`twisted_upload.upload`, with everything that is the same for all files already given."""

    def __call__(
        self,
        source: Any,
        *,
        name: str | None,
        progress: Callable[[int, int | None], object],
        on_attempt: OnAttempt,
    ) -> Deferred[Receipt]:
        """Send one file."""


class Batch:
    """
    The files of one command.

    :param clock: measures them and the delays between attempts.
    :param jobs: how many are sent at a time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Send,
        items: Sequence[Item],
        watcher: Watcher,
        *,
        jobs: int = 1,
        retries: Retries | None = None,
    ) -> None:
        self._clock = clock
        self._send = send
        self._waiting = deque(enumerate(items))
        self._watcher = watcher
        self._jobs = min(jobs, len(items))
        self._retries = retries or Retries()
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
        for index, item in waiting:
            self._end(self._cancelled(index, item, Effort()))

    async def _work(self) -> None:
        while self._waiting:
            index, item = self._waiting.popleft()
            self._watcher.began(index, item)
            doubtful: list[Result] = []
            try:
                result = await self._send_one(index, item, doubtful)
            finally:
                item.source.close()
            self._end(in_doubt(result) if doubtful else result)

    def _end(self, result: Result) -> None:
        self.results.append(result)
        self._watcher.ended(result)

    async def _send_one(self, index: int, item: Item, doubtful: list[Result]) -> Result:
        """
        Send one file, with retries.

        :param doubtful: collects the attempts before the last that may have stored the
            file.
        """
        sending = _Sending(self._clock, self._watcher, index, item)
        while True:
            sending.begin()
            try:
                receipt = await self._send(
                    item.source.open(),
                    name=item.name,
                    progress=sending.progress,
                    on_attempt=sending.on_attempt,
                )
            except Exception as error:
                # If cancelled during name resolution, Twisted reports that the name does not exist.
                if self._signal and not isinstance(error, UploadRefused):
                    return self._cancelled(index, item, sending.effort, all_sent=sending.all_sent)
                result = sending.failed(error)
                # A pipe can be read only once: what was sent over a connection is gone.
                if not self._worth_repeating(error, sending.effort) or (
                    sending.connected and not item.source.can_be_read_again()
                ):
                    return result
            else:
                return stored_result(index, item, receipt, sending.effort)
            if result.outcome == "unknown":
                doubtful.append(result)
            delay = self._retries.wait(sending.effort.attempts)
            self._watcher.retrying(result, delay, self._retries.limit)
            try:
                await deferLater(self._clock, delay)
            except CancelledError:
                return self._cancelled(index, item, sending.effort)

    def _worth_repeating(self, error: Exception, effort: Effort) -> bool:
        if self._signal or not self._retries.allow(effort.attempts, effort.seconds):
            return False
        if isinstance(error, OutcomeUnknown):
            return self._retries.unknown
        return bool(getattr(error, "safe_to_repeat", False))

    def _cancelled(
        self, index: int, item: Item, effort: Effort, *, all_sent: bool = False
    ) -> Result:
        return cancelled_result(index, item, self._signal, effort, all_sent=all_sent)


class _Sending:
    """
    What is known of the attempts to send one item.

    :ivar connected: whether the current attempt has a connection.
    :ivar all_sent: whether only the answer is missing.
    """

    def __init__(self, clock: IReactorTime, watcher: Watcher, index: int, item: Item) -> None:
        self.connected = self.all_sent = False
        self._clock = clock
        self._watcher = watcher
        self._index = index
        self._item = item
        self._began = clock.seconds()
        self._attempts = 0
        self._resumed = 0

    @property
    def effort(self) -> Effort:
        """What has been done so far."""
        return Effort(self._clock.seconds() - self._began, self._attempts, self._resumed)

    def begin(self) -> None:
        """Begin an attempt."""
        self._attempts += 1
        self.connected = self.all_sent = False

    def progress(self, sent: int, total: int | None) -> None:
        """Note how much has been sent."""
        self.connected = True
        self.all_sent = sent == total
        self._watcher.progress(self._index, sent, total)

    def on_attempt(self, attempt: Attempt) -> None:
        """Note what an upload that goes on by itself tells."""
        self._attempts = attempt.number
        if attempt.error is None:
            self._resumed = attempt.offset
            return
        self.connected = self.all_sent = False
        self._watcher.retrying(self.failed(attempt.error), attempt.delay, None)
        self._attempts += 1  # the next one is told when it begins to send, not if it fails before

    def failed(self, error: Exception) -> Result:
        """Return the result of an attempt that failed."""
        return failed_result(self._index, self._item, error, self.effort, all_sent=self.all_sent)
