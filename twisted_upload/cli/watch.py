"""
``twisted-upload watch``: the command line.
"""

from __future__ import annotations

import os
import stat

import click

from twisted_upload.cli.common_options import (
    DESTINATION_VARIABLE,
    cacert_option,
    duration_option,
    server_of,
    token_file_option,
    token_of,
    understood,
)
from twisted_upload.cli.patterns import Pattern, Patterns, parse_pattern
from twisted_upload.cli.streams import ExitStatus, Streams
from twisted_upload.cli.user_config import configured
from twisted_upload.cli.watch_options import WatchOptions, state_folder
from twisted_upload.client.targets import Target, parse_target
from twisted_upload.core.garbage import Importing
from twisted_upload.core.text import parse_duration

__all__ = ["watch"]

_EPILOG = f"""\b
Exit status:
  {ExitStatus.OK}    stopped by a signal; with --status, it runs without trouble
  {ExitStatus.FAILED}    an internal error; with --status, it does not run, or has trouble
  {ExitStatus.USAGE}    wrong usage
  {ExitStatus.SOURCE}    the folder or the state cannot be used

\b
A file is complete if its writer has closed it or moved it to DIR, or if it has not changed
for --settle. Hidden files (.name) are left alone: a writer can use such a name, and rename
the file at the end. Whatever fails is tried again, for as long as it takes.
"""


def _settle(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 1:
        raise ValueError("it must be at least 1s")
    return seconds


def _http_target(text: str) -> Target:
    target = parse_target(text)
    if not target.is_http:
        raise ValueError(
            "watch needs http://HOST/ or https://HOST/: only HTTP resumes uploads, and gives"
            " receipts"
        )
    return target


@click.command(
    "watch",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.argument("folder", metavar="DIR", type=click.UNPROCESSED)
@click.option(
    "--to", metavar="URL", callback=understood(_http_target), default=configured("to"),
    envvar=DESTINATION_VARIABLE,
    help="Server to send to: http://HOST/, https://HOST/ or the link of an invitation."
    "  [env var: TWISTED_UPLOAD_TO]",
)  # fmt: skip
@cacert_option
@token_file_option
@click.option("--delete", is_flag=True, help="Delete each file when it is stored.")
@click.option(
    "--move-to", metavar="DIR", type=click.UNPROCESSED,
    help="Move each file there when it is stored; on the same file system, and outside of DIR.",
)  # fmt: skip
@duration_option(
    "--settle", callback=understood(_settle), default="10s",
    help="Time without a change after which a file counts as complete.",
)  # fmt: skip
@click.option(
    "--include", metavar="GLOB", multiple=True, callback=understood(parse_pattern),
    help="Send only matching files: *.jpg in any folder, 2026/** by path. Repeatable.",
)  # fmt: skip
@click.option(
    "--exclude", metavar="GLOB", multiple=True, callback=understood(parse_pattern),
    help="Do not send matching files, as in *.part. Repeatable.",
)  # fmt: skip
@click.option(
    "-j", "--jobs", metavar="N", type=click.IntRange(1, 64), default=2, show_default=True,
    help="Send up to N files at the same time.",
)  # fmt: skip
@click.option(
    "--state", metavar="DIR", type=click.UNPROCESSED,
    help="Where to remember what was stored, and what is being sent.  [default: below"
    " STATE_DIRECTORY, or ~/.local/state]",
)  # fmt: skip
@click.option("--status", is_flag=True, help="Print what a running watch of DIR does, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --status, print a JSON object.")
@click.pass_obj
def watch(  # noqa: PLR0917 - click calls it
    streams: Streams,
    folder: str,
    to: Target | None,
    cacert: str | None,
    token_file: str | None,
    delete: bool,
    move_to: str | None,
    settle: float,
    include: tuple[Pattern, ...],
    exclude: tuple[Pattern, ...],
    jobs: int,
    state: str | None,
    status: bool,
    as_json: bool,
) -> int:
    """
    Send each file that comes into DIR, and delete or move it when it is stored.

    It runs until it is stopped. Nothing is deleted or moved before the server's receipt has the
    same SHA-256; nothing is sent twice. Without --delete and --move-to, files stay, and are
    remembered.
    """
    where = state_folder(folder, state, os.environ)
    if status:
        from twisted_upload.cli.watch_status import print_status  # noqa: PLC0415

        return print_status(streams, folder, where, as_json=as_json)
    if to is None:
        raise click.UsageError("Missing option '--to'.")
    if delete and move_to is not None:
        raise click.UsageError("--delete and --move-to exclude each other")
    server = server_of(to, cacert, tls=False)
    options = WatchOptions(
        folder,
        server,
        token_of(server, token_file),
        delete,
        move_to,
        settle,
        Patterns(include, exclude),
        jobs,
        where,
    )
    _check_folders(options)
    with Importing():
        from twisted_upload.cli.watching import run_watch  # noqa: PLC0415 - slow to import

    return run_watch(options, streams)


def _check_folders(options: WatchOptions) -> None:
    """
    :raises click.UsageError: a folder cannot be used.
    """
    here = _status_of(options.folder)
    if options.move_to is None:
        return
    there = _status_of(options.move_to)
    if here.st_dev != there.st_dev:
        raise click.UsageError(f"--move-to: {options.move_to} is on another file system")
    inside = os.path.realpath(options.move_to) + os.sep
    if inside.startswith(os.path.realpath(options.folder) + os.sep):
        raise click.UsageError(f"--move-to: {options.move_to} is in {options.folder}")


def _status_of(folder: str) -> os.stat_result:
    try:
        status = os.stat(folder)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise click.UsageError(f"{folder}: {why}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise click.UsageError(f"{folder}: is not a directory")
    return status
