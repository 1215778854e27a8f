"""
Detection of text and of kinds of text.
"""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.names import HEAD, suffix_of
from twisted_upload.core.text import is_suffix
from twisted_upload.core.text_kinds import text_suffix

XML = b'<?xml version="1.0" encoding="utf-8"?>\n'


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"plain text", ".txt"),
        (b"x", ".txt"),
        (b"tab\t, form feed \f, colours \x1b[1m, backspace \b\r\n", ".txt"),
        ("über, 上传, 🎉".encode(), ".txt"),
        (codecs.BOM_UTF8 + b"text", ".txt"),
        ("über".encode("utf-16"), ".txt"),
        (codecs.BOM_UTF16_BE + "über".encode("utf-16-be"), ".txt"),
        # Kinds that may start like any text.
        (b"a;b;c\n1;2;3\n", ".txt"),
        (b"# Title\n\nText\n", ".txt"),
        (b"[section]\nkey = value\n", ".txt"),
        (b"[1] A reference.\n", ".txt"),
        (b"[[Link]] of a wiki", ".txt"),
        (b"{braces} of a template", ".txt"),
        (b"key: value\n", ".txt"),
        (b"import os\n", ".txt"),
        (b"<b>markup</b> of a kind", ".txt"),
        (b"< 5 and > 3", ".txt"),
        (b"%PD", ".txt"),
        # Kinds with a distinctive start.
        (b'{"a": [1, 2]}', ".json"),
        (b' \n{\r\n  "a\\"b" : 1}', ".json"),
        (codecs.BOM_UTF8 + b'{"a": 1}', ".json"),
        (b"{}", ".json"),
        (b"[]\n", ".json"),
        (b'["a", "b"]', ".json"),
        (b"[1, 2]", ".json"),
        (b"[-1.5e3,", ".json"),
        (b"[[1, 2], [3, 4]]", ".json"),
        (b'[{"a": 1}]', ".json"),
        (b"[null]", ".json"),
        (b'{"a": 1}\n{"a": 2}\n', ".json"),
        (XML + b"<a/>", ".xml"),
        (XML, ".xml"),
        (XML + b"<!-- never ends", ".xml"),
        (XML + b"<svg xmlns='http://www.w3.org/2000/svg'>", ".svg"),
        (XML + b"<!-- made by -->\n<!DOCTYPE svg PUBLIC>\n<svg>", ".svg"),
        (b"<svg viewBox='0 0 1 1'>", ".svg"),
        (XML + b"<!DOCTYPE html>", ".html"),
        (b"<!DOCTYPE html>\n<html>", ".html"),
        (b"\n<!-- x --><!doctype HTML>", ".html"),
        (b"<html lang='en'>", ".html"),
        (b"#!/bin/sh\necho\n", ".sh"),
        (b"#! /usr/bin/bash -eu\n", ".sh"),
        (b"#!/usr/bin/env python3.11\n", ".py"),
        (b"#!/usr/bin/env -S node --harmony\n", ".js"),
        (b"#!/opt/x/perl -w", ".pl"),
        (b"#!/usr/bin/env ruby", ".rb"),
        (b"#!/usr/bin/something\n", ".txt"),
        (b"#!\n/bin/sh\n", ".txt"),
        (b"#!/usr/bin/env\n", ".txt"),
        ("#!/bin/über\n".encode(), ".txt"),
        (b"<?php echo 1;", ".php"),
        (b"%PDF-1.4\n1 0 obj\n", ".pdf"),
        (b"{\\rtf1\\ansi x}", ".rtf"),
        (b"%!PS-Adobe-3.0\n", ".ps"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", ".eps"),
        (b"BEGIN:VCARD\r\n", ".vcf"),
        (b"BEGIN:VCALENDAR\r\n", ".ics"),
        (b"-----BEGIN CERTIFICATE-----\n", ".pem"),
        (b"-----BEGIN PGP MESSAGE-----\n", ".asc"),
        (b"WEBVTT\n\n", ".vtt"),
        # Text that a library mistakes for another format.
        (b"BM is not a bitmap here", ".txt"),
        (b"MZ are initials", ".txt"),
        # Not text.
        (b"", ".bin"),
        (b"text\0", ".bin"),
        (b"text\x01", ".bin"),
        (b"text\x7f", ".bin"),
        ("über".encode("latin-1"), ".bin"),
        ("über".encode("utf-32"), ".bin"),
        (codecs.BOM_UTF16_LE + b"odd", ".bin"),
        ("über".encode()[:1], ".bin"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", ".pdf"),
    ],
)
def test_detected(head: bytes, suffix: str) -> None:
    """Text is distinguished from other formats, and some kinds of it by their first bytes."""
    assert suffix_of(head) == suffix


