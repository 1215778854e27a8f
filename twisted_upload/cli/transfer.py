"""Sending files: from a parsed command line to the exit status of the command."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.defer import Deferred

from twisted_upload.cli.bars import Bars
from twisted_upload.cli.batch import Batch, Retries
from twisted_upload.cli.common_options import Options, Patience, endpoint_of
from twisted_upload.cli.display import Display
from twisted_upload.cli.plan import Plan
from twisted_upload.cli.reactor import get_reactor, run_until_done
from twisted_upload.cli.results import exit_status, none_sent
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.client.attempts import Attempt, OnAttempt
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.resume_state import ResumeState
from twisted_upload.client.sending import Progress
from twisted_upload.client.upload import upload
from twisted_upload.core.text import printable
from twisted_upload.interfaces import Receipt

__all__ = ["content_type_of", "send"]

_DUMB = ("dumb", "unknown")
_FOR_EVER = 10 * 365 * 86400.0  # seconds; the number of attempts ends it


def send(options: Options, plan: Plan, streams: Streams) -> int:
    """
    Send files, and report the outcome of each.

    :return: the exit status.
    :raises click.UsageError: the options are invalid after all.
    """
    try:
        return _send_all(options, plan, streams, get_reactor())
    except OSError as error:  # out of file descriptors
        why = error.strerror or str(error)
        if options.as_json:
            for result in none_sent(plan.items, why):
                streams.out.line(json.dumps(result.to_json()))
        streams.err.line(printable(f"{PROGRAM}: {why}: nothing stored"))
        return ExitStatus.FAILED


def _send_all(options: Options, plan: Plan, streams: Streams, reactor: Any) -> int:
    out, err = streams.out, streams.err
    sender = _Sender(options, reactor)
    bars = None
    if err.is_terminal and os.environ.get("TERM") not in _DUMB and not options.quiet:
        bars = Bars(reactor, err, count=len(plan.items), size=plan.size)
    display = Display(
        out,
        err,
        items=plan.items,
        where=str(options.to),
        resumes=options.to.is_http,
        answer=options.answer if options.raw_answer else None,
        sha256=options.sha256,
        as_json=options.as_json,
        quiet=options.quiet,
        bars=bars,
    )
    for skipped in plan.skipped:
        display.skipped(skipped)
    began = reactor.seconds()
    batch = Batch(
        reactor,
        sender.send,
        plan.items,
        display,
        jobs=options.jobs,
        retries=_retries(options),
    )
    failure = run_until_done(reactor, streams.interrupts, batch.run, batch.interrupt)
    display.close()
    if failure is not None:
        display.say(f"internal error: {failure!r}")
        return ExitStatus.FAILED
    if streams.interrupts.number:
        display.interrupted(batch.results)
        return 128 + streams.interrupts.number
    display.summary(batch.results, len(plan.skipped), reactor.seconds() - began)
    status = exit_status(batch.results)
    if out.error is not None:
        display.say(f"standard output: {out.error.strerror}")
        status = status or ExitStatus.FAILED
    return status


def _retries(options: Options) -> Retries:
    """Return the retries of the batch: none over HTTP, where an upload goes on by itself."""
    if options.to.is_http:
        return Retries()
    retry = options.retry
    return Retries(retry.times, retry.seconds, options.retry_unknown, options.retry_delay)


class _Sender:
    """
    Sends to the server that the options name.

    :raises click.UsageError: they are invalid after all.
    """

    def __init__(self, options: Options, reactor: Any) -> None:
        endpoint_of(options.to, reactor)  # so that an error is one line, and comes at once
        self._options = options
        self._reactor = reactor
        self._limit = RateLimit(options.limit_rate) if options.limit_rate else None
        self._state = ResumeState() if options.to.is_http else None

    def send(
        self,
        source: Any,
        *,
        name: str | None,
        progress: Progress,
        on_attempt: OnAttempt,
    ) -> Deferred[Receipt]:
        """See `Send`."""
        options = self._options
        http: dict[str, Any] = {}
        if options.to.is_http:
            http = {
                "token": options.token,
                "label": options.label,
                "name": name or "",
                "content_type": content_type_of(name),
                "retry": _patience(options.retry),
                "state": self._state,
                "on_attempt": _Limited(options.retry.times, on_attempt),
            }
        return upload(
            source,
            options.to,
            reactor=self._reactor,
            progress=progress,
            answer=options.answer,
            sha256=options.sha256 or None,
            limit=self._limit,
            connect_timeout=options.connect_timeout,
            stall_timeout=options.stall_timeout,
            answer_timeout=options.answer_timeout,
            **http,
        )


def _patience(retry: Patience) -> float | None:
    """Return for how many seconds an upload over HTTP is to be tried without progress."""
    return retry.seconds if not retry.times else _FOR_EVER


class _Limited:
    """
    Limits the number of attempts without progress.

    :param times: how many may follow one that failed; `None` for any number.
    :param on_attempt: is told of all.
    """

    def __init__(self, times: int | None, on_attempt: OnAttempt) -> None:
        self._times = times
        self._on_attempt = on_attempt
        self._offset = 0
        self._failures = 0

    def __call__(self, attempt: Attempt) -> None:
        """
        Note an attempt.

        :raises UploadError: that with which it failed, if it was the last one.
        """
        if attempt.offset > self._offset:
            self._offset, self._failures = attempt.offset, 0
        if attempt.error is not None:
            self._failures += 1
            if self._times is not None and self._failures > self._times:
                raise attempt.error
        self._on_attempt(attempt)


def content_type_of(name: str | None) -> str | None:
    """Return the media type that the suffix of a name stands for, if it is a known one."""
    if name is None:
        return None
    import mimetypes  # noqa: PLC0415 - slow to import

    kind, encoding = mimetypes.guess_type(f"file://{name}", strict=False)
    return kind if encoding is None else _ENCODINGS.get(encoding)


_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}
