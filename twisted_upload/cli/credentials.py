"""
The token of a sender: from a file, the environment, or a systemd credential.

It is never on the command line, which every user of the machine can read; except as part
of the link of an invitation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import click

from twisted_upload.cli.user_config import UserConfig
from twisted_upload.client.targets import Target, is_token, parse_target

__all__ = ["CREDENTIAL", "TOKEN_VARIABLE", "Given", "find_token"]

TOKEN_VARIABLE = "TWISTED_UPLOAD_TOKEN"  # noqa: S105 - a name
CREDENTIAL = "twisted-upload-token"
"""The name of the systemd credential, as in ``LoadCredential=twisted-upload-token:FILE``."""


@dataclass(frozen=True, slots=True)
class Given:
    """
    A path, and where it comes from.

    :ivar source: ``--token-file``, the name of a variable, or empty for the user's file.
    """

    path: str
    source: str


def find_token(
    target: Target, given: Given | None, environment: Mapping[str, str], config: UserConfig
) -> str | None:
    """
    Return the token to send, the first of: the invitation in the link, ``--token-file``,
    the environment, a systemd credential, the user's file; `None` if there is none, or the
    server is not an HTTP server.

    :raises click.UsageError: there is one that cannot be used.
    """
    is_option = given is not None and given.source == "--token-file"
    if not target.is_http:
        if is_option:
            raise click.UsageError(
                "--token-file needs http:// or https:// in --to: raw TCP has no tokens"
            )
        return None
    if target.token is not None:
        return target.token
    if environment.get(TOKEN_VARIABLE) and not is_option:
        return _checked(environment[TOKEN_VARIABLE], TOKEN_VARIABLE)
    file = _token_file(target, given, environment, config)
    return None if file is None else _read(file)


def _token_file(
    target: Target, given: Given | None, environment: Mapping[str, str], config: UserConfig
) -> Given | None:
    if given is not None and given.source:
        return given
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and os.path.exists(os.path.join(folder, CREDENTIAL)):
        return Given(os.path.join(folder, CREDENTIAL), "CREDENTIALS_DIRECTORY")
    if given is not None and _is_for(target, config):
        return Given(given.path, config.path)
    return None


def _is_for(target: Target, config: UserConfig) -> bool:
    """Return whether the user's file names this server."""
    try:
        return parse_target(config.values.get("to", "")).key == target.key
    except ValueError:
        return False


def _read(file: Given) -> str:
    from twisted_upload.disk.files import Files  # noqa: PLC0415 - needs fcntl
    from twisted_upload.disk.secret_files import read_secret_file  # noqa: PLC0415 - the same

    path, source = file.path, file.source
    try:
        content = read_secret_file(path, Files(), private=True)
    except OSError as error:
        raise click.UsageError(f"{source}: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(f"{source}: {path}: {error}") from error
    return _checked(content.decode("utf-8", "replace").strip(), f"{source}: {path}")


def _checked(token: str, where: str) -> str:
    if not is_token(token):
        raise click.UsageError(f"{where}: it is not a token: one line such as tok_...")
    return token
