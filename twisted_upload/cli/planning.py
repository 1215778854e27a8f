"""The first half of sending: what would be sent, without a connection, and without Twisted."""

from __future__ import annotations

import json

import click

from twisted_upload.cli.common_options import Options
from twisted_upload.cli.items import FailedSource
from twisted_upload.cli.patterns import Patterns
from twisted_upload.cli.plan import Plan, make_plan
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.core.text import counted, format_size, printable

__all__ = ["plan_of", "show_plan"]


def plan_of(options: Options, streams: Streams) -> Plan:
    """
    Find what the options say is to be sent.

    :raises click.UsageError: the options do not fit together.
    :raises KeyboardInterrupt: the user has interrupted it.
    """
    if options.limit_rate and options.to.scheme == "endpoint":
        raise click.UsageError(f"--limit-rate does not work with the endpoint {options.to}")
    if options.recursive and options.tar:
        raise click.UsageError("--recursive and --tar exclude each other")
    if (options.include or options.exclude) and not (options.recursive or options.tar):
        raise click.UsageError("--include and --exclude need --recursive or --tar")
    if options.name is not None and not options.tar and len(options.files) != 1:
        raise click.UsageError("--name needs exactly one FILE")
    if options.name is not None and options.recursive:
        raise click.UsageError("--name and --recursive exclude each other")

    def check() -> None:
        if streams.interrupts.number:
            raise KeyboardInterrupt

    try:
        return make_plan(
            options.files,
            recursive=options.recursive,
            archive=options.tar,
            name=options.name,
            patterns=Patterns(options.include, options.exclude),
            check=check,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def show_plan(plan: Plan, options: Options, streams: Streams) -> int:
    """
    Print what would be sent.

    :return: the exit status.
    """
    failed = 0
    for item in plan.items:
        why = item.source.why if isinstance(item.source, FailedSource) else None
        if options.as_json:
            would = {
                "file": item.file,
                "name": item.name,
                "outcome": "planned" if why is None else "failed",
                "size": item.size,
                "error": why,
            }
            streams.out.line(json.dumps(would))
        if why is not None:
            failed += 1
            streams.err.line(printable(f"{PROGRAM}: {item.file}: {why}"))
        elif not options.as_json and not options.quiet:
            size = "size unknown" if item.size is None else format_size(item.size)
            streams.out.line(printable(f"{item.file}: would be sent: {size}"))
    for skipped in plan.skipped:
        if not (options.as_json and options.quiet):
            streams.err.line(printable(f"{PROGRAM}: {skipped.path}: {skipped.why}"))
    if not options.quiet:
        total = format_size(sum(item.size or 0 for item in plan.items))
        text = f"{counted(len(plan.items) - failed, 'file')}, {total}, to {options.to}"
        streams.err.line(printable(f"{text}: nothing was sent"))
    return ExitStatus.SOURCE if failed else ExitStatus.OK
