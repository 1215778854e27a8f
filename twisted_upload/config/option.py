"""
What an option is, and how a field of the settings says that it is one.

A field is declared by `option`, `flag` or `repeatable`, which give it its default and
the type that its text is converted to: a type checker finds an annotation that does
not fit.  All that the command line, the environment and a file have to know of it is
in the `Option` that `options_of` makes of the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, TypeVar, Unpack, overload

__all__ = ["PREFIX", "Option", "flag", "option", "options_of", "repeatable"]

PREFIX = "TWISTED_UPLOAD_"
"""What the names in the environment begin with."""

T = TypeVar("T")


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class Option:
    """
    One option.

    :ivar name: as on the command line, without the dashes.
    :ivar default: as it would be on the command line; None where there is none,
        and for flags and what is repeatable.
    :ivar help: for ``--help``: a sentence.
    :ivar convert: from the text to what it means; raises `ValueError` with a
        text that says what is understood.  Of a repeatable one, each is
        converted.
    :ivar flag: it is true or false and takes no value; false if not given.
    :ivar repeatable: it is a list, empty if not given.
    :ivar path: it is one of the file system; a relative one is relative to where
        the daemon runs.
    :ivar digits: it is a number that must be written as text in a file, where a
        number would be taken for another (an octal one).
    :ivar reloadable: it can change while the daemon runs.
    :ivar after: the name of the option that it follows in ``--help`` and other lists;
        if empty, it is the last of those declared so far.
    :ivar per_listener: a listener in a configuration file may have its own.
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
        """Its name in the environment."""
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def field(self) -> str:
        """Its name in the settings."""
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
    """A field that has one value.  See `Option` for the arguments."""
    row = {"default": default, "help": help_text, "convert": convert, **more}
    if default is None:
        return field(default=None, metadata=row)
    return field(default_factory=lambda: convert(default), metadata=row)


def flag(help_text: str, **more: Unpack[_More]) -> bool:
    """A field that is true or false."""
    row = {"default": None, "help": help_text, "flag": True, **more}
    it: bool = field(default=False, metadata=row)
    return it


def repeatable(convert: Callable[[str], T], help_text: str, **more: Unpack[_More]) -> tuple[T, ...]:
    """A field that has any number of values."""
    row = {"default": None, "help": help_text, "convert": convert, "repeatable": True, **more}
    it: tuple[T, ...] = field(default=(), metadata=row)
    return it


def options_of(per_listener: type[Any], others: type[Any]) -> tuple[Option, ...]:
    """
    The options of which these settings consist, in the order of lists.

    :param per_listener: a dataclass of those that a listener may have for itself.
    :param others: one of those of the whole daemon.
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
