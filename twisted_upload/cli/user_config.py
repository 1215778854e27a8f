"""
The user's defaults: ``twisted-upload.toml`` in the user's configuration directory.

What the command line or the environment says takes precedence.  The token of the file is
for the server of the file: it is never sent to another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import click

from twisted_upload.core.text import printable

__all__ = ["UserConfig", "config_path", "configured", "read_config", "user_config"]

KEYS = ("to", "token-file", "cacert")
"""What the file may contain; each value is a text."""

_PATHS = ("token-file", "cacert")
_KEY = "user configuration"  # in the context of click
_LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UserConfig:
    """
    The content of the file.

    :ivar path: of it; empty if there is none.
    :ivar values: by key; paths are absolute.
    """

    path: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


def config_path(environment: Mapping[str, str]) -> str | None:
    """Return where the file is, if it exists; `None` if the user has no such directory."""
    folder = environment.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # as the specification of XDG has it
        home = environment.get("HOME") or os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        folder = os.path.join(home, ".config")
    return os.path.join(folder, "twisted-upload.toml")


def read_config(path: str) -> UserConfig:
    """
    Read the file; nothing if there is none.

    :raises ValueError: it cannot be read or is not valid; one line that names the file.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return UserConfig()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    import tomllib  # noqa: PLC0415 - slow to import

    try:
        found = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    values = {}
    for key, value in found.items():
        if key not in KEYS:
            raise ValueError(f"{path}: unknown key {key!r}; there are {', '.join(KEYS)}")
        if not isinstance(value, str) or not value:
            raise ValueError(f"{path}: {key} must be a text in quotation marks")
        values[key] = value
    for key in values.keys() & {*_PATHS}:
        values[key] = os.path.join(os.path.dirname(path), os.path.expanduser(values[key]))
    return UserConfig(path, values)


def user_config() -> UserConfig:
    """
    Return the file of the user who runs the current command.

    :raises click.UsageError: it is not valid.
    """
    ctx = click.get_current_context()
    found = ctx.find_root().meta.get(_KEY)
    if found is None:
        found = UserConfig()
        path = None if ctx.resilient_parsing else config_path(os.environ)
        try:
            if path is not None:
                found = read_config(path)
        except ValueError as error:
            raise click.UsageError(printable(str(error))) from error
        ctx.find_root().meta[_KEY] = found
    assert isinstance(found, UserConfig)
    return found


def configured(key: str, otherwise: str | None = None) -> Callable[[], str | None]:
    """
    Return the default of an option that may be in the file.

    :param otherwise: if it is not.
    """
    return lambda: user_config().values.get(key, otherwise)
