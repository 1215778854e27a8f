"""
The record of a partial upload: a small file beside its data.

It consists of three blocks, each with a checksum:

- two slots, which are written alternately, each time with a higher number: the *state*
  (`PartialState`), and with it the committed offset.  A crash while one is written leaves
  the other one as it was;
- what never changes: the terms, and when it was created.

The slots are written once when the record is created, so that later writes change no
metadata of the file system, and a sync of the record writes one block.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from twisted_upload.disk.files import Files
from twisted_upload.interfaces import Arrival, Metadata, PartialTerms
from twisted_upload.stores.partial_uploads import remembered_until

__all__ = [
    "COPYING",
    "OPEN",
    "PUBLISHING",
    "STORED",
    "PartialOrigin",
    "PartialRecord",
    "PartialState",
    "due",
]

OPEN, PUBLISHING, STORED, COPYING = "open", "publishing", "stored", "copying"
"""The phases of an upload: bytes are added; its data file is about to be published, or has
been; its data file has been published durably; it is being made of others, and nobody
knows its id yet."""

STALL = 30.0
"""Seconds after which what has been written says too early a time at which an upload expires:
it lasts for a minute at least."""

_BLOCK = 4096
_COMMON = 16 * 1024
_LARGEST = 512 * 1024  # a note of 32 KiB takes at most 192 KiB
_HEAD = struct.Struct("<4sIIQ")
_MAGIC = b"tup1"

T = TypeVar("T")


class PartialState(NamedTuple):
    """
    What changes during the life of a partial upload.

    :ivar phase: `OPEN`, `PUBLISHING`, `STORED` or `COPYING`.
    :ivar offset: the committed offset.
    :ivar length: its length, once it is known.
    :ivar expires: see `PartialTerms.expires`.
    :ivar name: the name that it is published under.
    :ivar sha256: its SHA-256 in hexadecimal, if that is requested.
    :ivar when: when it was published: seconds since the epoch.
    :ivar inode: inode number of the data, when it is published.
    """

    phase: str
    offset: int
    length: int | None
    expires: float
    name: str = ""
    sha256: str | None = None
    when: float = 0.0
    inode: int = 0


class PartialOrigin(NamedTuple):
    """
    What never changes.

    :ivar terms: what the upload was created with.
    :ivar created: seconds since the epoch.
    """

    terms: PartialTerms
    created: float


class PartialRecord:
    """
    An open record.

    :ivar descriptor: its file descriptor.
    :ivar origin: what never changes.
    :ivar state: the latest state.
    :ivar number: its number.
    :ivar synced: the number of the latest one that is known to be durable; -1 for none.
    :ivar until: returns when the upload expires if that is written now (`put_off`); `None` for
        no change.
    :ivar unsure: whether the file may hold a later state, of which writing has failed.
    """

    def __init__(
        self,
        files: Files,
        descriptor: int,
        origin: PartialOrigin,
        state: PartialState,
        *,
        number: int = 0,
    ) -> None:
        self.descriptor = descriptor
        self.origin = origin
        self.state = state
        self.number = number
        self.synced = -1
        self.until: Callable[[], float] | None = None
        self.unsure = False
        self._files = files

    @classmethod
    def create(
        cls, files: Files, descriptor: int, origin: PartialOrigin, phase: str
    ) -> PartialRecord:
        """
        Write the record of a new upload into an empty file.

        :raises OSError: it cannot be written.
        """
        terms = origin.terms
        state = PartialState(phase, 0, terms.arrival.length, terms.expires)
        first = _framed(_packed(state), 0).ljust(_BLOCK, b"\0")
        fixed = _framed(_packed_origin(origin), 0)
        files.write_at(descriptor, first + bytes(_BLOCK) + fixed, 0)
        return cls(files, descriptor, origin, state)

    @classmethod
    def load(cls, files: Files, descriptor: int) -> PartialRecord:
        """
        Read a record.

        :raises ValueError: it was not written completely, or is damaged.
        :raises OSError: it cannot be read.
        """
        text = files.read_at(descriptor, _COMMON, 0)
        if len(text) == _COMMON:
            text = files.read_at(descriptor, _LARGEST, 0)
        slots = []
        for start in 0, _BLOCK:
            found = _unframed(text[start : start + _BLOCK])
            if found is not None:
                slots.append(found)
        fixed = _unframed(text[2 * _BLOCK :])
        if not slots or fixed is None:
            raise ValueError("it was not written completely, or is damaged")
        number, packed = max(slots)
        try:
            state = _unpacked(packed)
            origin = _unpacked_origin(fixed[1], state)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it does not hold what was expected: {error!r}") from None
        return cls(files, descriptor, origin, state, number=number)

    @property
    def expires(self) -> float:
        """When the upload expires if that is written now: seconds since the epoch."""
        return self.state.expires if self.until is None else self.until()

    def save(self, state: PartialState, *, durable: bool) -> None:
        """
        Write a new state, and sync it if it is to be durable.

        :raises OSError: as `write` and `sync`.
        """
        self.write(state)
        if durable:
            self.sync()
        self.renew(durable=durable)

    def renew(self, *, durable: bool) -> None:
        """
        Write when it expires once more, if the disk was stalled while that was written.

        :raises OSError: as `save`.
        """
        expires = self.expires
        if expires - self.state.expires >= STALL:
            self.write(self.state._replace(expires=expires))
            if durable:
                self.sync()

    def write(self, state: PartialState) -> None:
        """
        Write a new state; it is not synced.

        :raises OSError: it cannot be written; the old one is still there, but the new one
            may be there as well, and then it counts for the next user (`unsure`).
        """
        number = self.number + 1
        slot = _framed(_packed(state), number).ljust(_BLOCK, b"\0")
        self.unsure = True
        self._files.write_at(self.descriptor, slot, number % 2 * _BLOCK)
        self.number, self.state, self.unsure = number, state, False

    def sync(self) -> None:
        """
        Make the latest state durable.

        :raises OSError: it may not be.
        """
        self._files.datasync(self.descriptor)
        self.synced = self.number


def _framed(payload: bytes, number: int) -> bytes:
    tail = struct.pack("<IQ", len(payload), number) + payload
    return _MAGIC + struct.pack("<I", zlib.crc32(tail)) + tail


def _unframed(block: bytes) -> tuple[int, bytes] | None:
    """Return the number and the payload of a block; `None` if it is not valid."""
    if len(block) < _HEAD.size:
        return None
    magic, checksum, length, number = _HEAD.unpack_from(block)
    end = _HEAD.size + length
    if magic != _MAGIC or end > len(block) or zlib.crc32(block[8:end]) != checksum:
        return None
    return number, block[_HEAD.size : end]


def _packed(state: PartialState) -> bytes:
    fields = state._asdict()
    if not math.isfinite(state.expires):
        fields["expires"] = None
    return json.dumps(fields).encode()


def _unpacked(text: bytes) -> PartialState:
    fields = _object(text)
    expires, length, sha256 = fields["expires"], fields["length"], fields["sha256"]
    state = PartialState(
        _is(str, fields["phase"]),
        _size(fields["offset"]),
        None if length is None else _size(length),
        math.inf if expires is None else float(_is(float, float(expires))),
        _is(str, fields["name"]),
        None if sha256 is None else _is(str, sha256),
        float(fields["when"]),
        _size(fields.get("inode", 0)),
    )
    if state.phase not in {OPEN, PUBLISHING, STORED, COPYING} or "/" in state.name:
        raise ValueError(state.phase)
    return state


def _packed_origin(origin: PartialOrigin) -> bytes:
    terms, arrival = origin.terms, origin.terms.arrival
    fields = {
        "created": origin.created,
        "peer": arrival.peer,
        "digest": arrival.digest,
        "listener": arrival.listener,
        "metadata": [*arrival.metadata],
        "behalf": arrival.owner,
        "owner": terms.owner,
        "group": terms.group,
        "part": terms.is_part,
        "note": terms.note,
    }
    return json.dumps(fields).encode()


def _unpacked_origin(text: bytes, state: PartialState) -> PartialOrigin:
    fields = _object(text)
    group = fields["group"]
    arrival = Arrival(
        _is(str, fields["peer"]),
        digest=_is(bool, fields["digest"]),
        listener=_is(str, fields["listener"]),
        length=state.length,
        metadata=Metadata(*(_is(str, it) for it in fields["metadata"])),
        owner=_is(str, fields["behalf"]),
    )
    terms = PartialTerms(
        arrival,
        owner=_is(str, fields["owner"]),
        group=None if group is None else _is(str, group),
        expires=state.expires,
        is_part=_is(bool, fields["part"]),
        note=_is(str, fields["note"]),
    )
    return PartialOrigin(terms, float(fields["created"]))


def _object(text: bytes) -> dict[str, Any]:
    return _is(dict, json.loads(text))


def _is(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"not a {kind.__name__}")
    return value


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a size")
    return value


def due(log: PartialRecord) -> float:
    """Return when an upload expires, or is forgotten: seconds since the epoch."""
    state = log.state
    if state.phase == STORED:
        return remembered_until(state.when, state.expires)
    if state.phase == PUBLISHING:  # it may have been published, or not
        return max(state.expires, remembered_until(state.when, state.expires))
    return state.expires
