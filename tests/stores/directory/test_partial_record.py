"""
The record of a partial upload: a write that is cut off anywhere changes nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.disk.files import Files
from twisted_upload.interfaces import Arrival, Metadata, PartialTerms
from twisted_upload.stores.directory.partial_record import (
    OPEN,
    PUBLISHING,
    STORED,
    PartialOrigin,
    PartialRecord,
    PartialState,
)

ARRIVAL = Arrival(
    "192.0.2.7:50123",
    digest=True,
    listener="http",
    length=10,
    metadata=Metadata("фото.jpg", "image/jpeg", "Alice"),
    owner="token:alice",
)
ORIGIN = PartialOrigin(
    PartialTerms(ARRIVAL, "alice", "192.0.2.0/24", 1e10, is_part=False, note='{"a": "ü"}'),
    1795328130.123,
)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "record", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def create(descriptor: int, origin: PartialOrigin = ORIGIN) -> PartialRecord:
    return PartialRecord.create(Files(), descriptor, origin, OPEN)


def load(descriptor: int) -> PartialRecord:
    return PartialRecord.load(Files(), descriptor)


def test_new(descriptor: int) -> None:
    """A new record has everything that it was created with."""
    create(descriptor)
    record = load(descriptor)
    assert record.origin == ORIGIN
    assert record.state == PartialState(OPEN, 0, 10, 1e10)


def test_latest_state(descriptor: int) -> None:
    """The latest state counts."""
    record = create(descriptor)
    for offset in range(1, 10):
        record.write(record.state._replace(offset=offset))
        assert load(descriptor).state.offset == offset
    last = PartialState(STORED, 10, 10, math.inf, "1.bin", "0" * 64, 5.5)
    record.write(last)
    again = load(descriptor)
    assert again.state == last
    assert again.origin.terms.expires == math.inf
    again.write(last._replace(when=6.5))
    assert load(descriptor).state.when == 6.5


def test_torn_write(descriptor: int) -> None:
    """A state that was written only in part, whichever part, leaves the old one or the new."""
    record = create(descriptor)
    record.write(record.state._replace(offset=5))
    before = os.pread(descriptor, 1 << 20, 0)
    record.write(record.state._replace(offset=9, name="x" * 200))
    after = os.pread(descriptor, 1 << 20, 0)
    assert len(before) == len(after)
    found = set()
    for cut in range(0, 4097, 16):
        for mixed in (
            after[:cut] + before[cut:4096],
            before[:cut] + after[cut:4096],
            bytes(cut) + after[cut:4096],
        ):
            os.pwrite(descriptor, mixed + after[4096:], 0)
            found.add(load(descriptor).state.offset)
    assert found == {5, 9}


@pytest.mark.parametrize("length", [0, 100, 4096, 8192, 8200, -1])
def test_incomplete(descriptor: int, length: int) -> None:
    """A record that has not been written completely is not used."""
    create(descriptor)
    size = os.fstat(descriptor).st_size
    os.ftruncate(descriptor, length if length >= 0 else size - 1)
    with pytest.raises(ValueError, match="not written completely"):
        load(descriptor)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -1},
        {"offset": "5"},
        {"offset": True},
        {"length": -1},
        {"phase": "else"},
        {"name": "../x"},
        {"name": 5},
        {"sha256": 5},
        {"when": "x"},
        {"expires": "soon"},
    ],
)
def test_wrong_fields(
    descriptor: int, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record with a valid checksum and other contents is not used."""
    record = create(descriptor)
    monkeypatch.setattr(
        "twisted_upload.stores.directory.partial_record._packed",
        lambda state: json.dumps({**state._asdict(), **change}).encode(),
    )
    record.write(record.state)
    with pytest.raises(ValueError, match="does not hold"):
        load(descriptor)


def test_large(descriptor: int) -> None:
    """The largest note fits, whatever is in it."""
    for note in "\0" * 32768, "ü" * 16384, '"' * 32768:
        os.ftruncate(descriptor, 0)
        terms = ORIGIN.terms._replace(note=note)
        create(descriptor, ORIGIN._replace(terms=terms))
        assert load(descriptor).origin.terms.note == note


def test_size_stays(descriptor: int) -> None:
    """A later write changes neither size nor blocks of the file."""
    record = create(descriptor)
    os.fsync(descriptor)
    before = os.fstat(descriptor)
    for offset in range(4):
        record.write(record.state._replace(phase=PUBLISHING, offset=offset, name="x" * 250))
    os.fsync(descriptor)
    after = os.fstat(descriptor)
    assert (before.st_size, before.st_blocks) == (after.st_size, after.st_blocks)


@given(data=st.binary(max_size=300), at=st.integers(0, 9000))
@settings(deadline=None)
def test_garbage(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    """Whatever overwrites a part of it, it is read as it was, or not used."""
    path = tmp_path_factory.mktemp("record") / "record"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        record = create(descriptor)
        record.write(record.state._replace(offset=5))
        os.pwrite(descriptor, data, at)
        try:
            found = load(descriptor)
        except ValueError:
            return
        assert found.state.offset in {0, 5}
        assert found.origin == ORIGIN
    finally:
        os.close(descriptor)
