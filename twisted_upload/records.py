"""
What logs and journals say to programs: JSON, one object a line, in ASCII.

The names of the fields are stable.  A field that has nothing to say is left
out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it imports Twisted, which those who read a journal need not wait for
    from twisted_upload.ends import UploadEnd

__all__ = ["FIELDS", "GAP", "JSON", "TEXT", "Stamps", "encode", "end_fields"]

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
    "by_silence",
    "heard",
    "lines",
    "message",
    "traceback",
)
"""All names that there are, in the order in which they come."""

TEXT, JSON = "text", "json"
"""The values of ``--log-format``."""

GAP = "gap"
"""The event of a record that stands for lines which are missing."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def encode(fields: Mapping[str, Any]) -> str:
    """One object, without the end of the line."""
    return _encode(fields)


class Stamps:
    """
    Tells moments as in RFC 3339, in UTC: ``2026-11-22T12:43:24.291Z``.

    All are of one length, and are in order as texts as they are in time.  The
    seconds are formatted once for all that is told in one of them.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def seconds(self, moment: float) -> str:
        """Up to the seconds, without the zone."""
        second = int(moment)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return self._text

    def milliseconds(self, moment: float) -> str:
        """
        All of it.

        :param moment: seconds since the epoch.
        """
        # A microsecond more: 0.291 as a float is a little less than that.
        second, thousandths = divmod(int(moment * 1000 + 0.001), 1000)
        return f"{self.seconds(second)}.{thousandths:03d}Z"


def end_fields(ended: UploadEnd) -> dict[str, Any]:
    """What is to be told of an upload that has ended, but for the time."""
    fields: dict[str, Any] = {"event": ended.end}
    if ended.listener:
        fields["listener"] = ended.listener
    fields["peer"] = ended.peer
    fields["size"] = ended.size
    fields["seconds"] = round(ended.seconds, 6)
    if ended.name is not None:
        fields["name"] = ended.name
    if ended.code is not None:
        fields["code"] = ended.code
    if ended.sha256 is not None:
        fields["sha256"] = ended.sha256
    if ended.by_silence:
        fields["by_silence"] = True
    if not ended.heard:
        fields["heard"] = False
    return fields
