"""A store that limits the number of uploads of an owner."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import CancelledError, Deferred, execute, succeed
from twisted.internet.task import Clock

from twisted_upload.core.quota import Quota
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import NoSpace, NotAllowed, NotFound, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival, ISplicesSocket, PartialTerms
from twisted_upload.stores import limited, places
from twisted_upload.stores.limited import LimitedStore
from twisted_upload.stores.memory import MemoryStore
from twisted_upload.stores.places import Places
from twisted_upload.testing import RecordingProducer, ResumableStoreContract, StoreContract

T = TypeVar("T")

NOW = 1_795_328_130.0
ALICE = Quota("00112233445566778899aabb", 2, int(NOW) + 3600).owner
ARRIVAL = Arrival("192.0.2.7:50123", owner=ALICE)
TERMS = PartialTerms(Arrival("x"), ALICE, expires=NOW + 60)


class ImmediateDisk(ManualDisk):
    """Runs each job at once."""

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        return execute(job)


class Rig:
    """A memory store with a limit."""

    def __init__(
        self, folder: Path, files: Files | None = None, disk: ManualDisk | None = None
    ) -> None:
        self.clock = Clock()
        self.inner = MemoryStore(self.now, clock=self.clock)
        self.places = Places(str(folder), files or Files(), disk or ImmediateDisk(), self.now)
        self.store: Any = LimitedStore(self.inner, self.places)
        self.failures: list[UploadRefused] = []

    def begin(self, content: bytes = b"x") -> Any:
        incoming = self.store.begin(ARRIVAL, self.failures.append)
        incoming.write(content)
        return incoming

    async def left(self) -> int | None:
        return await self.places.left(ALICE)

    async def create(self, length: int | None = 3, **more: Any) -> str:
        terms = PartialTerms(Arrival("x", length=length), ALICE, expires=self.now() + 60, **more)
        return (await self.store.create(terms)).identity  # type: ignore[no-any-return]

    async def append(self, identity: str, content: bytes, **more: Any) -> Any:
        writer = await self.store.append(identity, self.failures.append, lambda: None, **more)
        writer.write(content)
        return await writer.commit()

    # StoreUnderTest

    def now(self) -> float:
        return NOW + self.clock.seconds()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def stored(self) -> dict[str, bytes]:
        return self.inner.files

    def unfinished(self) -> int:
        return len(self.inner.unfinished)

    async def settle(self) -> None:
        pass


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every owner has a quota."""

    def quota_of(owner: str) -> Quota:
        return Quota(hashlib.sha256(owner.encode()).hexdigest()[:24], 1000, int(NOW) + 3600)

    for module in limited, places:
        monkeypatch.setattr(module, "quota_of", quota_of)


class TestContract(StoreContract):
    """Uploads of an owner without a quota are not affected."""

    @pytest.fixture
    def under_test(self, rig: Rig) -> Rig:
        return rig


class TestContractWithQuotas(StoreContract):
    """Uploads that are counted are stored like all others."""

    @pytest.fixture
    def under_test(self, rig: Rig, everybody: None) -> Rig:
        return rig


class TestResumableContract(ResumableStoreContract):
    """Partial uploads of an owner without a quota are not affected."""

    @pytest.fixture
    def under_test(self, rig: Rig) -> Rig:
        return rig


class TestResumableContractWithQuotas(ResumableStoreContract):
    """Partial uploads that are counted are stored like all others."""

    @pytest.fixture
    def under_test(self, rig: Rig, everybody: None) -> Rig:
        return rig


async def test_no_more_than_the_quota(rig: Rig) -> None:
    """Of many uploads at the same time, as many are stored as the quota allows."""
    uploads = [rig.begin() for _ in range(5)]
    assert [type(it) for it in rig.failures] == [NotAllowed] * 3
    for incoming in uploads[:2]:
        await incoming.commit()
    for incoming in uploads[2:]:
        incoming.abort()
    assert len(rig.stored()) == 2
    assert await rig.left() == 0
    assert rig.unfinished() == 0


async def test_two_processes(tmp_path: Path) -> None:
    """Two workers together store no more than the quota allows."""
    one, other = Rig(tmp_path), Rig(tmp_path)
    first, second = one.begin(), other.begin()
    third = one.begin()
    assert len(one.failures) == 1
    third.abort()
    for incoming in first, second:
        await incoming.commit()
    assert await other.left() == 0


async def test_dead_process(tmp_path: Path) -> None:
    """What a process was receiving when it died takes no place."""
    one, other = Rig(tmp_path), Rig(tmp_path)
    one.begin()
    await one.begin().commit()
    one.places.close()
    assert await other.left() == 1


