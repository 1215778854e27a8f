"""
System calls that fail: the committed offset stays, nothing is stored twice, and everything
goes on when the disk works again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.partials import ManualRig
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import Busy, NoSpace, NotFound, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload
from twisted_upload.stores.directory.partial_record import STORED, PartialRecord, PartialState
from twisted_upload.stores.health import SELF_TEST_INTERVAL

CALLS = [call for call in vars(Files) if not call.startswith("_")]
ERRORS = [errno.EIO, errno.ENOSPC, errno.EMFILE]
FIRST, LAST = b"x" * 3000, b"y" * 2000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualRig]:
    rig = ManualRig(tmp_path / "inbox", files=FaultyFiles())
    yield rig
    rig.close()
    assert (rig.store.memory.held, rig.store.memory.given_up) == (0, 0)


def heal(rig: ManualRig) -> None:
    """Let the disk work again, and the store notice it."""
    rig.files.heal()
    if not rig.store.health.well:
        rig.clock.advance(SELF_TEST_INTERVAL)
        rig.disk.work()
    assert rig.store.health.well


def finish(rig: ManualRig, identity: str, least: int) -> None:
    """Continue after a failure; check what is stored in the end."""
    found = rig.find(identity)
    assert isinstance(found, PartialUpload), found
    assert found.offset >= least
    if found.receipt is None:
        assert rig.stored == {}
        found = rig.write(identity, (FIRST + LAST)[found.offset :])
    assert found.receipt is not None, found
    assert rig.stored == {found.receipt.name: FIRST + LAST}
    assert rig.find(identity).receipt == found.receipt
    assert rig.do(rig.store.remove(identity)) is None
    assert rig.files_left == []


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_each_call(rig: ManualRig, call: str, error: int) -> None:
    """Whichever call fails, and in whichever step, the upload can be continued."""
    rig.do(rig.store.remove(rig.create(1)))  # opens the folder
    for step in "create", "commit", "store":
        for after in range(4):
            identity = None
            if step == "create":
                rig.files.fail(call, error, after=after)
                created = rig.do(
                    rig.store.create(PartialTerms(Arrival("x", length=len(FIRST + LAST))))
                )
                heal(rig)
                if isinstance(created, UploadRefused):
                    assert isinstance(created, NoSpace | StoreFailed | Busy)
                    assert rig.files_left == [] or call == "unlink"
                    continue
                identity = created.identity
            else:
                identity = rig.create(len(FIRST + LAST))
                offset = 0
                if step == "store":
                    offset = rig.write(identity, FIRST).offset
                data = LAST if step == "store" else FIRST
                rig.files.fail(call, error, after=after)
                result = rig.write(identity, data)
                heal(rig)
                if isinstance(result, PartialUpload):
                    offset = result.offset
                else:
                    assert isinstance(result, NoSpace | StoreFailed | Busy), result
                finish(rig, identity, offset)
                for path in [*rig.stored]:
                    (rig.folder / path).unlink()
                continue
            rig.do(rig.store.remove(identity))


class HalfWritten(FaultyFiles):
    """
    :ivar halves: how many writes to records fail although what matters of them is written.
    """

    halves = 0

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        super().write_at(descriptor, data, offset)
        if self.halves:
            self.halves -= 1
            raise OSError(errno.ENOSPC, "cut short")


@pytest.mark.parametrize("halves", [1, 2])
@pytest.mark.parametrize("step", ["commit", "store"])
def test_record_is_written_and_fails(tmp_path: Path, step: str, halves: int) -> None:
    """A write to the record that fails, but has an effect, takes no committed byte away."""
    files = HalfWritten()
    rig = ManualRig(tmp_path / "inbox", files=files)
    identity = rig.create(len(FIRST + LAST))
    offset = rig.write(identity, FIRST[:1000]).offset
    rig.let_go()
    files.halves = halves
    rest = (FIRST + LAST)[1000:]
    result = rig.write(identity, rest if step == "store" else rest[:1000])
    assert isinstance(result, UploadRefused), result
    files.halves = 0
    heal(rig)
    rig.let_go()
    finish(rig, identity, offset)
    rig.close()


def _about_to_be_stored(rig: ManualRig) -> str:
    """Return an upload whose last bytes take three syncs: of its two files, then the folder."""
    other = rig.create(1)
    rig.write(other, b"x")  # so that the record of names is written
    rig.do(rig.store.remove(other))
    for name in rig.stored:
        (rig.folder / name).unlink()
    identity = rig.create(5)
    rig.write(identity, b"he")
    return identity


def test_folder_sync_fails(rig: ManualRig) -> None:
    """If the folder cannot be synced after publishing, the file is taken back."""
    identity = _about_to_be_stored(rig)
    rig.files.fail("fsync", errno.EIO, after=2)
    assert isinstance(rig.write(identity, b"llo"), StoreFailed)
    assert rig.stored == {}
    heal(rig)
    assert rig.find(identity).offset == 2
    assert rig.write(identity, b"llo").receipt is not None
    assert [*rig.stored.values()] == [b"hello"]


class _Steps(FaultyFiles):
    """
    :ivar steps: which folders were synced, and what was cut off, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def fsync(self, descriptor: int) -> None:
        self.steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        super().fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        self.steps.append("cut off")
        super().truncate(descriptor, size)


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_taken_back_durably(tmp_path: Path, failures: int) -> None:
    """
    What was taken back is not cut off before that is durable: a power cut could leave a
    visible file that is not whole.
    """
    rig = ManualRig(tmp_path / "inbox", files=_Steps())
    identity = _about_to_be_stored(rig)
    rig.files.fail("fsync", errno.EIO, after=2, times=failures)
    steps = rig.files.steps  # type: ignore[attr-defined]
    steps.clear()
    assert isinstance(rig.write(identity, b"llo"), StoreFailed)
    assert ("cut off" in steps) == (failures == 1)
    heal(rig)
    assert rig.find(identity).offset == 2
    assert steps[steps.index("cut off") - 2 :][:3] == ["partial", "inbox", "cut off"]
    assert rig.write(identity, b"llo").receipt is not None
    assert [*rig.stored.values()] == [b"hello"]
    rig.close()


