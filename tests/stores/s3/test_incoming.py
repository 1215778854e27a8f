"""
Uploads on their way to an object store: requests, parts, memory, back-pressure.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.object_stores import PART, ManualS3Rig, make_parts_small
from tests.support.stores import MILLISECONDS
from twisted_upload.core.names import is_file_name
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.errors import NoSpace, TooLarge
from twisted_upload.interfaces import Metadata, Receipt
from twisted_upload.stores.memory_budget import RESERVABLE, MemoryBudget
from twisted_upload.stores.s3.bucket import MARK
from twisted_upload.stores.s3.part import SMALL
from twisted_upload.stores.s3.parts import LARGEST_OBJECT

PIECE = 65536


# -- requests -----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE, SMALL + 1, PART])
def test_small(rig: ManualS3Rig, size: int) -> None:
    """An upload that fits into one part is one job, one request, and never on a disk."""
    incoming, _, _ = rig.begin()
    for start in range(0, size, PIECE):
        incoming.write(b"x" * min(PIECE, size - start))
    ends = rig.commit(incoming)
    assert (rig.requests.waiting, rig.disk.waiting) == (1, 0)
    rig.work()
    assert rig.operations == ["put"]
    assert [*rig.bucket.visible().values()] == [b"x" * size]
    assert isinstance(ends[0], Receipt)
    assert rig.disk.waiting == 0


def test_large(rig: ManualS3Rig) -> None:
    """A larger one is a multipart upload with parts of 5 MiB; the last has the rest."""
    content = bytes(range(256)) * 4 * 11 * 1024  # 11 MiB
    receipt = rig.store_upload(content)
    assert isinstance(receipt, Receipt)
    assert rig.operations == ["begin", *["put_part"] * 3, "complete", "tag"]
    assert rig.bucket.visible() == {receipt.name: content}


def test_one_byte_more(rig: ManualS3Rig) -> None:
    """With one byte more than a part, there are two parts; an empty one is never sent."""
    for size, parts in (PART + 1, 2), (2 * PART, 2), (2 * PART + 1, 3):
        before = len(rig.operations)
        rig.store_upload(b"y" * size)
        assert rig.operations[before:].count("put_part") == parts


def test_name_and_receipt(rig: ManualS3Rig) -> None:
    """The name has the moment, the node and a token; the receipt has it, and all the rest."""
    incoming, _, _ = rig.begin(metadata=Metadata("photo.jpg", "image/jpeg", "Alice"))
    incoming.write(b"hello")
    ends = rig.commit(incoming)
    rig.work()
    (receipt,) = cast("list[Receipt]", ends)
    assert receipt.name is not None
    assert receipt.name.startswith(f"{MILLISECONDS}-one-")
    assert receipt.name.endswith(".bin")
    assert is_file_name(receipt.name)
    assert receipt == Receipt(
        receipt.name,
        5,
        hashlib.sha256(b"hello").hexdigest(),
        "192.0.2.7:50123",
        MILLISECONDS / 1000,
        MILLISECONDS / 1000,
        Metadata("photo.jpg", "image/jpeg", "Alice"),
    )


def test_told_with_the_object(rig: ManualS3Rig) -> None:
    """A small object has its SHA-256 in its metadata, whether the receipt has it or not."""
    incoming, _, _ = rig.begin(digest=False, metadata=Metadata("my photo.jpg", "image/jpeg", ""))
    incoming.write(b"hello")
    ends = rig.commit(incoming)
    rig.work()
    (receipt,) = cast("list[Receipt]", ends)
    assert receipt.sha256 is None
    told = rig.bucket.about(receipt.name or "")
    assert told.content_type == "image/jpeg"
    assert len(told.details[MARK]) == 32
    assert {name: text for name, text in told.details.items() if name != MARK} == {
        "arrived": "2026-11-22T06:15:30.123Z",
        "node": "one",
        "original-name": "my%20photo.jpg",
        "sender": "192.0.2.7:50123",
        "sha256": hashlib.sha256(b"hello").hexdigest(),
    }


def test_tagged(rig: ManualS3Rig) -> None:
    """A large object is tagged with its SHA-256, after its sender has been answered."""
    content = b"z" * (PART + 1)
    incoming, _, _ = rig.begin()
    incoming.write(content)
    rig.work()
    ends = rig.commit(incoming)
    rig.requests.work(2)  # the last part, and the completion
    assert isinstance(ends[0], Receipt)
    assert rig.operations[-1] == "complete"
    rig.work()
    sha256 = hashlib.sha256(content).hexdigest()
    assert rig.bucket.tags(ends[0].name or "") == {"sha256": sha256}
    assert ends[0].sha256 == sha256


def test_nothing_visible_before_commit(rig: ManualS3Rig) -> None:
    """Nothing of an upload is visible before its commit, however many parts have been sent."""
    incoming, _, _ = rig.begin()
    for _ in range(3):
        incoming.write(b"x" * PART)
        rig.work()
        assert rig.bucket.visible() == {}
    assert len(rig.pending) == 1
    rig.commit(incoming)
    assert rig.bucket.visible() == {}
    rig.work()
    assert len(rig.bucket.visible()) == 1


# -- parts --------------------------------------------------------------------


@pytest.mark.parametrize("known", [None, 100_000])
def test_parts_grow(rig: ManualS3Rig, monkeypatch: pytest.MonkeyPatch, known: int | None) -> None:
    """Each part has the size for its number, and for the length if the sender has told it."""
    asked = []

    def sizes(number: int, length: int | None) -> int:
        asked.append((number, length))
        return 10_000 * number

    monkeypatch.setattr("twisted_upload.stores.s3.collecting.part_size", sizes)
    incoming, _, _ = rig.begin(length=known)
    incoming.write(b"a" * 100_000)
    ends = rig.commit(incoming)
    rig.work()
    assert isinstance(ends[0], Receipt)
    assert asked[:4] == [(number, known) for number in range(1, 5)]
    assert rig.operations.count("put_part") == 4
    assert [*rig.bucket.visible().values()] == [b"a" * 100_000]


def test_too_many_parts(rig: ManualS3Rig, small_part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that needs more parts than there may be is refused, and nothing is left."""
    monkeypatch.setattr("twisted_upload.stores.s3.incoming.MOST_PARTS", 3)
    incoming, failures, _ = rig.begin()
    for _ in range(5):
        incoming.write(b"x" * small_part)
        rig.work()
    assert [type(refusal) for refusal in failures] == [TooLarge]
    incoming.abort()
    rig.work()
    assert rig.pending == []
    assert rig.bucket.visible() == {}


