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
  {ExitStatus.FAILED}    something went wrong locally
  {ExitStatus.USAGE}    wrong usage
  {ExitStatus.NO_CONNECTION}    could not connect
  {ExitStatus.REFUSED}    the server would refuse a file: the code says why
  {ExitStatus.UNKNOWN}    the answer is not understood, or the server closed without one
  {ExitStatus.TIMED_OUT}  no connection or no answer in time
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
    help="Give up after this time.",
)  # fmt: skip
@answer_option
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON object: to, ready (true or false), code, seconds, error.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if the server is ready.")
@click.pass_obj
def ping(streams: Streams, /, to: Destination, **options: Any) -> int:
    """
    Check that an upload server answers, at localhost:6666 or at HOST.

    It connects (over TLS with --tls), sends nothing, and waits for the answer. The
    server stores and logs nothing, except that a server with --allow-empty stores an
    empty file. The environment variable TWISTED_UPLOAD_TO replaces HOST.
    """
    with Importing():
        from twisted_upload.cli.readiness import check_readiness  # noqa: PLC0415 - slow to import

    return check_readiness(streams, to, **options)
