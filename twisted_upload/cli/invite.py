"""
``twisted-upload invite``: makes links with which people may upload.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import click

from twisted_upload.cli.common_options import duration_option, understood
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.core.quota import MOST_UPLOADS
from twisted_upload.core.text import counted, format_size, parse_duration, parse_size, printable
from twisted_upload.disk.files import Files
from twisted_upload.disk.secret_files import change_secret_file
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.http.invitations import (
    Invitation,
    new_nonce,
    read_keys,
    with_new_key,
)

__all__ = ["invite"]

_EPILOG = f"""\b
Exit status:
  {ExitStatus.OK}    done
  {ExitStatus.FAILED}    the file of keys cannot be read or changed
  {ExitStatus.USAGE}    wrong usage
"""


def _address(text: str) -> str:
    """Parse the address of a page; return it with a path."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises ValueError
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not (text.isascii() and text.isprintable())
        or {" ", "#", "?", "@"} & {*text}
    ):
        raise ValueError(f"{text!r} is not an address such as https://upload.example/")
    return text if parts.path else f"{text}/"


def _validity(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 1:
        raise ValueError("an invitation must be valid for at least a second")
    return seconds


def _optional_address(text: str | None) -> str | None:
    return None if text is None else _address(text)


@click.command(
    "invite",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.option(
    "--to", metavar="URL", callback=understood(_optional_address),
    help="Address of the daemon's page, as in https://upload.example/.",
)  # fmt: skip
@click.option(
    "--label", metavar="TEXT", default="",
    help="Who is invited, or what for; the uploads have this label.",
)  # fmt: skip
@duration_option(
    "--expires", callback=understood(_validity), default="7d",
    help="Time for which the invitation is valid, as in 12h or 7d.",
)  # fmt: skip
@click.option(
    "--max-size", metavar="SIZE", callback=understood(parse_size), default="0",
    show_default=True,
    help="Maximum size of each upload, as in 500M or 2G; 0 for no limit but that of the daemon.",
)  # fmt: skip
@click.option(
    "--uploads", metavar="N", type=click.IntRange(0, MOST_UPLOADS), default=0, show_default=True,
    help=f"Maximum number of uploads, at most {MOST_UPLOADS}; 0 for no limit.",
)  # fmt: skip
@click.option(
    "--invitation-keys", "keys", metavar="FILE", type=click.Path(), required=True,
    envvar="TWISTED_UPLOAD_INVITATION_KEYS",
    help="File of the keys, as in --invitation-keys of the daemon."
    "  [env var: TWISTED_UPLOAD_INVITATION_KEYS]",
)  # fmt: skip
@click.option(
    "--new-key", is_flag=True,
    help="Make no invitation, but a new key in the file, which is created if it does not exist."
    " Invitations signed with the former key stay valid, older ones do not.",
)  # fmt: skip
@click.option(
    "--qr/--no-qr", "qr", default=None,
    help="Show the link as a QR code, or do not; by default, only on a terminal.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON object: link, token, label, expires, max_size, uploads.",
)  # fmt: skip
@click.pass_obj
def invite(streams: Streams, /, keys: str, *, new_key: bool, **options: Any) -> int:
    """
    Make a link that opens the page of a daemon with --invitation-keys FILE, and allows
    uploads there.

    The part of the link after token= is a token for other programs too, as in curl -H
    "Authorization: Bearer TOKEN". It is signed, and stored nowhere.
    """
    try:
        if new_key:
            files = Files()
            change = partial(with_new_key, random=files.random)
            change_secret_file(keys, change, files, private=True)
            if streams.out.is_terminal:
                streams.err.line("Now reload the daemon (SIGHUP).")
            return ExitStatus.OK
        return _invite(streams, keys, **options)
    except WrongConfiguration as error:
        return _failed(streams, str(error))
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        return _failed(streams, f"{keys}: {reason}")


def _failed(streams: Streams, text: str) -> int:
    streams.err.line(printable(f"{PROGRAM}: {text}"))
    return ExitStatus.FAILED


def _invite(
    streams: Streams,
    keys: str,
    *,
    to: str | None,
    label: str,
    expires: float,
    max_size: int,
    uploads: int,
    qr: bool | None,
    as_json: bool,
) -> int:
    if to is None:
        raise click.UsageError("Missing option '--to'.")
    try:
        until = int(time.time() + expires)
        invitation = Invitation(label, until, max_size, uploads, new_nonce(Files().random))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--label'") from error
    secret = read_keys(keys, Files()).sign(invitation)
    link = f"{to}#token={secret}"
    out = streams.out
    if as_json:
        out.line(
            json.dumps(
                {
                    "link": link,
                    "token": secret,
                    "label": label,
                    "expires": _moment(invitation),
                    "max_size": max_size or None,
                    "uploads": uploads or None,
                },
                ensure_ascii=False,
            )
        )
        return ExitStatus.OK
    out.line(link)
    if out.is_terminal:
        streams.err.line(_summary(invitation))
    if qr or (qr is None and out.is_terminal):
        out.line(_qr_code(link, streams))
    return ExitStatus.OK


def _moment(invitation: Invitation) -> str:
    return datetime.fromtimestamp(invitation.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _summary(invitation: Invitation) -> str:
    uploads = counted(invitation.uploads, "upload") if invitation.uploads else "any number"
    size = f", each at most {format_size(invitation.max_size)}" if invitation.max_size else ""
    label = f"{printable(invitation.label)}: " if invitation.label else ""
    return f"{label}valid until {_moment(invitation)}; {uploads}{size}"


def _qr_code(text: str, streams: Streams) -> str:
    # Imported here, because most uses of the command do not need it.
    import segno  # noqa: PLC0415

    code = segno.make(text, error="l", micro=False)
    width = shutil.get_terminal_size().columns
    if streams.out.is_terminal and code.symbol_size()[0] > width:
        return f"(the QR code needs a terminal of {code.symbol_size()[0]} columns)"
    drawn = io.StringIO()
    code.terminal(out=drawn, compact=True)
    return drawn.getvalue().rstrip("\n")
