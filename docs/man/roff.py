r"""
The parts of manual pages in roff, with the macros of man(7).

The output is ASCII, so that it is formatted correctly in any locale: other characters are
written as ``\[u4E0A]``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

__all__ = ["Items", "escaped", "item_list", "manual_page", "paragraphs", "verbatim"]

WIDTH = 78
"""Maximum length of a line of the source, unless a word is longer."""

_SPECIAL = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}

Items = Iterable[tuple[str, str]]
"""Terms with their explanations.  In a term, words that begin with ``-`` are bold and words
in capitals are italic, as is usual for options."""


def escaped(text: str) -> str:
    """Escape a text so that roff prints it literally, except at the beginning of a line."""
    return "".join(
        _SPECIAL.get(character, character) if character.isascii() else f"\\[u{ord(character):04X}]"
        for character in text
    )


def paragraphs(text: str) -> str:
    """Return filled text; an empty line begins a new paragraph."""
    return ".PP\n".join(_filled(part) for part in text.split("\n\n"))


def item_list(items: Items) -> str:
    """Return a list of terms with their explanations."""
    return "".join(f".TP\n{_term(term)}\n{_filled(text)}" for term, text in items)


def verbatim(text: str) -> str:
    """Return lines that are not filled."""
    lines = "".join(f"{_at_the_beginning(escaped(line))}\n" for line in text.splitlines())
    return f".RS 4\n.nf\n{lines}.fi\n.RE\n"


def manual_page(
    name: str, section: int, summary: str, *, date: str, parts: Sequence[tuple[str, str]]
) -> str:
    """
    Return a page.

    :param date: date of the page, as in ``2026-11-22``.
    :param parts: headings in capitals, each with the output of the other functions.
    """
    # So that names of options are neither hyphenated nor stretched.
    head = f".TH {escaped(name.upper())} {section} {date} twisted\\-upload\n.nh\n.ad l\n"
    head += f".SH NAME\n{escaped(name)} \\- {escaped(summary)}\n"
    return head + "".join(f'.SH "{heading}"\n{text}' for heading, text in parts)


def _term(term: str) -> str:
    def word(match: re.Match[str]) -> str:
        text = escaped(match[0])
        if match[0].startswith("-") or match[0].isdigit():
            return rf"\fB{text}\fR"
        return rf"\fI{text}\fR" if match[0].isupper() else text

    return _at_the_beginning(re.sub(r"[^\s,]+", word, term))


def _filled(text: str) -> str:
    text = escaped(" ".join(text.split()))
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{_at_the_beginning(line)}\n" for line in lines)


def _at_the_beginning(line: str) -> str:
    # A dot at the beginning of a line would make it a request.
    return rf"\&{line}" if line.startswith(".") else line
