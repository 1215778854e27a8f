"""
Multipart uploads that nobody will complete are removed, and no others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from twisted_upload.core.names import file_name
from twisted_upload.disk.files import Files
from twisted_upload.stores.s3.bucket import MARK, About, IBucket, PendingUpload
from twisted_upload.stores.s3.errors import Denied, Rejected, Unreachable
from twisted_upload.stores.s3.leases import LEASES, PERIOD
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.stores.s3.pending import ALIVE_AFTER, EXPIRY, PendingUploads
from twisted_upload.testing import MemoryBucket

ABOUT = About("text/plain", {MARK: "0" * 32})


def name_of(node: str, number: int = 0) -> str:
    return file_name(1795328130123, 0, ".jpg", node=node, token=f"{number:016x}")


class Fleet:
    """Processes that use one bucket; each node has a folder."""

    def __init__(self, folder: Path) -> None:
        self.seconds = 1_795_328_000.0
        self.memory = MemoryBucket(now=self.now)
        self._folder = folder
        self._processes: list[PendingUploads] = []

    def now(self) -> float:
        return self.seconds

    def process(self, node: str, name: str = "") -> PendingUploads:
        """Start a process of a node."""
        path = self.folder(node)
        path.mkdir(exist_ok=True)
        folder = os.open(path, os.O_RDONLY)
        try:
            bucket = self.memory
            if name:
                bucket = MemoryBucket(name, self.now)
            process = PendingUploads(bucket, folder, Files(), node, self.now)
        finally:
            os.close(folder)
        self._processes.append(process)
        return process

    def folder(self, node: str) -> Path:
        return self._folder / node

    def kill(self, process: PendingUploads) -> None:
        """End a process as if it had been killed: its lock is free, and its files stay."""
        notes = process._notes
        for descriptor in (notes._folder, notes._lock, notes._file):
            os.close(descriptor)
        notes._closed = True

    def pending(self) -> set[str]:
        return {it.identity for it in self.memory.pending()}

    def notes(self, node: str) -> list[str]:
        return sorted(os.listdir(self.folder(node) / PENDING))

    def close(self) -> None:
        for process in self._processes:
            process.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def begin(process: PendingUploads, node: str = "one", number: int = 0) -> str:
    return process.bucket.begin(name_of(node, number), ABOUT)


# -- what is noted ----------------------------------------------------------------


def test_count(fleet: Fleet) -> None:
    """An upload is pending from its beginning until it is completed or aborted."""
    one = fleet.process("one")
    first, second = begin(one), begin(one, number=1)
    assert one.count() == 2
    etag = one.bucket.put_part(name_of("one"), first, 1, b"x", 1)
    one.bucket.complete(name_of("one"), first, [etag], 1, ABOUT)
    assert one.count() == 1
    one.bucket.abort(name_of("one", 1), second)
    assert one.count() == 0
    assert fleet.memory.visible() == {name_of("one"): b"x"}


def test_all_else_is_passed_on(fleet: Fleet) -> None:
    """All other operations are those of the bucket."""
    one = fleet.process("one")
    one.bucket.put("1-one-a", [b"x"], ABOUT)
    one.bucket.tag("1-one-a", {"sha256": "1"})
    assert fleet.memory.tags("1-one-a") == {"sha256": "1"}
    assert one.bucket.head("1-one-a") == (1, ABOUT.details)
    one.bucket.test()
    identity = begin(one)
    assert [*one.bucket.pending()] == [PendingUpload(name_of("one"), identity, fleet.seconds)]
    one.bucket.remove("1-one-a")
    assert fleet.memory.visible() == {}
    assert one.bucket.name == fleet.memory.name


def test_nothing_remains(fleet: Fleet) -> None:
    """A process that has nothing pending leaves no file."""
    one = fleet.process("one")
    one.bucket.abort(name_of("one"), begin(one))
    one.close()
    assert fleet.notes("one") == []


def test_many(fleet: Fleet) -> None:
    """The notes do not grow with the number of uploads that have ended."""
    one = fleet.process("one")
    lasting = begin(one)
    for number in range(2500):
        one.bucket.abort(name_of("one", number), begin(one, number=number))
    (notes,) = (it for it in fleet.notes("one") if it.startswith("notes-"))
    assert (fleet.folder("one") / PENDING / notes).stat().st_size < 250_000
    fleet.kill(one)
    two = fleet.process("one")
    assert fleet.pending() == {lasting}
    two.clean()
    assert fleet.pending() == set()


# -- aborts that fail -------------------------------------------------------------


def test_abort_is_tried_again(fleet: Fleet) -> None:
    """What could not be aborted is aborted later, by the same process."""
    one = fleet.process("one")
    identity = begin(one)
    fleet.memory.fail("abort", Unreachable("away"), 2)
    with pytest.raises(Unreachable):
        one.bucket.abort(name_of("one"), identity)
    with pytest.raises(Unreachable):
        one.clean()
    assert one.count() == 1
    one.clean()
    assert (one.count(), fleet.pending()) == (0, set())


def test_abort_is_tried_by_the_next(fleet: Fleet) -> None:
    """What could not be aborted until the process stopped is aborted by the next one."""
    one = fleet.process("one")
    fleet.memory.fail("abort", Unreachable("away"))
    with pytest.raises(Unreachable):
        one.bucket.abort(name_of("one"), begin(one))
    one.close()
    fleet.process("one").clean()
    assert fleet.pending() == set()


def test_answer_to_begin_is_lost(fleet: Fleet) -> None:
    """What was begun, although its id was not told, is aborted later; the others stay."""
    one = fleet.process("one")
    other = begin(one, number=1)
    fleet.memory.fail("begin", Unreachable("lost"), late=True)
    with pytest.raises(Unreachable):
        begin(one)
    assert len(fleet.pending()) == 2
    fleet.memory.fail("pending", Unreachable("away"))
    with pytest.raises(Unreachable):
        one.clean()
    one.clean()
    assert (one.count(), fleet.pending()) == (1, {other})
    one.bucket.abort(name_of("one", 1), other)


def test_never_begun(fleet: Fleet) -> None:
    """Nobody looks for what the object store has refused to begin."""
    one = fleet.process("one")
    fleet.memory.fail("begin", Rejected("no"))
    with pytest.raises(Rejected):
        begin(one)
    one.clean()
    assert "pending" not in [operation for operation, _ in fleet.memory.calls]
    one.close()
    assert fleet.notes("one") == []


def test_answer_to_begin_is_lost_and_it_is_begun_again(fleet: Fleet) -> None:
    """
    What is begun again under the same name, as forwarding does, is not taken for what was
    begun before; that is aborted when this one has ended.
    """
    one = fleet.process("one")
    fleet.memory.fail("begin", Unreachable("lost"), late=True)
    with pytest.raises(Unreachable):
        begin(one)
    (lost,) = fleet.pending()
    identity = begin(one)
    one.clean()
    assert fleet.pending() == {lost, identity}
    one.bucket.abort(name_of("one"), identity)
    one.clean()
    assert fleet.pending() == set()


def test_begun_again_at_this_moment(fleet: Fleet) -> None:
    """The same, if the object store has begun it, and has not told its id yet."""
    one = fleet.process("one")
    fleet.memory.fail("begin", Unreachable("lost"))
    with pytest.raises(Unreachable):
        begin(one)
    one.beginning(name_of("one"))
    identity = fleet.memory.begin(name_of("one"), ABOUT)
    one.clean()
    assert fleet.pending() == {identity}
    one.begun(name_of("one"), identity)
    one.clean()
    assert fleet.pending() == {identity}


# -- dead processes ---------------------------------------------------------------


def test_killed(fleet: Fleet) -> None:
    """What a killed process has left is aborted by the next one of its node, at once."""
    one = fleet.process("one")
    begin(one)
    done = begin(one, number=1)
    one.bucket.abort(name_of("one", 1), done)
    fleet.kill(one)
    two = fleet.process("one")
    two.clean()
    assert fleet.pending() == set()
    assert [it for it in fleet.memory.calls if it[0] == "abort"][1:] == [("abort", name_of("one"))]
    two.close()
    assert fleet.notes("one") == []


def test_killed_before_the_id_is_known(fleet: Fleet) -> None:
    """What a process had begun when it was killed is aborted, although it noted no id."""
    one = fleet.process("one")
    one.beginning(name_of("one"))
    fleet.memory.begin(name_of("one"), ABOUT)
    fleet.memory.begin(name_of("one", 1), ABOUT)
    fleet.kill(one)
    two = fleet.process("one")
    two.clean()
    assert [it.name for it in fleet.memory.pending()] == [name_of("one", 1)]
    two.close()
    assert fleet.notes("one") == []


def test_killed_before_the_id_is_known_and_begun_again(fleet: Fleet) -> None:
    """
    What a living process sends under the name that a killed one had begun stays; what the
    killed one has left is aborted when that has ended.
    """
    one, two, three = (fleet.process("one") for _ in range(3))
    one.beginning(name_of("one"))
    left = fleet.memory.begin(name_of("one"), ABOUT)
    fleet.kill(one)
    identity = begin(two)
    three.clean()
    two.clean()
    assert fleet.pending() == {left, identity}
    two.bucket.abort(name_of("one"), identity)
    three.clean()
    assert fleet.pending() == set()
    two.close()
    three.close()
    assert fleet.notes("one") == []


def test_killed_in_a_test(fleet: Fleet) -> None:
    """A test that could not remove what it had begun has it removed later."""
    one = fleet.process("one")
    fleet.memory.fail("test", Unreachable("away"))
    with pytest.raises(Unreachable):
        one.bucket.test()
    (name,) = one._aborting
    fleet.memory.begin(name, ABOUT)
    one.clean()
    assert fleet.pending() == set()


def test_living(fleet: Fleet) -> None:
    """What belongs to a living process is left alone, also if its lock was deleted."""
    one, two = fleet.process("one"), fleet.process("one")
    identity = begin(one)
    two.clean()
    for name in fleet.notes("one"):
        if name.startswith("owner-"):
            (fleet.folder("one") / PENDING / name).unlink()
    one.clean()
    two.clean()
    assert fleet.pending() == {identity}


def test_killed_and_away(fleet: Fleet) -> None:
    """What a killed process has left is tried again until it is gone."""
    one = fleet.process("one")
    for number in range(3):
        begin(one, number=number)
    fleet.kill(one)
    two = fleet.process("one")
    fleet.memory.fail("abort", Unreachable("away"), 2)
    with pytest.raises(Unreachable):
        two.clean()
    assert len(fleet.pending()) == 2
    two.clean()
    assert fleet.pending() == set()


def test_damaged_notes(fleet: Fleet) -> None:
    """Notes are read as far as they are whole."""
    one = fleet.process("one")
    begin(one)
    fleet.kill(one)
    (notes,) = (it for it in fleet.notes("one") if it.startswith("notes-"))
    with (fleet.folder("one") / PENDING / notes).open("ab") as file:
        file.write(b'\xff\n[]\n{"a": 1}\n["a", 1, 2]\n["name", "torn')
    fleet.process("one").clean()
    assert fleet.pending() == set()


def test_other_bucket(fleet: Fleet) -> None:
    """Notes about another bucket are left alone."""
    one = fleet.process("one")
    identity = begin(one)
    fleet.kill(one)
    fleet.process("one", "s3://other").clean()
    assert fleet.pending() == {identity}
    fleet.process("one").clean()
    assert fleet.pending() == set()


# -- what the object store lists --------------------------------------------------


def unnoted(fleet: Fleet, name: str) -> str:
    return fleet.memory.begin(name, ABOUT)


def test_old(fleet: Fleet) -> None:
    """What no node says it needs is aborted after an hour, of whatever node it is."""
    one = fleet.process("one")
    unnoted(fleet, name_of("one"))
    unnoted(fleet, name_of("two"))
    unnoted(fleet, ".test-0123456789abcdef")
    fleet.seconds += EXPIRY - 1
    assert one.clean_old() == 0
    fleet.seconds += 2
    assert one.clean_old() == 3
    assert fleet.pending() == set()


@pytest.mark.parametrize(
    "name", ["photo.jpg", "1795328130123.jpg", "in/" + name_of("one"), "backup/2026", ".test-1"]
)
def test_others(fleet: Fleet, name: str) -> None:
    """What another program has begun below the prefix is never touched."""
    one = fleet.process("one")
    identity = unnoted(fleet, name)
    fleet.seconds += 100 * EXPIRY
    assert one.clean_old() == 0
    assert fleet.pending() == {identity}


def test_long(fleet: Fleet) -> None:
    """What its process still sends is left alone, however old it is, by all nodes."""
    one, two = fleet.process("one"), fleet.process("two")
    identity = begin(one)
    for _ in range(300):
        fleet.seconds += 60
        one.clean()
        if fleet.seconds % 180 < 60:
            assert (one.clean_old(), two.clean_old()) == (0, 0)
    assert fleet.pending() == {identity}


def test_long_while_aborts_fail(fleet: Fleet) -> None:
    """That a node is alive is said before what may take long, and although that fails."""
    one, two = fleet.process("one"), fleet.process("two")
    identity, other = begin(one), begin(one, number=1)
    fleet.memory.fail("abort", Unreachable("away"), 2)
    with pytest.raises(Unreachable):
        one.bucket.abort(name_of("one", 1), other)
    fleet.seconds += EXPIRY + 1
    fleet.memory.calls.clear()
    with pytest.raises(Unreachable):
        one.clean()
    assert [operation for operation, _ in fleet.memory.calls] == ["put", "abort"]
    assert two.clean_old() == 0
    assert identity in fleet.pending()


def test_long_and_killed(fleet: Fleet) -> None:
    """What a process had sent for long is aborted by others when its node says no more."""
    one, two = fleet.process("one"), fleet.process("two")
    begin(one)
    fleet.seconds += EXPIRY + 1
    one.clean()
    assert two.clean_old() == 0
    fleet.kill(one)
    fleet.seconds += 4 * PERIOD
    assert two.clean_old() == 1


def test_long_beside_another_process(fleet: Fleet) -> None:
    """A node needs what any of its processes sends."""
    one, other = fleet.process("one"), fleet.process("one")
    identity = begin(one)
    fleet.seconds += ALIVE_AFTER + 1
    one.clean()
    other.clean()
    fleet.seconds += ALIVE_AFTER + 1
    one.clean()
    other.clean()
    assert other.clean_old() == 0
    assert fleet.pending() == {identity}


def test_unknown_whether_needed(fleet: Fleet) -> None:
    """As long as it is not known whether a node needs an upload, it stays."""
    one = fleet.process("one")
    identity = unnoted(fleet, name_of("two"))
    fleet.seconds += EXPIRY + 1
    fleet.memory.fail("head", Denied("no permission"))
    with pytest.raises(Denied):
        one.clean_old()
    assert fleet.pending() == {identity}


def test_name_like_another_node(fleet: Fleet) -> None:
    """A sender that chooses an original name cannot have the upload of a living node aborted."""
    one, two = fleet.process("one"), fleet.process("two")
    name = file_name(1, 0, "", "0123456789abcdef-photo.jpg", node="one", token="f" * 16)
    identity = one.bucket.begin(name, ABOUT)
    fleet.seconds += EXPIRY + 1
    one.clean()
    assert two.clean_old() == 0
    assert fleet.pending() == {identity}


def test_leases_are_removed(fleet: Fleet) -> None:
    """A node that has no long upload says nothing, and its old leases are removed."""
    one = fleet.process("one")
    one.clean()
    assert fleet.memory.visible() == {}
    identity = begin(one)
    fleet.seconds += ALIVE_AFTER + 1
    one.clean()
    one.clean()
    assert len(fleet.memory.visible()) == 1
    assert all(name.startswith(f"{LEASES}one-") for name in fleet.memory.visible())
    one.bucket.abort(name_of("one"), identity)
    fleet.seconds += EXPIRY
    one.clean()
    one.clean_old()
    assert fleet.memory.visible() == {}


def test_interface(fleet: Fleet) -> None:
    """The bucket that notes is a bucket."""
    bucket: IBucket = fleet.process("one").bucket
    assert bucket.name == "s3://memory/"
