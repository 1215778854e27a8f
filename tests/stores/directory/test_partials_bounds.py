"""
Bounds on partial uploads: number, size, time, and the reserve.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.partials import ManualRig
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import Busy, NoSpace, NotFound, TooLarge
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload
from twisted_upload.stores.directory import resumable_file
from twisted_upload.stores.directory.partial_index import PartialLimits
from twisted_upload.stores.directory.partial_keeper import SCAN_EVERY

MIB = 1024 * 1024


class SizedFiles(FaultyFiles):
    """
    A file system of a given size.

    :ivar room: bytes that all files may take.
    """

    room = 100 * MIB

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path()

    def free(self, directory: int) -> Space:
        used = sum(
            path.stat().st_size for path in self.folder.rglob("*") if path.suffix != ".record"
        )
        return Space(self.room - used, self.room, 1000, 1000)


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Any]:
    opened: list[ManualRig] = []

    def rig(**more: Any) -> ManualRig:
        files = SizedFiles()
        files.folder = tmp_path / "inbox"
        opened.append(ManualRig(tmp_path / "inbox", files=files, **more))
        return opened[-1]

    yield rig
    for one in opened:
        one.close()


def limited(**limits: Any) -> dict[str, Any]:
    return {"limits": PartialLimits(**limits)}


def terms(length: int | None = None, **more: Any) -> PartialTerms:
    return PartialTerms(Arrival("x", length=length), **more)


def test_number(rigs: Any) -> None:
    """There are at most so many unfinished uploads; one that ends makes room."""
    rig = rigs(**limited(most=2))
    first = rig.create(5)
    rig.create(5)
    assert isinstance(rig.do(rig.store.create(terms())), Busy)
    assert rig.write(first, b"hello").receipt is not None
    second = rig.create(5)
    assert isinstance(rig.do(rig.store.create(terms())), Busy)
    rig.do(rig.store.remove(second))
    rig.create(5)


def test_number_of_a_group(rigs: Any) -> None:
    """Each address group has at most so many; one without a group is not counted by group."""
    rig = rigs(**limited(most_per_group=1))
    rig.create(5, group="a")
    assert isinstance(rig.do(rig.store.create(terms(group="a"))), Busy)
    rig.create(5, group="b")
    for _ in range(3):
        rig.create(5)


def test_failed_creation_counts_for_nothing(rigs: Any) -> None:
    """An upload that could not be created takes no place."""
    rig = rigs(**limited(most=1))
    rig.files.fail("write_at", 28)
    assert isinstance(rig.do(rig.store.create(terms())), NoSpace)
    rig.files.heal()
    rig.create(5)


def test_stored_ones_are_forgotten(rigs: Any) -> None:
    """At most as many stored uploads are remembered: the oldest are forgotten."""
    rig = rigs(**limited(most=2))
    stored = []
    for _ in range(4):
        stored.append(rig.create(1))
        assert rig.write(stored[-1], b"x").receipt is not None
    assert [isinstance(rig.find(one), NotFound) for one in stored] == [True, True, False, False]
    assert len(rig.files_left) == 2


def test_stored_first_is_forgotten_first(rigs: Any) -> None:
    """After a restart too, and however often it is asked for."""
    rig = rigs(**limited(most=3))
    stored = []
    for number in range(3):
        stored.append(rig.create(1))
        rig.write(stored[-1], b"x")
        record = rig.folder / ".incoming/partial" / (_key(stored[-1]) + ".record")
        os.utime(record, (number, number))
    rig.close()
    again = rigs(**limited(most=3))
    again.store.start()
    again.disk.work()
    assert again.find(stored[0]).receipt is not None
    for _ in range(2):
        stored.append(again.create(1))
        again.write(stored[-1], b"x")
    found = [isinstance(again.find(one), NotFound) for one in stored]
    assert found == [True, True, False, False, False]


def test_bytes(rigs: Any) -> None:
    """Unfinished uploads take at most so many bytes, and those of a group too."""
    rig = rigs(**limited(most_bytes=1000, most_bytes_per_group=600))
    assert isinstance(rig.do(rig.store.create(terms(1001))), NoSpace)
    first, second = rig.create(None, group="a"), rig.create(None, group="b")
    assert isinstance(rig.write(first, b"x" * 601), NoSpace)
    assert rig.find(first).offset == 0
    assert rig.write(first, b"x" * 600).offset == 600
    assert isinstance(rig.write(second, b"x" * 401), NoSpace)
    assert rig.write(second, b"x" * 400).offset == 400
    assert isinstance(rig.write(second, b"x"), NoSpace)
    assert rig.do(rig.store.set_length(first, 600)).receipt is not None
    assert rig.write(second, b"x" * 200).offset == 600


def test_bytes_of_several_writers(rigs: Any) -> None:
    """The bounds hold for all that are written at the same time, before anything is committed."""
    rig = rigs(**limited(most_bytes=1000, most_bytes_per_group=600))
    groups = ["a", "a", "b", None]
    writing = [rig.begin(rig.create(None, group=group)) for group in groups]
    for _ in range(2):
        for one in writing:
            one.append.write(b"x" * 200)
    refused = [bool(one.failures) for one in writing]
    assert refused == [False, True, True, True]
    for one in writing:
        rig.do(one.append.abort() if one.failures else one.append.commit())
    assert rig.store.partials.index.size == 400
    assert rig.store.partials.index.left(None) == 600
    again = rig.begin(rig.create(None))
    again.append.write(b"x" * 200)
    assert rig.store.partials.index.left(None) == 400
    rig.do(again.append.abort())
    assert rig.store.partials.index.left(None) == 600


def test_bytes_of_a_writer_that_is_scanned(rigs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a writer has committed in between, and a scan has found, is counted once."""
    monkeypatch.setattr(resumable_file, "COMMIT_AFTER", 100_000)
    rig = rigs(**limited(most_bytes=1_000_000))
    writing = rig.begin(rig.create(None))
    for size in 300_000, 300_000, 50_000:
        writing.append.write(b"x" * size)
        rig.disk.work()
        rig.do(rig.store._keeper.scan())
    assert rig.store.partials.index.size == 600_000
    assert rig.store.partials.index.left(None) == 350_000
    rig.do(writing.append.commit())
    assert rig.store.partials.index.left(None) == 350_000


