"""
The sources of a configuration: the environment and a file.

Each gives values as text, as on the command line, with their source.
`twisted_upload.config.configuration` converts them and decides which are in force.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted_upload.config.option import PREFIX, Option
from twisted_upload.config.options import CONFIG, OPTIONS, PROTOCOL
from twisted_upload.errors import WrongConfiguration

__all__ = [
    "HTTP",
    "LISTENER",
    "LISTENER_OPTIONS",
    "File",
    "Layer",
    "SourcedValue",
    "Text",
    "absolute",
    "from_environment",
    "nearest",
    "read_file",
]

LARGEST_FILE = 1024 * 1024
"""Maximum size of a configuration file, in bytes."""

LISTENER = "listener"
"""The name of the table of a listener."""

HTTP = "http"
"""The option that makes a listener for HTTP; a listener in a file says its protocol instead."""

LISTENER_OPTIONS = tuple(one for one in OPTIONS if one.per_listener and one.name != HTTP)
"""The options that a listener in a file may set, besides its protocol."""

_OF_THE_CLIENT = {f"TWISTED_UPLOAD_{name}" for name in ("TO", "TOKEN", "TOKEN_FILE", "CACERT")}
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_LISTENER_NAME = re.compile(r"[a-z0-9-]+\Z")

Text = str | bool | tuple[str, ...]
"""A value as given: a bool for a flag, all values for a repeatable option."""


@dataclass(frozen=True, slots=True)
class SourcedValue:
    """
    A value and its source.

    :ivar source: where it was set: ``--port``, ``TWISTED_UPLOAD_PORT``,
        ``/etc/x.toml: port``.
    """

    text: Text
    source: str


Layer = Mapping[str, SourcedValue]
"""The values from one source, by option name."""


@dataclass(frozen=True, slots=True)
class File:
    """
    The contents of a configuration file.

    :ivar top: values for the whole daemon, and for listeners that do not set them.
    :ivar listeners: the name and the values of each, in file order.
    """

    top: Layer
    listeners: tuple[tuple[str, Layer], ...] = ()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar to this one."""
    return difflib.get_close_matches(name, sorted(known), 1, 0.0)[0]


def from_environment(environment: Mapping[str, str]) -> Layer:
    """
    Read the environment.

    Values of a repeatable option are separated by spaces; a flag is ``yes`` or ``no``.

    :raises WrongConfiguration: a variable begins with ``TWISTED_UPLOAD_`` but
        is unknown, or a flag is neither ``yes`` nor ``no``.
    """
    variables = {option.variable: option for option in (*OPTIONS, CONFIG)}
    layer = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in _OF_THE_CLIENT:
            continue
        option = variables.get(name)
        if option is None:
            raise WrongConfiguration(
                f"{name}: no such variable; the nearest is {nearest(name, variables)}"
            )
        given: Text = text
        if option.flag:
            given = _truth(text, name)
        elif option.repeatable:
            given = (*text.split(),)
        layer[option.name] = SourcedValue(given, name)
    return layer


def read_file(path: str, named_by: str) -> File:
    """
    Read a configuration file.

    :param named_by: the source of its path.
    :raises WrongConfiguration: it cannot be read, is not TOML, or has a key
        that is unknown or not allowed in its table.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WrongConfiguration(f"{named_by}: cannot read {path}: {reason}") from error
    if len(data) > LARGEST_FILE:
        raise WrongConfiguration(f"{named_by}: {path} is larger than 1 MiB")
    import tomllib  # noqa: PLC0415 - needed only if there is a file

    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise WrongConfiguration(f"{path}: not valid UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise WrongConfiguration(f"{path}: not valid TOML: {error}") from error
    tables = document.pop(LISTENER, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise WrongConfiguration(f"{path}: {LISTENER}: write it as a table, [[{LISTENER}]]")
    top = _layer(document, f"{path}: ", OPTIONS, LISTENER)
    return File(top, tuple(_listeners(tables, path)))


def _listeners(tables: list[dict[str, Any]], path: str) -> Iterable[tuple[str, Layer]]:
    allowed = (*LISTENER_OPTIONS, PROTOCOL)
    names = set()
    for number, table in enumerate(tables, 1):
        name = table.pop("name", None)
        if name is None:
            raise WrongConfiguration(f"{path}: {LISTENER} {number}: it has no name")
        if not isinstance(name, str) or not _LISTENER_NAME.match(name):
            raise WrongConfiguration(
                f"{path}: {LISTENER} {number}: name: {name!r} must consist of a to z, 0 to 9 and -"
            )
        if name in names:
            raise WrongConfiguration(f"{path}: {LISTENER} {number}: name: {name!r} is used twice")
        names.add(name)
        yield name, _layer(table, f"{path}: {LISTENER} {name}: ", allowed, "name")


def _layer(
    table: Mapping[str, Any], where: str, allowed: Iterable[Option], also: str
) -> dict[str, SourcedValue]:
    known = {option.name: option for option in allowed}
    layer = {}
    for key, value in table.items():
        option = known.get(key)
        source = f"{where}{key}"
        if option is not None:
            layer[key] = SourcedValue(_text(option, value, source), source)
        elif key == HTTP:
            raise WrongConfiguration(
                f'{source}: a listener has protocol = "http" instead, and a port or listen'
            )
        elif key in {option.name for option in OPTIONS}:
            raise WrongConfiguration(
                f"{source}: it applies to the whole daemon, not to one listener"
            )
        else:
            raise WrongConfiguration(
                f"{source}: no such key; the nearest is {nearest(key, [*known, also])}"
            )
    return layer


def _text(option: Option, value: Any, source: str) -> Text:
    if option.flag:
        return value if isinstance(value, bool) else _truth(_word(option, value, source), source)
    if option.repeatable:
        several = value if isinstance(value, list) else [value]
        return tuple(_word(option, one, source) for one in several)
    return _word(option, value, source)


def _word(option: Option, value: Any, source: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongConfiguration(f"{source}: {value!r} is neither a string nor a number")
    if option.digits:
        raise WrongConfiguration(f'{source}: write it as a string, such as "{option.default}"')
    return str(value)


def _truth(text: str, source: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise WrongConfiguration(f"{source}: {text!r} is neither yes nor no")
    return text.lower() in _YES


def absolute(path: str, base: str) -> str:
    """Make a path absolute."""
    return os.path.abspath(os.path.join(base, path))
