"""What several commands have in common: options, and the endpoint to connect to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from twisted_upload.cli.destination import Destination
from twisted_upload.cli.patterns import Pattern
from twisted_upload.core.answers import FAILURE, SUCCESS
from twisted_upload.core.text import parse_duration

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint

__all__ = [
    "DEFAULT_DESTINATION",
    "DESTINATION_VARIABLE",
    "Options",
    "answer_option",
    "cacert_option",
    "duration_option",
    "endpoint_of",
    "tls_option",
    "understood",
]

DEFAULT_DESTINATION = "localhost:6666"
DESTINATION_VARIABLE = "TWISTED_UPLOAD_TO"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of the command that sends files."""

    files: tuple[str, ...]
    to: Destination
    tls: bool
    cacert: str | None
    jobs: int
    retry: int
    retry_unknown: bool
    retry_delay: float
    recursive: bool
    tar: bool
    include: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...]
    name: str | None
    limit_rate: int
    dry_run: bool
    answer: str
    raw_answer: bool
    sha256: bool
    connect_timeout: float
    stall_timeout: float
    answer_timeout: float
    as_json: bool
    quiet: bool


def understood(understand: Callable[[str], Any]) -> Callable[..., Any]:
    """
    Return a click callback that parses a value, or each of several, with a function, and
    reports its ValueError.
    """

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(map(understand, value))
            return None if value is None else understand(value)
        except ValueError as error:
            environment = ctx.get_parameter_source(param.name or "") is ParameterSource.ENVIRONMENT
            hint = str(param.envvar) if environment else None
            raise click.BadParameter(str(error), param_hint=hint) from error

    return callback


def _answer(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("the answer must be one line of text")
    if text.startswith(FAILURE):
        raise ValueError(f"{text!r} would be read as a refusal")
    return text


def _complete_path(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


duration_option = partial(
    click.option,
    metavar="DURATION",
    callback=understood(parse_duration),
    show_default=True,
)

tls_option = click.option(
    "--tls", is_flag=True,
    help="Connect over TLS; the server's certificate must be valid for HOST.",
)  # fmt: skip

cacert_option = click.option(
    "--cacert", metavar="FILE", type=click.UNPROCESSED, shell_complete=_complete_path,
    help="Trust the CA or server certificates in this PEM file instead of the system's; implies"
    " --tls.",
)  # fmt: skip

answer_option = click.option(
    "--answer", metavar="TEXT", callback=understood(_answer), default=SUCCESS,
    show_default=True, help="Text with which the server reports success.",
)  # fmt: skip


def endpoint_of(
    to: Destination, cacert: str | None, reactor: Any, *, tls: bool
) -> IStreamClientEndpoint:
    """
    Return the endpoint that the options select.

    :raises click.UsageError: the options are invalid.
    """
    context = None
    if cacert is not None or (tls and not to.is_tls):
        if to.host is None:
            raise click.UsageError(
                "--tls and --cacert need HOST[:PORT]; in an endpoint, write"
                " tls:HOST:PORT:cacert=FILE"
            )
        from twisted_upload.net.tls.certificates import verifying_context  # noqa: PLC0415 - slow to import

        try:
            context = verifying_context(cacert)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="'--cacert'") from error
    try:
        return to.endpoint(reactor, context)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--to'") from error
