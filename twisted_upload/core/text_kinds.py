"""
The kind of a text file, as far as its first bytes determine it for certain.

Text is what decodes as UTF-8, or as UTF-16 with a byte order mark, and has none of
the control characters that text does not have: above all no NUL.  Its suffix is
``.txt`` unless it begins as only one kind of file does.  CSV, Markdown, INI, YAML,
and source code without a ``#!`` line can begin like anything else, so they are
``.txt``.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["text_suffix"]

PLAIN = ".txt"

_NOT_IN_TEXT = bytes({*range(0x20), 0x7F} - {*range(0x07, 0x0E), 0x1B})
_NOT_IN_WIDE_TEXT = _NOT_IN_TEXT.decode()
_WIDE = {codecs.BOM_UTF16_LE: codecs.utf_16_le_decode, codecs.BOM_UTF16_BE: codecs.utf_16_be_decode}

_STARTS = (
    (b"%PDF-", ".pdf"),
    (b"{\\rtf", ".rtf"),
    (b"%!PS-Adobe-3.0 EPSF", ".eps"),
    (b"%!PS", ".ps"),
    (b"<?php", ".php"),
    (b"BEGIN:VCALENDAR", ".ics"),
    (b"BEGIN:VCARD", ".vcf"),
    (b"-----BEGIN PGP ", ".asc"),
    (b"-----BEGIN ", ".pem"),
    (b"WEBVTT", ".vtt"),
)
_FIRST_OF_STARTS = frozenset(start[0] for start, _ in _STARTS)

_INTERPRETER = re.compile(
    rb"#![ \t]*(?:\S*/)?([^/\s]+)(?:[ \t]+(?:-\S+[ \t]+)*(?:\S*/)?([^/\s]+))?"
)
_SCRIPTS = {
    **dict.fromkeys(("sh", "ash", "bash", "dash", "ksh", "zsh"), ".sh"),
    "python": ".py",
    "perl": ".pl",
    "ruby": ".rb",
    "node": ".js",
    "php": ".php",
    "lua": ".lua",
    "awk": ".awk",
    "gawk": ".awk",
    "fish": ".fish",
    "tclsh": ".tcl",
}

_VALUE = rb'(?:"(?:[^"\\\n]|\\.)*"|-?\d[\d.eE+-]*|true|false|null)'
_JSON = re.compile(
    rb'\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\}\s*\Z)'
    rb"|(?:\[\s*){1,64}(?:" + _VALUE + rb'\s*,|\{\s*"(?:[^"\\\n]|\\.)*"\s*:|\]\s*\Z)'
    rb"|\[\s*" + _VALUE + rb"\s*\]\s*\Z"
)
_SPACE = re.compile(rb"\s*")
_ELEMENT = re.compile(rb"<(?:!doctype\s+)?([a-z]+)[\s/>]", re.IGNORECASE)


def text_suffix(head: bytes, *, cut: bool) -> str | None:
    """
    Return the suffix for a text; `None` if it is no text, or empty.

    :param head: the first bytes of a file.
    :param cut: whether the file has more: a character may be cut at the end.
    """
    if head[:2] in _WIDE:
        return _wide_kind(head, cut=cut)
    if not head or 0 in head:  # as in most files that are not text
        return None
    if not head.isascii():
        try:
            codecs.utf_8_decode(head, "strict", not cut)
        except UnicodeDecodeError:
            return None
    for byte in _NOT_IN_TEXT:  # each in C: half the time of `translate`, a tenth of that of `re`
        if byte in head:
            return None
    return _kind(head.removeprefix(codecs.BOM_UTF8))


def _wide_kind(head: bytes, *, cut: bool) -> str | None:
    try:
        text, _ = _WIDE[head[:2]](head[2:], "strict", not cut)
    except UnicodeDecodeError:
        return None
    for character in _NOT_IN_WIDE_TEXT:
        if character in text:
            return None
    return PLAIN


def _kind(text: bytes) -> str:
    if text[:1] and text[0] in _FIRST_OF_STARTS:
        for start, suffix in _STARTS:
            if text.startswith(start):
                return suffix
    if text.startswith(b"#!"):
        return _script(text)
    text = text.lstrip()
    if text[:1] in (b"{", b"["):
        return ".json" if _JSON.match(text) else PLAIN
    return _markup(text) if text[:1] == b"<" else PLAIN


def _script(text: bytes) -> str:
    found = _INTERPRETER.match(text.partition(b"\n")[0])
    if found is None:
        return PLAIN
    program = found[2] if found[1] == b"env" and found[2] else found[1]
    name = program.decode("ascii", "replace").rstrip("0123456789.")
    return _SCRIPTS.get(name, PLAIN)


def _after_space(text: bytes, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _markup(text: bytes) -> str:
    """
    Return the suffix for what begins as XML, HTML or SVG, by its first element or
    declaration.
    """
    declared = text.startswith(b"<?xml")
    at = 0
    while text.startswith((b"<?", b"<!--"), at):
        end = b"?>" if text.startswith(b"<?", at) else b"-->"
        at = text.find(end, at + 2)
        if at < 0:
            break
        at = _after_space(text, at + len(end))
    element = _ELEMENT.match(text, at) if at >= 0 else None
    name = element[1].lower() if element is not None else b""
    if name in (b"html", b"svg"):
        return f".{name.decode()}"
    return ".xml" if declared else PLAIN