@pytest.mark.parametrize("character", ["é", "上", "🎉"])
@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_truncated_character(character: str, left: int) -> None:
    """A character that is truncated at the end of the head is valid in text."""
    text = "x" * (HEAD - left) + character * 10
    assert suffix_of(text.encode()[:HEAD]) == ".txt"


@pytest.mark.parametrize("left", [0, 1])
def test_truncated_wide_character(left: int) -> None:
    """The same for characters of two or four bytes."""
    text = "x" * (HEAD // 2 - 1 - left) + "🎉" * 10
    assert suffix_of(text.encode("utf-16")[:HEAD]) == ".txt"


def test_truncated_before_the_end() -> None:
    """A character that is truncated anywhere else is not valid in text."""
    assert suffix_of(b"x\xe4\xb8" + b"x" * (HEAD - 3)) == ".bin"


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    start=st.sampled_from(
        [b"", b"#!", b"#!/usr/bin/env ", b"<", b"<?xml", b"<!--", b"{", b"[", XML]
    ),
    rest=st.text(alphabet='ab<>[]{}"\\!?-/# \n\tµ1,:', max_size=200),
)
def test_any_text(start: bytes, rest: str) -> None:
    """Any text, whatever its start, has a valid suffix."""
    suffix = suffix_of(start + rest.encode())
    assert suffix != ".bin" or not start + rest.encode()
    assert is_suffix(suffix)


@pytest.mark.parametrize(
    "piece",
    [b"[", b"[ ", b'["', b'{"', b'{"\\', b"<!--", b"<?", b"#! ", b"#!-", b"#!/", b" ", b"[1"],
)
def test_hostile_texts(piece: bytes) -> None:
    """Hostile text is processed quickly."""
    assert suffix_of((piece * HEAD)[:HEAD]) in {".txt", ".sh"}


def _is_text(head: bytes, *, cut: bool) -> bool:
    """Apply the rule in the module's docstring literally."""
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8")()
    try:
        text = decoder.decode(head, final=not cut)
    except UnicodeDecodeError:
        return False
    return not any(c == "\x7f" or (c < " " and c not in "\a\b\t\n\v\f\r\x1b") for c in text)


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("position", [0, 1, 4000, HEAD - 10])
def test_each_character(position: int, *, wide: bool) -> None:
    """Each character is allowed or not, at any position."""
    for code in range(0x180):
        text = "x" * position + chr(code) + "x" * 8
        head = codecs.BOM_UTF16_LE + text.encode("utf-16-le") if wide else text.encode()
        assert (text_suffix(head, cut=False) is not None) == _is_text(head, cut=False), code


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(
    start=st.sampled_from([b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE]),
    pieces=st.lists(
        st.one_of(
            st.sampled_from([b"text", "上传".encode(), "ü\n".encode("utf-16-le"), b"\0\x01"]),
            st.sampled_from([b"\x01\x01", b"\x00\xd8", b"\xe4\xb8", b"\xed\xa0\x80", b"\xc0\x80"]),
            st.binary(max_size=2),
        ),
        min_size=1,
        max_size=6,
    ),
    cut=st.booleans(),
)
def test_is_text(start: bytes, pieces: list[bytes], *, cut: bool) -> None:
    """Text decodes, and has no control characters except those allowed in text."""
    head = start + b"".join(pieces)
    assert (text_suffix(head, cut=cut) is not None) == (head != b"" and _is_text(head, cut=cut))
