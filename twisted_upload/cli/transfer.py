"""Sending files: from a parsed command line to the exit status of the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from twisted_upload.cli.bars import Bars
from twisted_upload.cli.batch import Batch, Retries
from twisted_upload.cli.common_options import Options, endpoint_of
from twisted_upload.cli.display import Display
from twisted_upload.cli.plan import Plan
from twisted_upload.cli.reactor import get_reactor, run_until_done
from twisted_upload.cli.results import exit_status, none_sent
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.client.upload import upload
from twisted_upload.core.text import printable
from twisted_upload.interfaces import Receipt

__all__ = ["send"]


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
    if err.is_terminal and not options.quiet:
        bars = Bars(reactor, err, count=len(plan.items), size=plan.size)
    display = Display(
        out,
        err,
        items=plan.items,
        where=options.to.text,
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
        retries=Retries(options.retry, options.retry_unknown, options.retry_delay),
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


class _Sender:
    """Sends to the server that the options name."""

    def __init__(self, options: Options, reactor: Any) -> None:
        self._options = options
        self._reactor = reactor
        self._endpoint = endpoint_of(options.to, options.cacert, reactor, tls=options.tls)

    def send(
        self, source: Any, *, name: str | None, progress: Callable[[int, int | None], object]
    ) -> Deferred[Receipt]:
        """See `Send`."""
        options = self._options
        return upload(
            source,
            self._endpoint,
            reactor=self._reactor,
            progress=progress,
            answer=options.answer,
            sha256=options.sha256,
            connect_timeout=options.connect_timeout,
            stall_timeout=options.stall_timeout,
            answer_timeout=options.answer_timeout,
        )
