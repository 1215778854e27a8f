"""
The definition of an option, and how a settings field declares one.

A field is declared with `option`, `flag` or `repeatable`, which set its default and
the type that its text is converted to, so a type checker finds a mismatched
annotation.  `options_of` turns each field into an `Option`, which has all that the
command line, the environment and a configuration file need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, TypeVar, Unpack, overload

__all__ = ["PREFIX", "Option", "flag", "option", "options_of", "repeatable"]

PREFIX = "TWISTED_UPLOAD_"
"""The prefix of environment variables."""

T = TypeVar("T")


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class Option:
    """
    One option.

    :ivar name: as on the command line, without the dashes.
    :ivar default: as on the command line; None if there is none, and for flags and
        repeatable options.
    :ivar help: the text for ``--help``.
    :ivar convert: converts the text to the value; raises `ValueError` with a text
        that says what is accepted.  Each value of a repeatable option is converted.
    :ivar flag: true or false, and takes no value; false if not given.
    :ivar repeatable: a list, empty if not given.
    :ivar path: a file system path; a relative one is relative to the daemon's
        working directory.
    :ivar digits: a number that a file must give as text, because TOML would read a
        bare number differently (octal).
    :ivar reloadable: can change while the daemon runs.
    :ivar after: the name of the option that it follows in ``--help`` and other lists;
        if empty, it follows those declared so far.
    :ivar per_listener: each listener in a configuration file may set it.
    """

    name: str
    default: str | None
    help: str
    convert: Callable[[str], Any] = _as_it_is
    flag: bool = False
    repeatable: bool = False
    path: bool = False
    digits: bool = False
    reloadable: bool = False
    after: str = ""
    per_listener: bool = False

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def field(self) -> str:
        """The name of its settings field."""
        return self.name.replace("-", "_")


class _More(TypedDict, total=False):
    path: bool
    digits: bool
    reloadable: bool
    after: str


@overload
def option(
    convert: Callable[[str], T], default: str, help_text: str, **more: Unpack[_More]
) -> T: ...


@overload
def option(
    convert: Callable[[str], T], default: None, help_text: str, **more: Unpack[_More]
) -> T | None: ...


def option(
    convert: Callable[[str], Any], default: str | None, help_text: str, **more: Unpack[_More]
) -> Any:
    """Declare a field with one value.  See `Option` for the arguments."""
    row = {"default": default, "help": help_text, "convert": convert, **more}
    if default is None:
        return field(default=None, metadata=row)
    return field(default_factory=lambda: convert(default), metadata=row)


def flag(help_text: str, **more: Unpack[_More]) -> bool:
    """Declare a field that is true or false."""
    row = {"default": None, "help": help_text, "flag": True, **more}
    it: bool = field(default=False, metadata=row)
    return it


def repeatable(convert: Callable[[str], T], help_text: str, **more: Unpack[_More]) -> tuple[T, ...]:
    """Declare a field with any number of values."""
    row = {"default": None, "help": help_text, "convert": convert, "repeatable": True, **more}
    it: tuple[T, ...] = field(default=(), metadata=row)
    return it


def options_of(per_listener: type[Any], others: type[Any]) -> tuple[Option, ...]:
    """
    Return the options declared by these settings, in the order of ``--help``.

    :param per_listener: the dataclass of the per-listener options.
    :param others: the dataclass of the options of the whole daemon.
    """
    options: list[Option] = []
    for settings in (per_listener, others):
        for each in fields(settings):
            name = each.name.replace("_", "-")
            one = Option(name, **each.metadata, per_listener=settings is per_listener)
            options.insert(_place(one, options), one)
    return tuple(options)


def _place(one: Option, options: Iterable[Option]) -> int:
    names = [it.name for it in options]
    return names.index(one.after) + 1 if one.after else len(names)
