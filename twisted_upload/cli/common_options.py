"""What several commands have in common: options, and the endpoint to connect to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from twisted_upload.cli.credentials import Given, find_token
from twisted_upload.cli.patterns import Pattern
from twisted_upload.cli.user_config import configured, user_config
from twisted_upload.client.targets import Target, parse_target
from twisted_upload.core.answers import FAILURE, SUCCESS
from twisted_upload.core.text import parse_duration

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint

__all__ = [
    "DEFAULT_DESTINATION",
    "DESTINATION_VARIABLE",
    "Options",
    "Patience",
    "answer_option",
    "cacert_option",
    "duration_option",
    "endpoint_of",
    "server_of",
    "tls_option",
    "to_option",
    "token_file_option",
    "token_of",
    "understood",
]

DEFAULT_DESTINATION = "localhost:6666"
DESTINATION_VARIABLE = "TWISTED_UPLOAD_TO"
_TOKEN_FILE = "TWISTED_UPLOAD_TOKEN_FILE"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long to try again.

    :ivar times: how often without progress; `None` if only the time counts.
    :ivar seconds: for how long without progress; `None` if only the number counts.
    """

    times: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Patience:
        """
        Parse a number, or a duration with its unit.

        :raises ValueError: it is neither.
        """
        if text.isascii() and text.isdigit() and len(text) < 10:
            return cls(times=int(text))
        return cls(seconds=parse_duration(text))


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of the command that sends files."""

    files: tuple[str, ...]
    to: Target
    token: str | None = field(repr=False)
    jobs: int
    label: str
    retry: Patience
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
            hint = None
            source = ctx.get_parameter_source(param.name or "")
            if source is ParameterSource.ENVIRONMENT:
                hint = str(param.envvar)
            elif source is ParameterSource.DEFAULT:
                hint = f"{param.name} in {user_config().path}"
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
    default=configured("cacert"), envvar="TWISTED_UPLOAD_CACERT",
    help="Trust the CA or server certificates in this PEM file instead of the system's; implies"
    " --tls.  [env var: TWISTED_UPLOAD_CACERT]",
)  # fmt: skip

token_file_option = click.option(
    "--token-file", metavar="FILE", type=click.UNPROCESSED, shell_complete=_complete_path,
    default=configured("token-file"), envvar=_TOKEN_FILE,
    help="Send the token in this file (HTTP only). TWISTED_UPLOAD_TOKEN may have the token itself."
    "  [env var: TWISTED_UPLOAD_TOKEN_FILE]",
)  # fmt: skip

answer_option = click.option(
    "--answer", metavar="TEXT", callback=understood(_answer), default=SUCCESS,
    show_default=True, help="Text with which the server reports success.",
)  # fmt: skip


def to_option(*, argument: bool = False) -> Callable[..., Any]:
    """
    Return the option ``--to``.

    :param argument: the command has an argument for it too.
    """
    return click.option(
        "--to",
        metavar="WHERE",
        callback=understood(parse_target),
        default=None if argument else configured("to", DEFAULT_DESTINATION),
        envvar=None if argument else DESTINATION_VARIABLE,
        help="Server: HOST[:PORT], tls://HOST[:PORT], unix:PATH, http://HOST[:PORT]/,"
        " https://HOST/, or the link of an invitation; [::1]:6666 for IPv6."
        "  [env var: TWISTED_UPLOAD_TO; default: localhost:6666]",
    )


def server_of(to: Target, cacert: str | None, *, tls: bool) -> Target:
    """
    Return the server that the options select.

    :param cacert: of the option, the environment, or the user's file.
    :raises click.UsageError: the options do not fit together.
    """
    ctx = click.get_current_context()
    is_option = ctx.get_parameter_source("cacert") is ParameterSource.COMMANDLINE
    if (tls or is_option) and not to.is_tls:
        if to.is_http:
            raise click.UsageError("--tls and --cacert need https:// instead of http://")
        if not to.host:
            raise click.UsageError(
                "--tls and --cacert need HOST[:PORT]; in an endpoint, write"
                " tls:HOST:PORT:cacert=FILE"
            )
        to = replace(to, scheme="tls")
    if cacert is None or not to.is_tls:
        return to
    if to.cacert is not None and is_option:
        raise click.UsageError("--cacert and cacert= in --to exclude each other")
    return to if to.cacert is not None else replace(to, cacert=cacert)


def token_of(to: Target, token_file: str | None) -> str | None:
    """
    Return the token to send to a server, if there is one.

    :raises click.UsageError: it cannot be used.
    """
    source = click.get_current_context().get_parameter_source("token_file")
    name = {ParameterSource.COMMANDLINE: "--token-file", ParameterSource.ENVIRONMENT: _TOKEN_FILE}
    given = Given(token_file, name.get(source, "")) if token_file and source else None
    return find_token(to, given, os.environ, user_config())


def endpoint_of(
    to: Target,
    reactor: Any,
    wrap: Callable[[IStreamClientEndpoint], IStreamClientEndpoint] = lambda endpoint: endpoint,
) -> IStreamClientEndpoint:
    """
    Return the endpoint that connects to a server.

    :param wrap: called with the endpoint below TLS, if there is TLS; what it returns is used
        instead.
    :raises click.UsageError: it cannot be used.
    """
    from twisted_upload.client.endpoints import client_endpoint, host_endpoint  # noqa: PLC0415
    from twisted_upload.net.tls.certificates import verifying_context  # noqa: PLC0415
    from twisted_upload.net.tls.endpoints import TLSClientEndpoint  # noqa: PLC0415

    try:
        if not to.host or (to.timeout is not None and not to.is_tls):
            return wrap(client_endpoint(reactor, to.text))
        endpoint = wrap(host_endpoint(reactor, to.host, to.port))
        if not to.is_tls:
            return endpoint
        return TLSClientEndpoint(endpoint, verifying_context(to.cacert), to.host, reactor)
    except ValueError as error:
        option = "'--cacert'" if to.is_tls else "'--to'"
        raise click.BadParameter(str(error), param_hint=option) from error