async def test_aborted(rig: Rig) -> None:
    """An upload that is aborted gives its place back."""
    for _ in range(5):
        rig.begin().abort()
    assert await rig.left() == 2
    assert rig.failures == []


async def test_refused_by_the_store(rig: Rig) -> None:
    """One that the store refuses gives its place back, whenever that is."""
    rig.inner.refusing = NoSpace()
    with pytest.raises(NoSpace):
        rig.begin()
    rig.inner.refusing = None
    incoming = rig.begin()
    rig.inner.unfinished[0].fail(NoSpace())
    assert [type(it) for it in rig.failures] == [NoSpace]
    incoming.abort()
    rig.inner.failing = NoSpace()
    with pytest.raises(NoSpace):
        await rig.begin().commit()
    assert await rig.left() == 2


async def test_used_before_it_is_stored(tmp_path: Path) -> None:
    """The place is used durably before the store commits, and without that nothing is stored."""
    files = FaultyFiles()
    rig = Rig(tmp_path, files)
    syncs = files.calls["fsync"]
    rig.inner.holding = True
    incoming = rig.begin()
    committing = incoming.commit()
    assert files.calls["fsync"] > syncs
    assert await Rig(tmp_path).left() == 1
    rig.inner.release()
    await committing
    files.fail("fsync", 5)
    with pytest.raises(StoreFailed):
        await rig.begin().commit()
    assert len(rig.stored()) == 1
    assert await rig.left() == 1


async def test_slow_disk(tmp_path: Path) -> None:
    """An upload does not wait for its place until it ends."""
    disk = ManualDisk()
    rig = Rig(tmp_path, disk=disk)
    incoming = rig.begin(b"content")
    committing = incoming.commit()
    assert not rig.stored()
    disk.work()
    await committing
    assert [*rig.stored().values()] == [b"content"]


@pytest.mark.parametrize("jobs", [0, 1, 2])
async def test_cancelled(tmp_path: Path, jobs: int) -> None:
    """A commit that is abandoned stores nothing, and gives its place back."""
    disk = ManualDisk()
    rig = Rig(tmp_path, disk=disk)
    rig.inner.holding = True
    committing = rig.begin().commit()
    disk.work(jobs)
    committing.cancel()
    disk.work()
    rig.inner.release()
    with pytest.raises(CancelledError):
        await committing
    left = rig.places.left(ALICE)
    disk.work()
    assert await left == 2
    assert rig.stored() == {}
    assert rig.unfinished() == 0


async def test_failure_while_the_place_is_used(tmp_path: Path) -> None:
    """If the store fails just then, the commit fails, and the front end is not told twice."""
    disk = ManualDisk()
    rig = Rig(tmp_path, disk=disk)
    committing = rig.begin().commit()
    rig.inner.unfinished[0].fail(NoSpace())
    disk.work()
    with pytest.raises(NoSpace):
        await committing
    assert rig.failures == []
    assert rig.stored() == {}


async def test_producer(rig: Rig) -> None:
    """The producer is registered with the store, until the upload ends."""
    incoming = rig.begin()
    producer = RecordingProducer()
    incoming.registerProducer(producer, True)
    assert rig.inner.unfinished[0].producer is producer
    await incoming.commit()
    assert not ISplicesSocket.providedBy(incoming)


# Partial uploads


async def test_partial_uploads(rig: Rig) -> None:
    """A partial upload has its place from the beginning to the end, and only one."""
    one, other = await rig.create(), await rig.create()
    with pytest.raises(NotAllowed):
        await rig.create()
    for content in b"a", b"b", b"c":
        await rig.append(one, content)
        await rig.append(other, content)
    assert [*rig.stored().values()] == [b"abc"] * 2
    assert await rig.left() == 0
    with pytest.raises(NotAllowed):
        await rig.create()


async def test_removed(rig: Rig) -> None:
    """One that is removed gives its place back, unless it is stored."""
    one, other = await rig.create(), await rig.create()
    await rig.append(other, b"abc")
    for identity in one, other:
        await rig.store.remove(identity)
    assert await rig.left() == 1
    with pytest.raises(NotFound):
        await rig.store.remove("nonsense")


async def test_expired(rig: Rig) -> None:
    """One that expires gives its place back; each request may give it more time."""
    identity = await rig.create()
    rig.pass_time(50)
    await rig.append(identity, b"a", expires=rig.now() + 60)
    rig.pass_time(50)
    assert await rig.left() == 1
    rig.pass_time(15)
    assert await rig.left() == 2