def test_writers(rigs: Any) -> None:
    """At most so many uploads are written at the same time."""
    rig = rigs(**limited(most_writers=1))
    first, second = rig.create(5), rig.create(5)
    writing = rig.begin(first)
    assert isinstance(rig.write(second, b"x"), Busy)
    rig.do(writing.append.commit())
    assert rig.write(second, b"x").offset == 1


def test_does_not_fit(rigs: Any) -> None:
    """An upload whose length does not fit above the reserve is refused when it is created."""
    rig = rigs(reserve=Reserve(10 * MIB))
    assert isinstance(rig.do(rig.store.create(terms(91 * MIB))), NoSpace)
    assert rig.files_left == []
    identity = rig.create(None)
    assert isinstance(rig.do(rig.store.set_length(identity, 91 * MIB)), NoSpace)
    assert rig.find(identity).length is None
    rig.create(80 * MIB)


def test_expired(rigs: Any) -> None:
    """What has expired is removed by itself, what is being written is not."""
    rig = rigs()
    rig.store.start()
    rig.disk.work()
    expired = [rig.create(5, expires=rig.now() + 30) for _ in range(3)]
    written = rig.begin(rig.create(5, expires=rig.now() + 30))
    stays = rig.create(5, expires=rig.now() + 3000)
    rig.write(expired[0], b"hel")
    rig.clock.advance(SCAN_EVERY)
    rig.disk.work()
    assert len(rig.files_left) == 4
    written.append.write(b"hello")
    assert rig.do(written.append.commit()).receipt is not None
    assert rig.find(stays).offset == 0
    assert rig.store.partials.index.count == 1


def test_start_finds_all(rigs: Any) -> None:
    """A start counts the uploads of the daemon before, and removes those that have expired."""
    rig = rigs()
    stays = rig.create(5, group="a")
    rig.write(stays, b"hel")
    rig.create(5, expires=rig.now())
    rig.close()
    again = rigs(**limited(most_per_group=1))
    again.store.start()
    again.disk.work()
    assert isinstance(again.do(again.store.create(terms(group="a"))), Busy)
    again.clock.advance(SCAN_EVERY)
    again.disk.work()
    assert (again.store.partials.index.count, again.store.partials.index.size) == (1, 3)
    assert len(again.files_left) == 2


def test_neighbour(rigs: Any) -> None:
    """Uploads of another process on the same folder are counted at the next scan."""
    rig, other = rigs(), rigs()
    rig.store.start()
    rig.disk.work()
    identity = other.create(5)
    other.write(identity, b"hel")
    rig.clock.advance(SCAN_EVERY)
    rig.disk.work()
    assert (rig.store.partials.index.count, rig.store.partials.index.size) == (1, 3)
    other.write(identity, b"lo")
    rig.clock.advance(SCAN_EVERY)
    rig.disk.work()
    assert (rig.store.partials.index.count, rig.store.partials.index.size) == (0, 0)


def test_data_without_record(rigs: Any) -> None:
    """Data whose record has been removed is removed by the next scan."""
    rig = rigs()
    rig.create(5)
    (record,) = [name for name in rig.files_left if name.endswith(".record")]
    (rig.folder / ".incoming/partial" / record).unlink()
    rig.store.start()
    rig.disk.work()
    assert rig.files_left == []


def make_idle(rig: ManualRig) -> None:
    """Make all uploads idle for a long time."""
    for path in (rig.folder / ".incoming/partial").glob("*.record"):
        os.utime(path, (1000, 1000))


