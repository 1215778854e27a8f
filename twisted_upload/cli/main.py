"""
The ``twisted-upload`` command: sends files, and reports the outcome of each.

Only `main` uses the signals and the streams of the process; everything below it
gets them as arguments.

Whatever helps to write a command line (``--help``, ``--version``, Tab) cannot wait
for the import of Twisted: the code that needs it is imported only when there is
something to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from twisted_upload.cli.common_options import (
    Options,
    Patience,
    answer_option,
    cacert_option,
    duration_option,
    server_of,
    tls_option,
    to_option,
    token_file_option,
    token_of,
    understood,
)
from twisted_upload.cli.interrupts import Interrupts
from twisted_upload.cli.patterns import parse_pattern
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Output, Streams
from twisted_upload.client.targets import Target
from twisted_upload.core.garbage import Importing
from twisted_upload.core.text import parse_size, printable
from twisted_upload.version import VERSION

__all__ = ["main", "program"]

_EPILOG = f"""\b
Exit status:
  {ExitStatus.OK}    every file was stored
  {ExitStatus.FAILED}    some files failed, for different reasons; or the connection broke
  {ExitStatus.USAGE}    wrong usage
  {ExitStatus.NO_CONNECTION}    could not connect
  {ExitStatus.REFUSED}    refused by the server
  {ExitStatus.SOURCE}    a local file could not be read, or changed while it was being sent
  {ExitStatus.UNKNOWN}    outcome unknown: everything was sent, but no clear answer came
  {ExitStatus.TIMED_OUT}  timed out while connecting or sending
  {ExitStatus.INTERRUPTED}  interrupted (143 by SIGTERM); a line says what was stored

\b
Examples:
  twisted-upload photo.jpg notes.pdf --to server
  twisted-upload -r photos --to https://upload.example/ --token-file token
  twisted-upload --tar project --exclude .git/ --to tls://server
  tar cz project | twisted-upload - --name project.tgz --to http://server:8080/
  twisted-upload *.jpg --to server -j 4 --retry 10m --limit-rate 5M

\b
If the first word is invite, log, ping, serve, token or watch, it is a command: invite
makes links for people to upload, log reads a journal of uploads, ping checks that a
server answers, serve runs the server, token manages tokens, watch sends the files of a
folder as they come. See twisted-upload log --help. To send a file of that name, write
./log.