async def test_written_for_long(rig: Rig) -> None:
    """One that is being written keeps its place for as long as it does not expire."""
    identity = await rig.create()
    expires = rig.now() + 60
    writer = await rig.store.append(identity, rig.failures.append, lambda: None, expires=expires)
    for _ in range(4):
        rig.pass_time(35)
        writer.write(b"")
        assert await rig.left() == 1
    rig.pass_time(20)
    writer.write(b"a")
    await writer.commit()
    rig.pass_time(58)
    assert await rig.left() == 1
    rig.pass_time(5)
    assert await rig.left() == 2


async def test_place_that_cannot_be_held_for_longer(tmp_path: Path) -> None:
    """The upload goes on, and is stored if there is a place for it at its end."""
    files = FaultyFiles()
    rig = Rig(tmp_path, files)
    identity = await rig.create()
    expires = rig.now() + 60
    writer = await rig.store.append(identity, rig.failures.append, lambda: None, expires=expires)
    rig.pass_time(35)
    before = files.calls["write_at"]
    files.fail("write_at", errno.EIO)
    writer.write(b"ab")
    assert files.calls["write_at"] == before + 1
    rig.pass_time(35)
    writer.write(b"c")
    assert (await writer.commit()).receipt is not None
    assert rig.failures == []
    rig.pass_time(100)
    assert await rig.left() == 1


async def test_continued_by_another_process(rig: Rig, tmp_path: Path) -> None:
    """The place of a partial upload outlives the process; a lost one is taken again."""
    identity = await rig.create()
    rig.places.close()
    for path in (tmp_path / places.FOLDER).iterdir():
        path.unlink()
    assert await rig.left() == 2
    await rig.append(identity, b"abc")
    assert await rig.left() == 1


async def test_lost_place(rig: Rig) -> None:
    """If none is left for it, it is not stored, and nothing of it is lost."""
    identity = await rig.create()
    await rig.append(identity, b"a")
    rig.pass_time(30)
    for path in (Path(rig.places._above) / places.FOLDER).iterdir():
        path.unlink()
    for _ in range(2):
        await rig.begin().commit()
    with pytest.raises(NotAllowed):
        await rig.append(identity, b"bc")
    assert (await rig.store.find(identity)).offset == 1
    assert len(rig.stored()) == 2


async def test_failed_completion(rig: Rig) -> None:
    """If it cannot be stored, it keeps its place until it expires."""
    identity = await rig.create()
    rig.inner.failing = NoSpace()
    with pytest.raises(NoSpace):
        await rig.append(identity, b"abc")
    assert await rig.left() == 1
    rig.pass_time(62)
    assert await rig.left() == 2


async def test_length_comes_later(rig: Rig) -> None:
    """An upload whose length completes it is counted too."""
    identity = await rig.create(None)
    await rig.append(identity, b"abc")
    assert rig.stored() == {}
    await rig.store.set_length(identity, 3)
    assert len(rig.stored()) == 1
    await rig.store.remove(identity)
    assert await rig.left() == 1


async def test_empty(rig: Rig) -> None:
    """An empty upload is stored at once, and counted."""
    await rig.create(0)
    await rig.create(0)
    with pytest.raises(NotAllowed):
        await rig.create(0)
    assert len(rig.stored()) == 2


async def test_concatenated(rig: Rig) -> None:
    """Parts take no place; what they become does."""
    parts = [await rig.create(3, is_part=True) for _ in range(3)]
    for identity in parts:
        await rig.append(identity, b"abc")
    assert await rig.left() == 2
    with pytest.raises(NotFound):
        await rig.store.concatenate(TERMS, ["nonsense"])
    assert await rig.left() == 2
    for _ in range(2):
        await rig.store.concatenate(TERMS, parts)
    with pytest.raises(NotAllowed):
        await rig.store.concatenate(TERMS, parts)
    assert [*rig.stored().values()] == [b"abcabcabc"] * 2


async def test_repeated(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has one place, however often it is asked for: with HEAD, or made again."""
    final = await rig.store.concatenate(TERMS, [await rig.create(0, is_part=True)])
    monkeypatch.setattr(rig.inner, "concatenate", lambda *_: succeed(final))
    for _ in range(2):
        assert (await rig.store.concatenate(TERMS, [])).receipt is not None
        assert (await rig.store.find(final.identity)).receipt is not None
    assert await rig.left() == 1
    assert (await rig.store.find(await rig.create(0))).receipt is not None
    assert (await rig.store.find(final.identity)).receipt is not None


async def test_ids_are_not_in_files(rig: Rig, tmp_path: Path) -> None:
    """The id of a partial upload is a secret: it is not in the file."""
    identity = await rig.create()
    (name,) = os.listdir(tmp_path / places.FOLDER)
    assert identity.encode() not in (tmp_path / places.FOLDER / name).read_bytes()
