"""Sending files: from a parsed command line to the exit status of the command."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from twisted_upload.cli.batch import Batch, Retries, exit_status, none_sent
from twisted_upload.cli.common_options import Options, endpoint_of
from twisted_upload.cli.display import Bars, Display
from twisted_upload.cli.reactor import get_reactor, run_until_done
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.client.upload import upload
from twisted_upload.core.text import printable

__all__ = ["send"]


def send(options: Options, streams: Streams) -> int:
    """
    Send files, and report the outcome of each.

    :return: the exit status.
    :raises click.UsageError: the options are invalid after all.
    """
    try:
        return _send_all(options, streams, get_reactor())
    except OSError as error:  # out of file descriptors
        why = error.strerror or str(error)
        if options.as_json:
            for result in none_sent(options.files, why):
                streams.out.line(json.dumps(result.to_json()))
        streams.err.line(printable(f"{PROGRAM}: {why}: nothing stored"))
        return ExitStatus.FAILED


def _send_all(options: Options, streams: Streams, reactor: Any) -> int:
    out, err = streams.out, streams.err
    endpoint = endpoint_of(options.to, options.cacert, reactor, tls=options.tls)
    display = Display(
        out,
        err,
        files=len(options.files),
        where=options.to.text,
        answer=options.answer if options.raw_answer else None,
        sha256=options.sha256,
        as_json=options.as_json,
        quiet=options.quiet,
        bars=Bars(reactor, err) if err.is_terminal and not options.quiet else None,
    )
    batch = Batch(
        reactor,
        partial(
            upload,
            endpoint=endpoint,
            reactor=reactor,
            answer=options.answer,
            sha256=options.sha256,
            connect_timeout=options.connect_timeout,
            stall_timeout=options.stall_timeout,
            answer_timeout=options.answer_timeout,
        ),
        options.files,
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
    status = exit_status(batch.results)
    if out.error is not None:
        display.say(f"standard output: {out.error.strerror}")
        status = status or ExitStatus.FAILED
    return status