def test_too_long(rig: ManualS3Rig) -> None:
    """A length that no object can have is refused at once."""
    rig.begin(length=LARGEST_OBJECT)[0].abort()
    with pytest.raises(TooLarge):
        rig.begin(length=LARGEST_OBJECT + 1)


def test_more_than_announced(rig: ManualS3Rig, small_part: int) -> None:
    """A sender that sends more than it has announced is stored all the same."""
    incoming, _, _ = rig.begin(length=3)
    incoming.write(b"x" * (2 * small_part + 1))
    ends = rig.commit(incoming)
    rig.work()
    assert isinstance(ends[0], Receipt)
    assert [*rig.bucket.visible().values()] == [b"x" * (2 * small_part + 1)]


# -- back-pressure ------------------------------------------------------------


def test_paused(rig: ManualS3Rig) -> None:
    """A producer is paused while two parts are sent and half of a third is there; no longer."""
    incoming, _, producer = rig.begin()
    for sent in range(2):
        incoming.write(b"x" * PART)
        assert rig.requests.waiting == sent
    incoming.write(b"x" * (PART // 2 - 1))
    assert rig.requests.waiting == 2
    assert producer.told == []
    incoming.write(b"x")
    assert producer.told == ["pause"]
    rig.requests.work(1)
    assert producer.told == ["pause", "resume"]
    incoming.abort()


def test_more_while_paused(rig: ManualS3Rig, small_part: int) -> None:
    """What a paused producer writes all the same is stored too, in parts of the same size."""
    incoming, _, producer = rig.begin()
    content = bytes(range(256)) * (7 * small_part // 256)
    incoming.write(content)
    assert producer.told == ["pause"]
    ends = rig.commit(incoming)
    rig.work()
    assert isinstance(ends[0], Receipt)
    assert rig.operations.count("put_part") == 7
    assert [*rig.bucket.visible().values()] == [content]


def test_paused_by_the_disk(rig: ManualS3Rig, small_part: int) -> None:
    """A producer whose part is spilled is paused while the disk is slower."""
    rig.memory.most = 0
    incoming, _, producer = rig.begin()
    incoming.write(b"x" * 1000)
    assert producer.told == ["pause"]
    rig.disk.work(1)
    assert producer.told == ["pause", "resume"]
    incoming.abort()


# -- memory -------------------------------------------------------------------


def test_memory_of_each(rig: ManualS3Rig) -> None:
    """An upload holds two and a half parts at most, however slow the object store is."""
    incoming, _, producer = rig.begin()
    written = 0
    while not producer.paused:
        incoming.write(b"x" * PIECE)
        written += PIECE
    assert written <= 2.5 * PART + PIECE
    assert rig.memory.held <= 3 * PART  # with what is reserved
    incoming.abort()


def test_room_is_reserved(rig: ManualS3Rig) -> None:
    """Room for all of a part is reserved when it grows; what is not needed is given back."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * SMALL)
    assert rig.memory.held == SMALL
    incoming.write(b"x")
    assert rig.memory.held == PART
    rig.commit(incoming)
    assert rig.memory.held == SMALL + 1
    rig.work()
    assert rig.memory.held == 0


def test_room_for_an_announced_length(rig: ManualS3Rig) -> None:
    """No more room is reserved than the sender has announced."""
    incoming, _, _ = rig.begin(length=SMALL + 10)
    incoming.write(b"x" * (SMALL + 1))
    assert rig.memory.held == SMALL + 10
    incoming.abort()


def test_memory_of_all(tmp_path: Path, small_part: int) -> None:
    """
    A hundred slow uploads of several parts stay within the memory for all, and each of them
    ends: none waits for another.
    """
    memory = MemoryBudget(10 * small_part)
    rig = ManualS3Rig(tmp_path / "inbox", memory=memory)
    uploads = [rig.begin()[0] for _ in range(100)]
    piece, content = small_part // 16, b""
    for number in range(40):
        data = bytes([number]) * piece
        content += data
        for incoming in uploads:
            incoming.write(data)
            assert memory.held <= memory.most + piece
            rig.disk.work()
        if number % 10 == 9:
            rig.work()
    ends = [end for incoming in uploads for end in [rig.commit(incoming)]]
    rig.work()
    assert all(isinstance(end[0], Receipt) for end in ends)
    assert [*rig.bucket.visible().values()] == [content] * 100
    rig.close()


def test_small_ones_keep_their_room(tmp_path: Path, small_part: int) -> None:
    """Large uploads that reserve room leave enough for small ones to stay in memory."""
    memory = MemoryBudget(8 * small_part)
    rig = ManualS3Rig(tmp_path / "inbox", memory=memory)
    large = [rig.begin()[0] for _ in range(20)]
    for incoming in large:
        incoming.write(b"x" * (small_part // 2))
    rig.disk.work()
    assert memory.held <= memory.most * RESERVABLE
    before = len(rig.operations)
    rig.store_upload(b"small")
    assert rig.operations[before:] == ["put"]
    for incoming in large:
        incoming.abort()
    rig.close()


def test_many_short_pieces(rig: ManualS3Rig) -> None:
    """Short pieces are joined: they take no more memory than their bytes."""
    incoming, _, _ = rig.begin()
    for number in range(1000):
        incoming.write(b"%d," % number)
    rig.commit(incoming)
    rig.work()
    expected = b"".join(b"%d," % number for number in range(1000))
    assert [*rig.bucket.visible().values()] == [expected]


# -- the disk of the node -----------------------------------------------------


def test_spilled(tmp_path: Path) -> None:
    """Without memory, parts are files of this node until they have been sent."""
    rig = ManualS3Rig(tmp_path / "inbox", memory=MemoryBudget(0))
    content = bytes(range(256)) * 4 * 6 * 1024  # 6 MiB
    incoming, _, _ = rig.begin()
    for start in range(0, len(content), PIECE):
        incoming.write(content[start : start + PIECE])
        rig.disk.work()
    assert len(rig.spilled) == 2
    assert rig.memory.held == 0
    ends = rig.commit(incoming)
    rig.work()
    assert isinstance(ends[0], Receipt)
    assert rig.spilled == []
    assert rig.bucket.visible() == {ends[0].name: content}
    assert ends[0].sha256 == hashlib.sha256(content).hexdigest()
    rig.close()


def test_large_parts_are_spilled(rig: ManualS3Rig) -> None:
    """Parts that are larger than 5 MiB, of an upload of a known length, are not in memory."""
    incoming, _, producer = rig.begin(length=100 * 1024**3)
    for _ in range(64):
        incoming.write(b"x" * PIECE)
        rig.disk.work()
    assert rig.memory.held <= 2 * 1024 * 1024
    assert len(rig.spilled) == 1
    assert not producer.paused
    incoming.abort()


def test_reserve(tmp_path: Path) -> None:
    """A spilled part that would use space of the reserve is refused, and its file is removed."""

    rig = ManualS3Rig(tmp_path / "inbox", memory=MemoryBudget(0), reserve=Reserve(size=1000))
    rig.files.free = lambda _: Space(1010, 100_000)  # type: ignore[method-assign, assignment]
    incoming, failures, _ = rig.begin()
    incoming.write(b"x" * 2000)
    rig.work()
    assert [type(refusal) for refusal in failures] == [NoSpace]
    incoming.abort()
    assert rig.store.health.well
    rig.close()


# -- any order ----------------------------------------------------------------


@settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pieces=st.lists(st.integers(0, 9000), max_size=30),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40),
    most=st.sampled_from([0, 3000, 10_000, 10**9]),
    known=st.booleans(),
)
def test_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[int],
    steps: list[tuple[bool, int]],
    most: int,
    known: bool,
) -> None:
    """However bytes arrive, and whichever of disk and network is slower, all are stored."""
    with pytest.MonkeyPatch.context() as patch:
        make_parts_small(patch, 4)
        rig = ManualS3Rig(tmp_path_factory.mktemp("any") / "inbox", memory=MemoryBudget(most))
        content = [bytes([number]) * size for number, size in enumerate(pieces)]
        incoming, _, producer = rig.begin(length=sum(pieces) if known else None)
        doing = iter(steps)
        for data in content:
            incoming.write(data)
            network, jobs = next(doing, (True, 0))
            (rig.requests if network else rig.disk).work(jobs)
        ends = rig.commit(incoming)
        rig.work()
        assert isinstance(ends[0], Receipt)
        assert rig.bucket.visible() == {ends[0].name: b"".join(content)}
        assert ends[0].sha256 == hashlib.sha256(b"".join(content)).hexdigest()
        assert producer.told == [["pause", "resume"][n % 2] for n in range(len(producer.told))]
        rig.close()
