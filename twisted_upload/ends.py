"""
How uploads end, told to whoever wants to know: the log, and whatever else
counts, writes down or acts.

A door makes one `UploadEnd` of each upload and hands it to its witnesses, in
the reactor's thread, after the answer has been sent.  A witness is quick, keeps
nothing waiting, and never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.logger import Logger

from twisted_upload.units import format_duration, format_size

__all__ = ["UploadEnd", "Witness", "log_end"]


class UploadEnd(NamedTuple):
    """
    One upload that has ended.

    :ivar end: ``kept``, ``refused`` or ``lost``.
    :ivar listener: the name of the door that it came through.
    :ivar peer: the sender, for people: ``192.0.2.7:50123``.
    :ivar size: bytes that came.
    :ivar seconds: from the connection to the end.
    :ivar name: of the kept file.
    :ivar code: why it was refused: one of `twisted_upload.answers.CODES`.
    :ivar sha256: of the kept file, where it was asked for.
    :ivar by_silence: it was ended by silence, not by a half-close.
    :ivar heard: the sender was there to hear the answer.
    """

    end: str
    listener: str
    peer: str
    size: int
    seconds: float
    name: str | None = None
    code: str | None = None
    sha256: str | None = None
    by_silence: bool = False
    heard: bool = True


Witness = Callable[[UploadEnd], object]


def log_end(ended: UploadEnd) -> None:
    """Write one line, for people; no byte of the sender is in it."""
    end, listener, peer, size, seconds, name, code, sha256, by_silence, heard = ended
    notes = ""
    if by_silence:
        notes += ", ended by silence"
    if not heard:
        notes += ", sender gone before the answer"
    _log.info(
        _LINES[end],
        end=end,
        listener=listener,
        peer=peer,
        size=size,
        seconds=seconds,
        rate=f"{format_duration(seconds)}, {format_size(size / (seconds or 1e-3))}/s",
        name=name,
        code=code,
        sha256=sha256,
        by_silence=by_silence,
        heard=heard,
        notes=notes,
    )


_LINES = {
    "kept": "kept {name}: {size} bytes ({rate}) from {peer}{notes}",
    "refused": "refused ({code}) after {size} bytes ({rate}) from {peer}",
    "lost": "lost after {size} bytes ({rate}) from {peer}",
}

_log = Logger()