\b
Durations are seconds, or 500ms, 30s, 5m, 2h; 0 means no limit.
"""


def _files(ctx: click.Context, param: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    if files.count("-") > 1:
        raise click.BadParameter("standard input (-) can be sent only once")
    return files


class _Program(click.Command):
    """Sends files, unless the first word is that of another command."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Create the context of the command that the first word names."""
        if args and args[0] in _COMMANDS:
            word, *rest = args
            return _COMMANDS[word]().make_context(f"{info_name} {word}", rest, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command that the context belongs to."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


# Imported on demand: together they take as long as everything else.


def _invite() -> click.Command:
    from twisted_upload.cli.invite import invite  # noqa: PLC0415

    return invite


def _log() -> click.Command:
    from twisted_upload.cli.log import read_journal  # noqa: PLC0415

    return read_journal


def _ping() -> click.Command:
    from twisted_upload.cli.ping import ping  # noqa: PLC0415

    return ping


def _serve() -> click.Command:
    from twisted_upload.cli.serve import serve_command  # noqa: PLC0415

    return serve_command()


def _token() -> click.Command:
    from twisted_upload.cli.token import token  # noqa: PLC0415

    return token


def _watch() -> click.Command:
    from twisted_upload.cli.watch import watch  # noqa: PLC0415

    return watch


_COMMANDS: Mapping[str, Callable[[], click.Command]] = {
    "invite": _invite,
    "log": _log,
    "ping": _ping,
    "serve": _serve,
    "token": _token,
    "watch": _watch,
}


def _complete_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete files; in the first place also the names of the other commands."""
    first = not any(
        ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ctx.params
    )
    words = [word for word in _COMMANDS if incomplete and word.startswith(incomplete)]
    if not first or not words:
        return [CompletionItem(incomplete, type="file")]
    from glob import escape, glob  # noqa: PLC0415

    # A shell completes files itself only if it is offered nothing else.
    return [CompletionItem(name) for name in (*words, *glob(f"{escape(incomplete)}*"))]


@click.command(
    cls=_Program,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.UNPROCESSED, callback=_files,
    shell_complete=_complete_file,
)  # fmt: skip
@to_option()
@tls_option
@cacert_option
@token_file_option
@click.option(
    "-r", "--recursive", is_flag=True,
    help="Send the files in folders too, one by one. Symbolic links and special files in them are"
    " skipped, and named.",
)  # fmt: skip
@click.option(
    "--tar", is_flag=True,
    help="Send all files and folders as one tar archive, which is made while it is sent.",
)  # fmt: skip
@click.option(
    "--include", metavar="GLOB", multiple=True, callback=understood(parse_pattern),
    help="Of what is in folders, send only matching files: *.jpg in any folder, 2026/** by path,"
    " drafts/ for whole folders. Repeatable.",
)  # fmt: skip
@click.option(
    "--exclude", metavar="GLOB", multiple=True, callback=understood(parse_pattern),
    help="Of what is in folders, do not send matching files, even included ones. Repeatable.",
)  # fmt: skip
@click.option(
    "--name", metavar="NAME",
    help="Send the only file, the archive or standard input under this name (HTTP only).",
)  # fmt: skip
@click.option(
    "--limit-rate", metavar="SIZE", callback=understood(parse_size), default="0",
    show_default=True,
    help="Send at most so much per second, all files together, as in 5M; 0 for no limit.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True,
    help="Print what would be sent, with names and sizes, and connect to nothing.",
)  # fmt: skip
@click.option(
    "-j", "--jobs", metavar="N", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="Send up to N files at the same time.",
)  # fmt: skip
@click.option(
    "--label", metavar="TEXT", default="",
    help="What the files are for; the server uses it unless the token has a label (HTTP only).",
)  # fmt: skip
@click.option(
    "--retry", metavar="N|DURATION", callback=understood(Patience.parse),
    help="Retry up to N times, or for so long without progress (as in 10m), if that is safe: the"
    " file was certainly not stored, and the failure may be temporary. Over HTTP it goes on where"
    " it stopped, and the default is 60s; otherwise it is 0.",
)  # fmt: skip
@click.option(
    "--retry-unknown", is_flag=True,
    help="With --retry, also retry if the outcome is unknown; the file may then be stored twice."
    " Over HTTP the server is asked instead.",
)  # fmt: skip
@duration_option(
    "--retry-delay", default="1s",
    help="Approximate delay before the first retry, except over HTTP; it doubles each time, up to a"
    " minute.",
)  # fmt: skip
@answer_option
@click.option(
    "--raw-answer", is_flag=True,
    help='Print the answer of the server as it came, instead of "stored as NAME".',
)  # fmt: skip
@click.option(
    "--sha256", is_flag=True,
    help="Report the SHA-256 of what was sent even if the server does not; slower for large files.",
)  # fmt: skip
@duration_option(
    "--connect-timeout", default="30s",
    help="Give up if there is no connection within this time.",
)  # fmt: skip
@duration_option(
    "--stall-timeout", default="60s",
    help="Give up if no byte is transferred for this long.",
)  # fmt: skip
@duration_option(
    "--answer-timeout", default="5m",
    help="Give up if everything was sent and no answer comes within this time.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print one JSON object per line for each file: file, name, outcome (stored, refused,"
    " failed, unknown, skipped), code, stored_as, size, sha256, seconds, attempts, resumed_bytes,"
    " error.",
)  # fmt: skip
@click.option(
    "-q", "--quiet", is_flag=True,
    help="Print only errors; with --json, only the objects.",
)  # fmt: skip
@click.version_option(VERSION, message=f"{PROGRAM} %(version)s")
def program(
    *, to: Target, tls: bool, cacert: str | None, token_file: str | None, **values: Any
) -> Options:
    """
    Send files to an upload server (twistd upload).

    FILE - is standard input. When a file is said to be stored, it is complete and on the
    server's disk. Over HTTP, an upload that breaks continues where it stopped, also with
    the next command.
    """
    to = server_of(to, cacert, tls=tls)
    if values["retry"] is None:
        values["retry"] = Patience(seconds=None if to.is_http else 0.0)
    return Options(to=to, token=token_of(to, token_file), **values)


def _send(options: Options, streams: Streams) -> int:
    """
    Send files, or print which would be sent.

    :return: the exit status.
    """
    from twisted_upload.cli.planning import plan_of, show_plan  # noqa: PLC0415

    plan = plan_of(options, streams)
    if options.dry_run:
        return show_plan(plan, options, streams)
    if not plan.items:
        streams.err.line(f"{PROGRAM}: nothing to send: no file was found")
        return ExitStatus.OK
    try:
        with Importing():
            from twisted_upload.cli.transfer import send  # noqa: PLC0415 - slow to import
    except OSError as error:  # not an error of standard output
        raise ImportError(f"cannot load the client: {error.strerror}") from error
    return send(options, plan, streams)


def main(
    arguments: Sequence[str] | None = None, *, interrupts: Interrupts | None = None
) -> NoReturn:
    """
    Run the whole command: exits, and never with a traceback.

    :param arguments: used instead of those of the command line.
    :param interrupts: the signals caught so far.
    """
    streams = Streams(Output(sys.stdout), Output(sys.stderr), interrupts or Interrupts())
    out, err = streams.out, streams.err
    try:
        done = program.main(
            None if arguments is None else [*arguments],
            prog_name=PROGRAM,
            standalone_mode=False,
            obj=streams,
        )
        if isinstance(done, Options):
            done = _send(done, streams)
        sys.exit(done)
    except click.ClickException as error:
        err.line(printable(f"{PROGRAM}: {error.format_message()}"))
        sys.exit(ExitStatus.USAGE)
    except (KeyboardInterrupt, click.Abort):
        err.line(f"{PROGRAM}: interrupted: nothing stored")
        sys.exit(ExitStatus.INTERRUPTED)
    except OSError as error:  # from printing the help
        out.give_up(error)
        if out.error is None:
            sys.exit(ExitStatus.OK)
        err.line(f"{PROGRAM}: standard output: {error.strerror}")
        sys.exit(ExitStatus.FAILED)
    except Exception as error:
        err.line(printable(f"{PROGRAM}: internal error: {error!r}"))
        sys.exit(ExitStatus.FAILED)
