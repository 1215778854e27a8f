"""
What a sender says about its file: which texts are accepted, and in which form.

A front end makes each text with the functions here; what is read back from a disk is
checked with them.
"""

from __future__ import annotations

import re
import unicodedata

from twisted_upload.receipt import Metadata

__all__ = [
    "LONGEST_FOLDER",
    "LONGEST_LABEL",
    "LONGEST_ORIGINAL_NAME",
    "checked_metadata",
    "clean_content_type",
    "clean_folder",
    "clean_label",
    "clean_original_name",
    "folder_of",
    "is_content_type",
    "is_folder",
    "is_label",
    "is_original_name",
    "name_with_suffix",
]

LONGEST_ORIGINAL_NAME = 200
"""Maximum number of bytes of an original name, in UTF-8: names of files may have 255."""

LONGEST_LABEL = 1024
"""Maximum number of bytes of a label, in UTF-8."""

LONGEST_FOLDER = 1024
"""Maximum number of bytes of a folder, in UTF-8."""

_LONGEST_PATH = 4096  # characters
_LONGEST_READ = 1024  # characters; more are not looked at: combining ones take a time of n * n
_LONGEST_SUFFIX = 32  # bytes that are kept if a name is too long
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,127}"  # RFC 9110, section 5.6.2
_MEDIA_TYPE = re.compile(rf"({_WORD}/{_WORD})[ \t]*(?:;.*)?\Z", re.DOTALL)
_CONTENT_TYPE = re.compile(rf"{_WORD}/{_WORD}\Z")


def clean_original_name(text: str) -> str:
    r"""
    Return the name of a file at its sender in the form in which it is used.

    Folders are removed, whether they end with ``/`` or ``\``, and so are invisible
    characters, those that change the direction of writing, and dots at the beginning.
    Each kind of space becomes a space.  A name that is too long loses the end of its
    stem, and keeps its suffix.

    :return: empty if nothing is left.
    """
    text = text.replace("\\", "/").rstrip("/").rpartition("/")[2][:_LONGEST_READ]
    if not (text.isascii() and text.isprintable()):  # else there is nothing to do
        text = "".join(map(_visible, unicodedata.normalize("NFC", text)))
        # Characters that were separated by an invisible one may combine now.
        text = unicodedata.normalize("NFC", text)
    return _shortened(text.strip(" .")).rstrip(" .")


def _visible(character: str) -> str:
    if character.isprintable():
        return character if character != "\ufffd" else "_"
    return " " if unicodedata.category(character) == "Zs" else ""


def _shortened(name: str, longest: int = LONGEST_ORIGINAL_NAME) -> str:
    if len(name.encode()) <= longest:
        return name
    stem, dot, last = name.rpartition(".")
    suffix = dot + last
    if not stem or len(suffix.encode()) > _LONGEST_SUFFIX:
        stem, suffix = name, ""
    return _cut(stem, longest - len(suffix.encode())).rstrip(" .") + suffix


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def name_with_suffix(name: str, suffix: str, longest: int = LONGEST_ORIGINAL_NAME) -> str:
    """
    Return an original name with a suffix: its own, or the given one, if it has none.

    :param name: as `clean_original_name` returns it.
    :param suffix: with its dot, or empty.
    :param longest: bytes that the result may have, in UTF-8; at least 64.
    """
    stem, dot, last = name.rpartition(".")
    if not suffix or (stem and dot and last and len(last.encode()) < _LONGEST_SUFFIX):
        return _shortened(name, longest)
    return _cut(name, longest - len(suffix)).rstrip(" .") + suffix


def is_original_name(text: str) -> bool:
    """Return whether `clean_original_name` can return this, and it is not empty."""
    return text != "" and _is_utf8(text) and clean_original_name(text) == text


def clean_folder(text: str) -> str:
    r"""
    Return the folder of a file at its sender in the form in which it is used.

    Each part is like an original name (`clean_original_name`); there is no ``.``, no ``..``,
    and no ``/`` at the beginning or the end.  Of one that is too long, the last parts are
    left out.

    :param text: its parts end with ``/`` or ``\``.
    """
    parts = (
        clean_original_name(part) for part in text[:_LONGEST_PATH].replace("\\", "/").split("/")
    )
    folder = ""
    for part in filter(None, parts):
        longer = f"{folder}/{part}" if folder else part
        if len(longer.encode()) > LONGEST_FOLDER:
            break
        folder = longer
    return folder


def is_folder(text: str) -> bool:
    """Return whether `clean_folder` can return this, and it is not empty."""
    return text != "" and _is_utf8(text) and clean_folder(text) == text


def folder_of(path: str) -> str:
    """Return the part of a relative path before the name of the file, not cleaned."""
    return path.replace("\\", "/").rpartition("/")[0]


def clean_content_type(text: str) -> str:
    """
    Return the media type of a ``Content-Type`` field, without its parameters, in lower
    case; empty if it is not one.  See RFC 9110, section 8.3.1.
    """
    match = _MEDIA_TYPE.match(text.strip(" \t")) if text else None
    return "" if match is None else match[1].lower()


def is_content_type(text: str) -> bool:
    """Return whether `clean_content_type` can return this, and it is not empty."""
    return _CONTENT_TYPE.match(text) is not None and text == text.lower()


def clean_label(text: str) -> str:
    """Return a label without what is invisible, cut if it is too long."""
    if not text:
        return ""
    text = "".join(map(_visible, text[:_LONGEST_READ]))
    return _cut(text.strip(" "), LONGEST_LABEL).rstrip(" ")


def is_label(text: str) -> bool:
    """Return whether `clean_label` can return this, and it is not empty."""
    return text != "" and _is_utf8(text) and clean_label(text) == text


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def checked_metadata(
    original_name: str = "", content_type: str = "", label: str = "", folder: str = ""
) -> Metadata:
    """
    Return metadata made of texts of a sender; what is not acceptable is empty.

    :param original_name: may begin with folders, which are left out.
    :param content_type: may have parameters.
    """
    return Metadata(
        clean_original_name(original_name),
        clean_content_type(content_type),
        clean_label(label),
        clean_folder(folder) if folder else "",
    )