def _fill(rig: ManualRig, size: int) -> None:
    (rig.folder / "other").write_bytes(b"")
    os.truncate(rig.folder / "other", size)
    rig.clock.advance(2)
    rig.store.refusal()
    rig.disk.work()


def test_gives_way(rigs: Any) -> None:
    """Below the reserve, idle uploads are removed, the longest idle first; none in use."""
    rig = rigs(reserve=Reserve(10 * MIB))
    rig.store.start()
    rig.disk.work()
    names = "old", "newer", "newest", "written"
    ids = {name: rig.create(None) for name in names}
    for name in names:
        rig.write(ids[name], *[b"x" * MIB] * 4)
    for number, name in enumerate(names):
        record = next(it for it in rig.files_left if it.startswith(_key(ids[name])))
        for suffix in ".record", ".data":
            path = rig.folder / ".incoming/partial" / (record.partition(".")[0] + suffix)
            os.utime(path, (number + 1000, number + 1000))
    writing = rig.begin(ids["written"])
    os.utime(rig.folder / ".incoming/partial" / (_key(ids["written"]) + ".record"), (1, 1))
    _fill(rig, 79 * MIB)  # 5 MiB below the reserve
    assert rig.store.refusal() is None
    assert isinstance(rig.find(ids["old"]), NotFound)
    assert isinstance(rig.find(ids["newer"]), NotFound)
    assert rig.find(ids["newest"]).offset == 4 * MIB
    assert rig.do(writing.append.commit()).offset == 4 * MIB


def test_nothing_to_give(rigs: Any) -> None:
    """If what is idle is not enough, uploads are refused, until there is space again."""
    rig = rigs(reserve=Reserve(10 * MIB))
    rig.store.start()
    rig.disk.work()
    identity = rig.create(None)
    rig.write(identity, b"x" * MIB)
    make_idle(rig)
    _fill(rig, 95 * MIB)
    assert isinstance(rig.store.refusal(), NoSpace)
    assert isinstance(rig.find(identity), NotFound)
    assert isinstance(rig.do(rig.store.create(terms())), NoSpace)
    _fill(rig, 0)
    assert rig.store.refusal() is None
    rig.create(5)


def test_ordinary_upload_goes_first(rigs: Any) -> None:
    """An ordinary upload that reaches the reserve is stored at the expense of an idle one."""
    rig = rigs(reserve=Reserve(10 * MIB))
    identity = rig.create(None)
    rig.write(identity, *[b"x" * MIB] * 30)
    make_idle(rig)
    incoming = rig.store.begin(Arrival("y"), lambda refusal: pytest.fail(str(refusal)))
    for _ in range(70):
        incoming.write(b"y" * MIB)
        rig.disk.work()
    assert rig.do(incoming.commit()).size == 70 * MIB
    assert isinstance(rig.find(identity), NotFound)


def test_no_upload_grows_at_the_expense_of_another(rigs: Any) -> None:
    """A partial upload that reaches the reserve is refused, and displaces no other."""
    rig = rigs(reserve=Reserve(10 * MIB))
    idle, growing = rig.create(None), rig.create(80 * MIB)
    rig.write(idle, *[b"x" * MIB] * 30)
    make_idle(rig)
    assert isinstance(rig.write(growing, *[b"y" * MIB] * 80), NoSpace)
    assert rig.find(idle).offset == 30 * MIB


def test_active_ones_are_spared(rigs: Any) -> None:
    """One that was active within the last hour does not give way, even below the reserve."""
    rig = rigs(reserve=Reserve(10 * MIB), now_is_real=True)
    rig.store.start()
    rig.disk.work()
    identity = rig.create(None)
    rig.write(identity, *[b"x" * MIB] * 4)
    _fill(rig, 95 * MIB)
    assert isinstance(rig.store.refusal(), NoSpace)
    assert rig.find(identity).offset == 4 * MIB
    rig.clock.advance(3600)
    rig.store.refusal()
    rig.disk.work()
    assert isinstance(rig.find(identity), NotFound)


def _key(identity: str) -> str:
    from twisted_upload.stores.directory.partial_folder import key_of  # noqa: PLC0415

    return key_of(identity)


def test_ids_are_secret(rigs: Any) -> None:
    """No file of an upload gives its id away."""
    rig = rigs()
    identity = rig.create(5)
    rig.write(identity, b"hel")
    folder = rig.folder / ".incoming/partial"
    assert (folder.stat().st_mode & 0o777) == 0o700
    for path in folder.iterdir():
        assert identity not in path.name
        assert identity.encode() not in path.read_bytes()


def test_too_large_tells_too_large(rigs: Any) -> None:
    """Too many bytes for the length are not a lack of space."""
    rig = rigs(**limited(most_bytes=100))
    identity = rig.create(5)
    assert isinstance(rig.write(identity, b"x" * 200), TooLarge)
    found = rig.find(identity)
    assert isinstance(found, PartialUpload)
