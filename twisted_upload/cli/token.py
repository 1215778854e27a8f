"""
``twisted-upload token``: makes tokens for the HTTP listeners of a daemon, and revokes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.core.text import printable
from twisted_upload.disk.files import Files
from twisted_upload.disk.secret_files import change_secret_file, read_secret_file
from twisted_upload.frontends.http.tokens import (
    new_token,
    parse_tokens,
    token_line,
    with_token,
    without_token,
)

__all__ = ["token"]

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_file_option = click.option(
    "--file", "path", metavar="FILE", type=click.Path(), envvar="TWISTED_UPLOAD_TOKENS",
    required=True,
    help="File of the tokens, as in --tokens of the daemon.  [env var: TWISTED_UPLOAD_TOKENS]",
)  # fmt: skip

_EPILOG = f"""\b
Exit status:
  {ExitStatus.OK}    done
  {ExitStatus.FAILED}    the file cannot be read or changed, or there is no such token
  {ExitStatus.USAGE}    wrong usage
"""


@click.group(
    "token", context_settings=_SETTINGS, epilog=_EPILOG, no_args_is_help=False
)  # without a word, main reports one line
def token() -> None:
    """
    Manage the tokens that a daemon with --tokens FILE asks HTTP senders for.

    The file has a line for each token: its name, and a hash. A daemon reads the file when it
    starts, and at a reload (SIGHUP).
    """


@token.command("add", context_settings=_SETTINGS)
@click.argument("name", metavar="NAME")
@_file_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: name, token.")
@click.pass_obj
def add(streams: Streams, /, name: str, path: str, *, as_json: bool) -> int:
    """
    Make a token, print it, and store its hash.

    It is shown only now. The uploads that are sent with it belong to NAME, which is their
    label too. The file is created if it does not exist.
    """
    secret = new_token(Files().random)
    try:
        token_line(name, secret)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    if not _change(streams, path, lambda content: with_token(content, name, secret)):
        return ExitStatus.FAILED
    streams.out.line(json.dumps({"name": name, "token": secret}) if as_json else secret)
    if streams.out.stream is None:
        _tell(streams, f"the token could not be shown; revoke it: token revoke {name}")
        return ExitStatus.FAILED
    if streams.out.is_terminal:
        streams.err.line("This is the only time that it is shown. Now reload the daemon (SIGHUP).")
    return ExitStatus.OK


@token.command("list", context_settings=_SETTINGS)
@_file_option
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON object for each token: name, sha256.",
)  # fmt: skip
@click.pass_obj
def list_tokens(streams: Streams, /, path: str, *, as_json: bool) -> int:
    """Print the name of each token."""
    try:
        tokens = parse_tokens(read_secret_file(path, Files(), private=False))
    except (OSError, ValueError) as error:
        return _failed(streams, path, error)
    for name, digest in tokens.items():
        streams.out.line(json.dumps({"name": name, "sha256": digest}) if as_json else name)
    return ExitStatus.OK


@token.command("revoke", context_settings=_SETTINGS)
@click.argument("name", metavar="NAME")
@_file_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: name, revoked (true).")
@click.pass_obj
def revoke(streams: Streams, /, name: str, path: str, *, as_json: bool) -> int:
    """
    Remove a token.

    After a reload (SIGHUP), the daemon refuses each request that is made with it. A request
    whose body is being received at that moment is completed.
    """
    if not _change(streams, path, lambda content: without_token(content, name), create=False):
        return ExitStatus.FAILED
    if as_json:
        streams.out.line(json.dumps({"name": name, "revoked": True}))
    if streams.out.is_terminal:
        streams.err.line("Now reload the daemon (SIGHUP).")
    return ExitStatus.OK


def _change(
    streams: Streams, path: str, change: Callable[[bytes], bytes], *, create: bool = True
) -> bool:
    try:
        if not create:
            read_secret_file(path, Files(), private=False)
        change_secret_file(path, change, Files(), private=False)
    except (OSError, ValueError) as error:
        _failed(streams, path, error)
        return False
    return True


def _failed(streams: Streams, path: str, error: OSError | ValueError) -> int:
    reason = error.strerror or error if isinstance(error, OSError) else error
    _tell(streams, f"{path}: {reason}")
    return ExitStatus.FAILED


def _tell(streams: Streams, text: str) -> None:
    streams.err.line(printable(f"{PROGRAM}: {text}"))
