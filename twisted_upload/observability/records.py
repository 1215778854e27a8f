"""
The machine-readable records of logs and journals: JSON, one object per line, in ASCII.

The names of the fields are stable.  A field without a value is left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from json.encoder import JSONEncoder, encode_basestring_ascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it imports Twisted, which reading a journal does not need
    from twisted_upload.core.outcome import UploadOutcome

__all__ = ["FIELDS", "GAP", "Timestamps", "encode", "encode_outcome"]

FIELDS = (
    "time",
    "level",
    "event",
    "listener",
    "peer",
    "size",
    "seconds",
    "name",
    "code",
    "sha256",
    "ended_by_idle",
    "answered",
    "original_name",
    "content_type",
    "label",
    "folder",
    "lines",
    "message",
    "traceback",
)
"""The names of all fields, in their order."""

_METADATA = ("original_name", "content_type", "label", "folder")

GAP = "gap"
"""The event of a record that stands for missing lines."""

_encode = JSONEncoder(separators=(",", ":"), check_circular=False).encode
_quoted = encode_basestring_ascii


def encode(fields: Mapping[str, Any]) -> str:
    """Return an object as JSON, without a newline."""
    return _encode(fields)


class Timestamps:
    """
    Formats times as in RFC 3339, in UTC: ``2026-11-22T12:43:24.291Z``.

    All have the same length, so they sort as text in order of time.  The text is reused
    within the same second or millisecond.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = ""
        self._thousandth = -1
        self._exact = ""

    def seconds(self, moment: float) -> str:
        """Format a time in whole seconds, without the time zone."""
        second = int(moment)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return self._text

    def milliseconds(self, moment: float) -> str:
        """
        Format a time in milliseconds, with the time zone.

        :param moment: seconds since the epoch.
        """
        # A microsecond is added because 0.291 as a float is slightly less than 0.291.
        thousandth = int(moment * 1000 + 0.001)
        if thousandth != self._thousandth:
            second, rest = divmod(thousandth, 1000)
            self._exact = f"{self.seconds(second)}.{rest:03d}Z"
            self._thousandth = thousandth
        return self._exact


def encode_outcome(time: str, ended: UploadOutcome, level: str | None = None) -> str:
    """
    Return the record of an upload that has ended, as `encode` would.

    :param level: the level, for a line of the log.
    """
    # Assembled by hand: an encoder would take four times as long, for every upload.
    outcome, listener, peer, size, seconds, name, code, sha256, by_idle, answered, said = ended
    how = "" if level is None else f',"level":"{level}"'
    whose = f',"listener":{_quoted(listener)}' if listener else ""
    text = (
        f'{{"time":"{time}"{how},"event":"{outcome}"{whose},"peer":{_quoted(peer)}'
        f',"size":{size},"seconds":{round(seconds, 6)}'
    )
    if name is not None:
        text += f',"name":{_quoted(name)}'
    if code is not None:
        text += f',"code":{_quoted(code)}'
    if sha256 is not None:
        text += f',"sha256":{_quoted(sha256)}'
    if by_idle:
        text += ',"ended_by_idle":true'
    if not answered:
        text += ',"answered":false'
    if any(said):
        for field, value in zip(_METADATA, said, strict=True):
            if value:
                text += f',"{field}":{_quoted(value)}'
    return text + "}"
