r"""
What a request says about the file in its body: its name and its media type.

The name comes from ``Content-Disposition`` (RFC 6266) or from the last segment of the
path.  Whatever it contains, it becomes a name without a folder
(`twisted_upload.core.metadata`), and it is never used as a path.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from twisted_upload.core.metadata import checked_metadata
from twisted_upload.frontends.http.messages import Request
from twisted_upload.interfaces import Metadata

__all__ = ["as_utf8", "disposition_name", "path_name", "request_metadata"]

_FORM = "application/x-www-form-urlencoded"
"""What curl sends with ``--data-binary`` if it is not told the type: it says nothing."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"[ \t]*{_WORD}[ \t]*")
# Nothing is tried twice (``*+``): a long run of spaces would take seconds.
_PARAMETER = re.compile(
    rf'[; \t]*+({_WORD}+)[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^; \t"]*+)[ \t]*+(?=;|\Z)',
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_EXTENDED = re.compile(
    r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'((?:[!#$&+.^_`|~0-9A-Za-z-]|%[0-9A-Fa-f]{2})*)\Z",
    re.IGNORECASE,
)  # RFC 8187, section 3.2.1


def request_metadata(request: Request, label: str = "") -> Metadata:
    """
    Return what a request says about the file that is its body.

    :param label: of its sender.
    """
    fields = request.fields
    name = disposition_name(fields.get("content-disposition", "")) or path_name(request.path)
    metadata = checked_metadata(name, fields.get("content-type", ""), label)
    return metadata._replace(content_type="") if metadata.content_type == _FORM else metadata


def path_name(path: str) -> str:
    """Return the last segment of a path; its percent-encoding is decoded once, as UTF-8."""
    segment = path.rpartition("/")[2]
    if "%" not in segment and segment.isascii():
        return segment
    return unquote_to_bytes(segment.encode("utf-8", "replace")).decode("utf-8", "replace")


def disposition_name(value: str) -> str:
    """
    Return the file name in a ``Content-Disposition`` field; empty if there is none.

    ``filename*`` (RFC 8187) takes precedence over ``filename``.
    """
    match = _TYPE.match(value) if value else None
    if match is None:
        return ""
    plain = extended = ""
    position = match.end()
    while (match := _PARAMETER.match(value, position)) is not None:
        position = match.end()
        key, text = match[1].lower(), match[2]
        if key == "filename" and not plain:
            plain = _unquoted(text)
        elif key == "filename*" and not extended:
            extended = _decoded(text)
    return extended or plain


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        text = _ESCAPED.sub(r"\1", text[1:-1])
    return as_utf8(text)


def as_utf8(text: str) -> str:
    """Return a name that was read as ISO 8859-1 as UTF-8, which most clients mean, if it is."""
    try:
        return text.encode("iso-8859-1").decode("utf-8")
    except UnicodeError:
        return text


def _decoded(text: str) -> str:
    match = _EXTENDED.match(text)
    if match is None:
        return ""
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        return ""