def test_acknowledged_and_not_noted(rig: ManualRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An upload whose client was told that it is stored is not taken back, if that could not be
    noted in its record, and its folder cannot be synced any more.
    """
    write = PartialRecord.write

    def fail(record: PartialRecord, state: PartialState) -> None:
        if state.phase == STORED:
            raise OSError(errno.EROFS, "read-only")
        write(record, state)

    identity = _about_to_be_stored(rig)
    with monkeypatch.context() as patch:
        patch.setattr(PartialRecord, "write", fail)
        receipt = rig.write(identity, b"llo").receipt
        rig.let_go()
    rig.files.fail("fsync", errno.EROFS, times=9)
    assert rig.find(identity).receipt.name == receipt.name
    rig.files.heal()
    assert rig.stored == {receipt.name: b"hello"}


def test_new_one_cannot_be_stored(rig: ManualRig) -> None:
    """An empty upload that cannot be stored when it is created is removed: its id is unknown."""
    rig.do(rig.store.remove(rig.create(1)))  # opens the folder
    rig.files.fail("rename", errno.EIO)
    created = rig.do(rig.store.create(PartialTerms(Arrival("x", length=0))))
    assert isinstance(created, StoreFailed)
    assert (rig.stored, rig.files_left) == ({}, [])
    heal(rig)


def test_cannot_be_taken_back(rig: ManualRig) -> None:
    """If it cannot be taken back either, it is removed: it has not been acknowledged."""
    identity = _about_to_be_stored(rig)
    rig.files.fail("fsync", errno.EIO, after=2)
    rig.files.fail("rename", errno.EIO, after=1)
    assert isinstance(rig.write(identity, b"llo"), StoreFailed)
    heal(rig)
    assert rig.stored == {}
    assert isinstance(rig.find(identity), NotFound)


def test_data_is_lost(rig: ManualRig, caplog: pytest.LogCaptureFixture) -> None:
    """An upload of which the disk has lost committed bytes is removed."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    rig.let_go()
    (data,) = [name for name in rig.files_left if name.endswith(".data")]
    (rig.folder / ".incoming/partial" / data).write_bytes(b"he")
    assert isinstance(rig.find(identity), NotFound)
    assert rig.files_left == []


def test_data_is_missing(rig: ManualRig) -> None:
    """So is one whose data has gone without having been published."""
    identity = rig.create(5)
    rig.write(identity, b"hel")
    rig.let_go()
    (data,) = [name for name in rig.files_left if name.endswith(".data")]
    (rig.folder / ".incoming/partial" / data).unlink()
    assert isinstance(rig.write(identity, b"lo"), NotFound)
    assert rig.files_left == []


def test_fails_in_the_middle(rig: ManualRig) -> None:
    """A writer is told at once when the disk is full; the committed bytes stay."""
    identity = rig.create(None)
    rig.write(identity, b"x" * 1000)
    writing = rig.begin(identity)
    rig.files.fail("writev", errno.ENOSPC, after=1)
    for _ in range(8):
        writing.append.write(b"x" * 100_000)
        rig.disk.work()
    assert [type(failure) for failure in writing.failures] == [NoSpace]
    (data,) = (rig.folder / ".incoming/partial").glob("*.data")
    assert data.stat().st_size == 1000  # its space is free at once
    rig.files.heal()
    assert rig.do(writing.append.abort()).offset == 1000
    assert rig.write(identity, b"y").offset == 1001
    assert data.read_bytes() == b"x" * 1000 + b"y"


def test_unhealthy(rig: ManualRig) -> None:
    """While the disk cannot be trusted, nothing is created or written, but found."""
    identity = rig.create(5)
    rig.files.fail("datasync", errno.EIO)
    assert isinstance(rig.write(identity, b"he"), StoreFailed)
    assert isinstance(rig.do(rig.store.create(PartialTerms(Arrival("x")))), StoreFailed)
    assert isinstance(rig.write(identity, b"he"), StoreFailed)
    assert rig.find(identity).offset == 0
    heal(rig)
    finish_with = rig.write(identity, b"hello")
    assert finish_with.receipt is not None


@pytest.mark.parametrize("times", [1, 2])
def test_record_cannot_be_synced(rig: ManualRig, times: int) -> None:
    """As long as the record on disk may tell a new offset, its bytes are not cut off."""
    identity = rig.create(20)
    rig.write(identity, b"hello")
    rig.files.fail("datasync", errno.EIO, after=1, times=times)
    assert isinstance(rig.write(identity, b"world"), StoreFailed)
    (data,) = (rig.folder / ".incoming/partial").glob("*.data")
    assert data.stat().st_size == (10 if times == 2 else 5)
    heal(rig)
    assert rig.find(identity).offset == 5
    assert data.read_bytes() == b"hello"


class StallingFiles(FaultyFiles):
    """
    System calls that may take long.

    :ivar pauses: called before each sync.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[Callable[[], object]] = []

    def _before(self, call: str) -> int | None:
        if call in {"fsync", "datasync"} and self.pauses:
            self.pauses.pop(0)()
        return super()._before(call)


@pytest.mark.parametrize(
    ("what", "sync"), [*(("created", it) for it in range(3)), ("written", 0), ("written", 1)]
)
def test_stalled_for_longer_than_an_upload_lasts(tmp_path: Path, what: str, sync: int) -> None:
    """What has just been written has not expired, even if the disk has taken long."""
    files = StallingFiles()
    rig = ManualRig(tmp_path / "inbox", files=files)

    def stall() -> None:
        rig.began += 500

    def stall_once() -> None:
        files.pauses[:] = [lambda: None] * sync + [stall]

    rig.create(5)  # the folder is there from now on
    if what == "created":
        stall_once()
        identity = rig.create(5, expires=rig.now() + 60)
    else:
        identity = rig.create(5, expires=rig.now() + 600)
        writing = rig.begin(identity, expires=rig.now() + 60)
        writing.append.write(b"hel")
        stall_once()
        rig.do(writing.append.commit())
    assert not files.pauses
    rig.began += 55
    assert rig.find(identity).offset == (3 if what == "written" else 0)
    rig.let_go()
    rig.began += 10
    assert isinstance(rig.find(identity), NotFound)
    rig.close()


def test_foreign_folder(tmp_path: Path) -> None:
    """A folder of partial uploads that is a file refuses them, and nothing else."""
    rig = ManualRig(tmp_path / "inbox", files=FaultyFiles())
    (tmp_path / "inbox/.incoming/partial").write_text("")
    result = rig.do(rig.store.create(PartialTerms(Arrival("x"))))
    assert isinstance(result, StoreFailed)
    rig.close()
