"""
``twisted-upload ping``: the command line.
"""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from twisted_upload.cli.common_options import (
    DEFAULT_DESTINATION,
    DESTINATION_VARIABLE,
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
from twisted_upload.cli.streams import ExitStatus, Streams
from twisted_upload.cli.user_config import configured
from twisted_upload.client.targets import Target, parse_target
from twisted_upload.core.garbage import Importing

__all__ = ["ping"]

_EPILOG = f"""\b
Exit status:
  {ExitStatus.OK}    the server is ready
  {ExitStatus.FAILED}    something went wrong locally
  {ExitStatus.USAGE}    wrong usage
  {ExitStatus.NO_CONNECTION}    could not connect
  {ExitStatus.REFUSED}    the server would refuse a file: the code says why
  {ExitStatus.UNKNOWN}    the answer is not understood, or the server closed without one
  {ExitStatus.TIMED_OUT}  no connection or no answer in time
  {ExitStatus.INTERRUPTED}  interrupted (143 by SIGTERM)

\b
Examples:
  twisted-upload ping server
  twisted-upload ping --to https://upload.example/ --token-file token --send
  twisted-upload ping --to tls://server --json | jq .certificate_expires
"""


@click.command(
    "ping",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.argument(
    "where", metavar="[WHERE]", callback=understood(parse_target),
    default=configured("to", DEFAULT_DESTINATION), envvar=DESTINATION_VARIABLE,
)  # fmt: skip
@to_option(argument=True)
@tls_option
@cacert_option
@token_file_option
@click.option(
    "--send", is_flag=True,
    help="Also send one byte, from end to end: it is stored as a file.",
)  # fmt: skip
@duration_option(
    "--timeout", default="5s",
    help="Give up after this time.",
)  # fmt: skip
@answer_option
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON object: to, ready (true or false), code, seconds, error, addresses, peer,"
    " tls_version, certificate_expires, server, tus, stored_as.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if the server is ready.")
@click.pass_obj
def ping(
    streams: Streams, /, where: Target, to: Target | None, *, tls: bool, cacert: str | None,
    token_file: str | None, **options: Any,
) -> int:  # fmt: skip
    """
    Check that an upload server answers, at localhost:6666 or at WHERE (as in --to).

    It looks up the name, connects (over TLS if WHERE says so, or with --tls), and asks
    for an answer, but sends no file. The server stores and logs nothing, except that a
    server with --allow-empty stores an empty file. Each step is printed when it has
    succeeded; an error says which one has not. The environment variable
    TWISTED_UPLOAD_TO replaces WHERE.
    """
    ctx = click.get_current_context()
    if to is not None and ctx.get_parameter_source("where") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--to and WHERE exclude each other")
    server = server_of(to or where, cacert, tls=tls)
    token = token_of(server, token_file)
    with Importing():
        from twisted_upload.cli.readiness import check_readiness  # noqa: PLC0415 - slow to import

    return check_readiness(streams, server, token, **options)
