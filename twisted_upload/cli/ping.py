"""
``twisted-upload ping``: the command line.
"""

from __future__ import annotations

from typing import Any

import click

from twisted_upload.cli.common_options import (
    DEFAULT_DESTINATION,
    DESTINATION_VARIABLE,
    answer_option,
    cacert_option,
    duration_option,
    tls_option,
    understood,
)
from twisted_upload.cli.destination import Destination, parse_destination
from twisted_upload.cli.streams import ExitStatus, Streams
from twisted_upload.core.garbage import Importing

__all__ = ["ping"]

_EPILOG = f"""\b
Exit status:
  {ExitStatus.OK}    the server is ready
  {ExitStatus.FAILED}    something went wrong here
  {ExitStatus.USAGE}    wrong usage
  {ExitStatus.NO_CONNECTION}    could not connect
  {ExitStatus.REFUSED}    it answers, and would refuse a file: the code says why
  {ExitStatus.UNKNOWN}    its answer is not understood, or it closed without one
  {ExitStatus.TIMED_OUT}  no connection, or no answer, in time
  {ExitStatus.INTERRUPTED}  interrupted (143 by SIGTERM)
"""


@click.command(
    "ping",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.argument(
    "to", metavar="[HOST[:PORT]]", callback=understood(parse_destination),
    default=DEFAULT_DESTINATION, envvar=DESTINATION_VARIABLE,
)  # fmt: skip
@tls_option
@cacert_option
@duration_option(
    "--timeout", default="5s",
    help="Give up after so long.",
)  # fmt: skip
@answer_option
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON object: to, ready (true or false), code, seconds, error.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing where the server is ready.")
@click.pass_obj
def ping(streams: Streams, /, to: Destination, **options: Any) -> int:
    """
    Look whether an upload server answers, at localhost:6666 or at HOST.

    It connects, by TLS where that is asked for, sends nothing, and waits for the
    answer. Nothing is kept and nothing logged there, except that a server with
    --allow-empty keeps an empty file. TWISTED_UPLOAD_TO in the environment stands in
    for HOST.
    """
    with Importing():
        from twisted_upload.cli.readiness import check_readiness  # noqa: PLC0415 - slow to import

    return check_readiness(streams, to, **options)
