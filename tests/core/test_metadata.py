"""
What a sender says about its file, made harmless.
"""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twisted_upload.core.metadata import (
    LONGEST_FOLDER,
    LONGEST_LABEL,
    LONGEST_ORIGINAL_NAME,
    checked_metadata,
    clean_content_type,
    clean_folder,
    clean_label,
    clean_original_name,
    is_content_type,
    is_folder,
    is_label,
    is_original_name,
)
from twisted_upload.interfaces import NO_METADATA, Metadata

NASTY = st.text(
    st.one_of(
        st.sampled_from("/\\.\0 \ne\u202e\u200d\u2066\ufeff\u3000\u00a0"),
        st.sampled_from("e\ufffd\u0301\u0344\U0001f469"),
        st.characters(codec="utf-8"),
        st.characters(categories=["Cs"]),
    ),
    max_size=300,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("/etc/passwd", "passwd"),
        ("../../x.jpg", "x.jpg"),
        ("C:\\fakepath\\photo.jpg", "photo.jpg"),
        ("folder/", "folder"),
        ("..", ""),
        ("/", ""),
        (".htaccess", "htaccess"),
        (". .profile. ", "profile"),
        ("a\0b\nc\x7f.jpg", "abc.jpg"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("\u2066a\u2069\u200b.jpg", "a.jpg"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("e\u200d\u0301.txt", "\u00e9.txt"),
        ("Screenshot 9.41\u202fAM.png", "Screenshot 9.41 AM.png"),
        ("\u3000\u4e2d\u6587\u3000.txt", "\u4e2d\u6587 .txt"),
        ("\ufffd.txt", "_.txt"),
        ("$(reboot) 'x'.jpg", "$(reboot) 'x'.jpg"),
        ("a" * 300 + ".jpg", "a" * 196 + ".jpg"),
        ("\u4e2d" * 100 + ".jpg", "\u4e2d" * 65 + ".jpg"),
        ("a" * 300, "a" * 200),
        ("a." + "b" * 300, "a." + "b" * 198),
        ("a" * 190 + "    " + "b" * 20 + ".jpg", "a" * 190 + "    bb.jpg"),
        ("a" * 190 + " " * 20 + "b.jpg", "a" * 190 + ".jpg"),
    ],
)
def test_names(text: str, name: str) -> None:
    """An original name is the last segment of what was sent, without what is not visible."""
    assert clean_original_name(text) == name


@given(NASTY)
@example("a" * 196 + "\u00e9.jpg")
@example("x." + " " * 250 + "y")
@settings(deadline=None)
def test_any_name(text: str) -> None:
    """Any name that is sent becomes a valid, printable file name, or an empty one."""
    name = clean_original_name(text)
    assert name == os.path.basename(name)
    assert not name.startswith((".", " "))
    assert name.isprintable()
    assert unicodedata.is_normalized("NFC", name)
    assert len(name.encode()) <= LONGEST_ORIGINAL_NAME
    assert "\\" not in name
    assert is_original_name(name) == bool(name)
    assert is_original_name(text) == (text == name != "")


def test_name_of_combining_characters_is_fast() -> None:
    """A name of nothing but combining characters takes no time to speak of, however long."""
    name = clean_original_name("a" + "\u0301\u0327" * 1_000_000 + ".jpg")
    assert len(name.encode()) <= 200


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("image/jpeg", "image/jpeg"),
        (" Text/Plain ; charset=utf-8", "text/plain"),
        ("application/vnd.a+b;x", "application/vnd.a+b"),
        ("image", ""),
        ("image/", ""),
        ("image/jpeg, text/plain", ""),
        ("image / jpeg", ""),
        ("im age/jpeg", ""),
        ("a/b\n", ""),
        ("\u4e2d/x", ""),
        ("a/" + "b" * 128, ""),
        ("", ""),
    ],
)
def test_content_types(text: str, kind: str) -> None:
    """A content type is a media type, without parameters; anything else is ignored."""
    assert clean_content_type(text) == kind
    assert is_content_type(kind) == bool(kind)
    assert not is_content_type(f"{kind}\n")


@given(NASTY)
@example("\u4e2d" * 400)
@settings(deadline=None)
def test_any_label(text: str) -> None:
    """A label is printable and bounded."""
    label = clean_label(text)
    assert label.isprintable()
    assert len(label.encode()) <= LONGEST_LABEL
    assert is_label(label) == bool(label)
    assert is_label(text) == (text == label != "")


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("", ""),
        ("2026", "2026"),
        ("2026/monday", "2026/monday"),
        ("/2026//monday/", "2026/monday"),
        ("./2026/../..", "2026"),
        ("../../etc", "etc"),
        (r"2026\monday", "2026/monday"),
        ("a\0\n/\u202eb", "a/b"),
        (".hidden/x", "hidden/x"),
        ("x/" * 5000, "/".join(["x"] * 512)),
    ],
)
def test_folders(text: str, folder: str) -> None:
    """A folder is relative, and has no part that is not a name."""
    assert clean_folder(text) == folder
    assert is_folder(folder) == bool(folder)


@given(st.text())
def test_any_folder(text: str) -> None:
    """A folder is printable and bounded, and leads nowhere else."""
    folder = clean_folder(text)
    assert folder.isprintable()
    assert len(folder.encode()) <= LONGEST_FOLDER
    assert not {"", ".", ".."} & {*folder.split("/")} or folder == ""
    assert is_folder(folder) == bool(folder)


def test_together() -> None:
    """Each text is checked alone; what is not acceptable is empty."""
    assert checked_metadata("a/b.jpg", "Image/JPEG; q=1", " Alice\n") == Metadata(
        "b.jpg", "image/jpeg", "Alice"
    )
    assert checked_metadata("..", "?", "\0", "/../") == NO_METADATA
