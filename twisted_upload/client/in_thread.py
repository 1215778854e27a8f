"""
An upload in a thread, for programs with an event loop.

The threads are daemons: a program that ends does not wait for an upload, and the kernel
resets its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted_upload.client.attempts import Attempt
from twisted_upload.client.sending import Progress, Upload
from twisted_upload.client.waiting import Stop
from twisted_upload.receipt import Receipt

__all__ = ["ThreadedUpload"]

Result = Receipt | BaseException


class ThreadedUpload:
    """
    Carries out an upload in a thread.

    :param upload: its callbacks are called in the event loop.
    :param call: has the event loop call something, from any thread, in this order.
    :param done: called there once, with the receipt, or with what went wrong.
    :raises OSError: out of file descriptors.
    :raises ValueError: an argument is invalid.
    """

    def __init__(
        self,
        upload: Upload,
        call: Callable[[Callable[[], Any]], object],
        done: Callable[[Result], object],
    ) -> None:
        upload.where  # noqa: B018 - raises ValueError
        self._call = call
        self._done = done
        self._progress = upload.progress
        self._on_attempt = upload.on_attempt
        self._reported: tuple[int, int | None] | None = None
        self._failure: BaseException | None = None
        self._lock = upload.system.mutex()
        progress: Progress | None = None if upload.progress is None else self._moved
        self._upload = replace(
            upload,
            progress=progress,
            on_attempt=None if upload.on_attempt is None else self._attempted,
        )
        self._stop = Stop(upload.system)

    def start(self) -> None:
        """
        Start it.

        :raises OSError: out of threads.
        """
        try:
            self._upload.system.start(self._run, "upload")
        except RuntimeError as error:
            self._stop.close()
            raise OSError("cannot start another thread") from error

    def stop(self) -> None:
        """Stop it at once: nothing is stored, unless everything had been sent."""
        self._stop.set()

    # In the thread

    def _run(self) -> None:
        result: Result
        try:
            result = self._upload.run(self._stop)
        except BaseException as error:
            result = error
        self._call(lambda: self._end(result))

    def _moved(self, sent: int, total: int | None) -> None:
        with self._lock:
            is_called = self._reported is not None
            self._reported = sent, total
        if not is_called:
            self._call(self._report)

    def _attempted(self, attempt: Attempt) -> None:
        self._call(lambda: self._tell(self._on_attempt, attempt))

    # In the event loop

    def _report(self) -> None:
        with self._lock:
            reported, self._reported = self._reported, None
        if reported is not None:
            self._tell(self._progress, *reported)

    def _tell(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is None or self._failure is not None or self._stop.is_set:
            return
        try:
            callback(*arguments)
        except BaseException as error:
            self._failure = error
            self._stop.set()

    def _end(self, result: Result) -> None:
        self._stop.close()
        self._done(result if self._failure is None else self._failure)
