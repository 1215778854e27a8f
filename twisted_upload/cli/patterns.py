"""Which files of a folder are sent: ``--include`` and ``--exclude``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Pattern", "Patterns", "parse_pattern"]

_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    One pattern.

    :ivar text: as given.
    :ivar matcher: matches a path in its folder, as `Patterns` describes it.
    :ivar folders: whether it matches only folders.
    """

    text: str
    matcher: re.Pattern[str]
    folders: bool

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Return whether it matches this path itself."""
        return (is_folder or not self.folders) and self.matcher.match(path) is not None


def parse_pattern(text: str) -> Pattern:
    """
    Parse a pattern.

    ``*`` and ``?`` match within a name, ``[abc]`` and ``[!abc]`` one character, ``**``
    any number of folders.  A pattern without a ``/`` is for names, in any folder; one with
    a ``/`` for whole paths, relative to the folder on the command line.  One that ends with
    ``/`` is for folders.

    :raises ValueError: it can match nothing.
    """
    body = text.removesuffix("/").removeprefix("./")
    anchored = "/" in body
    body = body.removeprefix("/")
    expression = "".join(map(_expression, _PARTS.findall(body)))
    beginning = "" if anchored else "(?:.*/)?"
    try:
        if not body or {"", ".", ".."} & {*body.split("/")}:
            raise ValueError("it can match nothing")
        matcher = re.compile(f"{beginning}{expression}\\Z", re.DOTALL)
    except (ValueError, re.error):  # as of [z-a]
        error = f"{text!r} is not a pattern such as *.jpg, drafts/ or 2026/*/a.txt"
        raise ValueError(error) from None
    return Pattern(text, matcher, text.endswith("/"))


_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _expression(part: str) -> str:
    if part in _WILDCARDS:
        return _WILDCARDS[part]
    if part.startswith("[!") and len(part) > 3:
        return f"(?!/)[^{_characters(part[2:-1])}]"
    if part.startswith("[") and len(part) > 2:
        return f"[{_characters(part[1:-1])}]"
    return re.escape(part)


def _characters(inside: str) -> str:
    """Return what is in brackets; every character except the ``-`` of a range is escaped."""
    return re.sub("(.)(?:(-)(.))?", _one_or_range, inside, flags=re.DOTALL)


def _one_or_range(found: re.Match[str]) -> str:
    first, hyphen, last = found.groups("")
    return re.escape(first) + hyphen + re.escape(last)


@dataclass(frozen=True, slots=True)
class Patterns:
    """
    Decides about each path in a folder, relative to that folder, with ``/``.

    :ivar include: if there are any, only files that match one, or that are in a folder that
        does, are sent.
    :ivar exclude: what matches one is not sent, whatever ``include`` says; folders that do
        are not even opened.
    """

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()

    def excludes(self, path: str, *, is_folder: bool) -> bool:
        """Return whether a path is excluded, given that no folder above it is."""
        return _any(self.exclude, path, is_folder=is_folder)

    def includes(self, path: str, *, is_folder: bool = False) -> bool:
        """Return whether a file, or a folder itself, is sent, given that it is not excluded."""
        return (
            not self.include
            or _any(self.include, path, is_folder=is_folder)
            or any(_any(self.include, folder, is_folder=True) for folder in _above(path))
        )


def _any(patterns: Iterable[Pattern], path: str, *, is_folder: bool) -> bool:
    return any(pattern.matches(path, is_folder=is_folder) for pattern in patterns)


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
