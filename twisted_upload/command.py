"""
The ``twisted-upload`` command: send files, and tell what became of each.

`main` is the one place that meets the reactor, the signals and the streams of
the process; all below it has them handed in.
"""

from __future__ import annotations

import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape, glob
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from twisted_upload.answers import FAILURE, SUCCESS
from twisted_upload.batch import Batch, ExitStatus, Retries, exit_status
from twisted_upload.certificates import trusting
from twisted_upload.client import upload
from twisted_upload.clock import use_monotonic_time
from twisted_upload.destination import DaemonResolver, Destination, parse_destination
from twisted_upload.display import PROGRAM, Bars, Display, Output
from twisted_upload.journal_command import read_journal
from twisted_upload.printable import printable
from twisted_upload.units import parse_duration

__all__ = ["main", "program"]

_EPILOG = f"""\b
Exit status:
  {ExitStatus.KEPT}    every file is kept
  {ExitStatus.FAILED}    some files failed, for different reasons; or the connection broke
  {ExitStatus.USAGE}    wrong usage
  {ExitStatus.NO_CONNECTION}    could not connect
  {ExitStatus.REFUSED}    refused by the server
  {ExitStatus.SOURCE}    a local file cannot be read, or changed while it was sent
  {ExitStatus.UNKNOWN}    outcome unknown: all was sent, but no clear answer came
  {ExitStatus.TIMED_OUT}  timed out while connecting or sending
  {ExitStatus.INTERRUPTED}  interrupted (143 by SIGTERM); a line says what is kept

\b
A first word that is log, as in twisted-upload log --help, reads a journal of
uploads instead; a file of that name is sent as ./log.

\b
Durations are seconds, or 500ms, 30s, 5m, 2h; 0 is without limit.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    files: tuple[str, ...]
    to: Destination
    tls: bool
    cacert: str | None
    jobs: int
    retry: int
    retry_unknown: bool
    retry_delay: float
    answer: str
    sha256: bool
    connect_timeout: float
    stall_timeout: float
    answer_timeout: float
    as_json: bool
    quiet: bool


def _understood(understand: Callable[[str], Any]) -> Callable[..., Any]:
    """A value that a function of ours understands, or says why not."""

    def callback(ctx: click.Context, param: click.Parameter, value: str) -> Any:
        try:
            return understand(value)
        except ValueError as error:
            environment = ctx.get_parameter_source(param.name or "") is ParameterSource.ENVIRONMENT
            hint = str(param.envvar) if environment else None
            raise click.BadParameter(str(error), param_hint=hint) from error

    return callback


def _answer(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("the answer must be one line of text")
    if text.startswith(FAILURE):
        raise ValueError(f"{text!r} would be taken for a refusal")
    return text


def _files(ctx: click.Context, param: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    if files.count("-") > 1:
        raise click.BadParameter("standard input (-) can be sent only once")
    return files


class _Program(click.Command):
    """Sends files; but a first word that is ``log`` reads a journal."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Of one or the other."""
        if args[:1] == [_LOG]:
            return read_journal.make_context(f"{info_name} {_LOG}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what the context is of."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


_LOG = "log"


def _complete_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Files; and first of all the word that is none."""
    first = not any(
        ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ctx.params
    )
    if not first or not incomplete or not _LOG.startswith(incomplete):
        return [CompletionItem(incomplete, type="file")]
    # A shell completes files itself only where it is offered nothing else.
    return [CompletionItem(name) for name in (_LOG, *glob(f"{escape(incomplete)}*"))]


def _complete_path(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


_duration = partial(
    click.option,
    metavar="DURATION",
    callback=_understood(parse_duration),
    show_default=True,
)


@click.command(
    cls=_Program,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.UNPROCESSED, callback=_files,
    shell_complete=_complete_file,
)  # fmt: skip
@click.option(
    "--to",
    metavar="HOST[:PORT]",
    callback=_understood(parse_destination),
    default="localhost:6666",
    envvar="TWISTED_UPLOAD_TO",
    help="Server to send to: a name, an address ([::1]:6666 for IPv6), or a client endpoint"
    " such as tls:server:6667 or unix:/run/upload.sock.  [env var: TWISTED_UPLOAD_TO; default:"
    " localhost:6666]",
)
@click.option(
    "--tls", is_flag=True,
    help="Send by TLS; the server's certificate must be valid, and for that HOST.",
)  # fmt: skip
@click.option(
    "--cacert", metavar="FILE", type=click.UNPROCESSED, shell_complete=_complete_path,
    help="Trust the certificates in this PEM file, of CAs or of servers, instead of the"
    " system's; means --tls.",
)  # fmt: skip
@click.option(
    "-j", "--jobs", metavar="N", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="Send N files at a time.",
)  # fmt: skip
@click.option(
    "--retry", metavar="N", type=click.IntRange(0), default=0, show_default=True,
    help="Try again up to N times where that is safe: the file is certainly not kept, and the"
    " failure may pass.",
)  # fmt: skip
@click.option(
    "--retry-unknown", is_flag=True,
    help="With --retry, try again also where the outcome is unknown; the file may then be kept"
    " twice.",
)  # fmt: skip
@_duration(
    "--retry-delay", default="1s",
    help="Wait so long, about, before the first retry; then twice as long each time, up to a"
    " minute.",
)  # fmt: skip
@click.option(
    "--answer", metavar="TEXT", callback=_understood(_answer), default=SUCCESS,
    show_default=True, help="What the server answers when a file is kept.",
)  # fmt: skip
@click.option(
    "--sha256", is_flag=True,
    help="Tell the SHA-256 of what was sent, though the server may not; a large file is"
    " slower then.",
)  # fmt: skip
@_duration(
    "--connect-timeout", default="30s",
    help="Give up when there is no connection after so long.",
)  # fmt: skip
@_duration(
    "--stall-timeout", default="60s",
    help="Give up when not one byte gets through for so long.",
)  # fmt: skip
@_duration(
    "--answer-timeout", default="5m",
    help="Give up when all was sent and no answer comes for so long.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON object a line for each file: file, outcome (kept, refused, failed,"
    " unknown), code, name, size, sha256, seconds, attempts, error.",
)  # fmt: skip
@click.option(
    "-q", "--quiet", is_flag=True,
    help="Print errors only; with --json, the objects only.",
)  # fmt: skip
@click.version_option(package_name="twisted-upload", message=f"{PROGRAM} %(version)s")
def program(**values: Any) -> Options:
    """
    Send files to an upload server (twistd upload).

    A FILE that is - is standard input. When the answer is shown, the file is
    whole and on the server's disk.
    """
    return Options(**values)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The whole command: exits, and never with a traceback."""
    out, err = Output(sys.stdout), Output(sys.stderr)
    try:
        options = program.main(
            None if arguments is None else [*arguments],
            prog_name=PROGRAM,
            standalone_mode=False,
            obj=(out, err),
        )
        if isinstance(options, Options):
            sys.exit(_send(options, out, err))
        sys.exit(options)  # what is printed has been printed
    except click.ClickException as error:
        err.line(printable(f"{PROGRAM}: {error.format_message()}"))
        sys.exit(ExitStatus.USAGE)
    except (KeyboardInterrupt, click.Abort):
        err.line(f"{PROGRAM}: interrupted: nothing kept")
        sys.exit(ExitStatus.INTERRUPTED)
    except OSError as error:  # from printing the help
        out.give_up(error)
        if out.error is None:
            sys.exit(ExitStatus.KEPT)
        err.line(f"{PROGRAM}: standard output: {error.strerror}")
        sys.exit(ExitStatus.FAILED)
    except Exception as error:
        err.line(printable(f"{PROGRAM}: internal error: {error!r}"))
        sys.exit(ExitStatus.FAILED)


def _trust(options: Options) -> ssl.SSLContext | None:
    """Whom to trust, where the destination itself does not say."""
    if not options.tls and options.cacert is None:
        return None
    if options.to.is_tls and options.cacert is None:
        return None
    if options.to.host is None:
        raise click.UsageError(
            "--tls and --cacert go with --to HOST[:PORT]; or write tls:HOST:PORT:cacert=FILE"
        )
    try:
        return trusting(options.cacert)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--cacert'") from error


def _send(options: Options, out: Output, err: Output) -> int:
    # Only here, so that --help need not wait for it.
    from twisted.internet import reactor as _reactor  # noqa: PLC0415

    reactor: Any = _reactor
    use_monotonic_time(reactor)
    context = _trust(options)
    try:
        endpoint = options.to.endpoint(reactor, context)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--to'") from error
    reactor.installNameResolver(DaemonResolver(reactor))
    # What Twisted logs is not for the user of a command, least of all tracebacks.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)

    display = Display(
        out,
        err,
        files=len(options.files),
        where=options.to.text,
        answer=options.answer,
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
    interrupted_by = _run(reactor, batch, display)
    if interrupted_by:
        display.interrupted(batch.results)
        return 128 + interrupted_by
    status = exit_status(batch.results)
    if out.error is not None:
        display.say(f"standard output: {out.error.strerror}")
        status = status or ExitStatus.FAILED
    return status


def _run(reactor: Any, batch: Batch, display: Display) -> int:
    """
    Run the reactor until the batch is done.

    :return: the signal that interrupted it, or 0.
    """
    signals: list[int] = []

    def interrupt(number: int, _: object) -> None:
        # Whoever asks twice means it: the kernel then resets our connections.
        signal.signal(number, signal.SIG_DFL)
        signals.append(number)
        reactor.callFromThread(batch.interrupt, number)

    def ended(result: object) -> None:
        display.close()
        if isinstance(result, Failure):
            display.say(f"internal error: {result.value!r}")
        reactor.stop()

    def begin() -> None:
        # Now, because the reactor has just installed its own; it keeps waking
        # up for ours.  Whoever has had a signal ignored (nohup) keeps that.
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, interrupt)
        batch.run().addBoth(ended)

    reactor.callWhenRunning(begin)
    reactor.run()
    return signals[0] if signals else 0
