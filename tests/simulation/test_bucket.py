"""
The simulated object store: it is one, and it fails as one does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.bucket import PATIENCE, BucketFaults, ObjectStore, SimulatedBucket
from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.history import History, Violation, content_of
from tests.simulation.oracles.objects import Pendings, StoredObjects
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.stores.s3.bucket import MARK, About, IBucket
from twisted_upload.stores.s3.errors import (
    Denied,
    ObjectStoreError,
    Rejected,
    Throttled,
    Unreachable,
)
from twisted_upload.testing import BucketContract, BucketUnderTest

ABOUT = About("text/plain", {MARK: "0" * 32})


class World:
    """An object store, and one process that uses it."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(Choices("world"))
        self.store = ObjectStore(self.scheduler, Choices("store"))
        self.process = Process(self.scheduler, "daemon", Machine("one"))
        self.client: SimulatedBucket = self.store.bucket(self.process, ObjectURL("inbox"))
        self.bucket: IBucket = self.client
        self.errors: list[type[ObjectStoreError]] = []
        self.history = History(lambda: self.scheduler.now)

    def visible(self) -> dict[str, bytes]:
        return {name: it.content for name, it in self.store.objects.items()}

    def tags(self, name: str) -> dict[str, str]:
        return self.store.objects[name].tags

    def do(self, job: Callable[[], object]) -> float:
        """Do something in a thread; return the seconds that it took."""
        began = self.scheduler.now
        ended: list[float] = []

        def run() -> None:
            try:
                job()
            except ObjectStoreError as error:
                self.errors.append(type(error))
            finally:
                ended.append(self.scheduler.now)

        self.scheduler.spawn(run, self.process, "thread")
        self.scheduler.run()
        return ended[0] - began

    def put(self, name: str = "1-one") -> float:
        return self.do(lambda: self.client.put(name, [b"content"], ABOUT))


@pytest.fixture
def under_test() -> BucketUnderTest:
    return World()


@pytest.fixture
def world() -> World:
    return World()


class TestContract(BucketContract):
    """The contract of a bucket, without faults."""


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        ("throttled", Throttled, False),
        ("unreachable", Unreachable, False),
        ("denied", Denied, False),
        ("rejected", Rejected, False),
        ("silent", Unreachable, False),
        ("late", Unreachable, True),
    ],
)
def test_fails(world: World, fault: str, error: type[ObjectStoreError], *, done: bool) -> None:
    """A request fails before it is carried out; or it is carried out too late."""
    setattr(world.store.faults, fault, 1.0)
    took = world.put()
    assert world.errors == [error]
    assert world.visible() == ({"1-one": b"content"} if done else {})
    assert took == (PATIENCE if fault in ("silent", "late") else 0.0)


def test_lost(world: World) -> None:
    """An answer is lost: its request was carried out, and some of that is cleared up."""
    world.store.faults = BucketFaults(lost=1.0)
    for number in range(20):
        world.put(f"1-{number}")
    assert len(world.visible()) == 20
    assert 0 < len(world.errors) < 20


def test_down(world: World) -> None:
    """One that is down carries out nothing."""
    world.store.faults = BucketFaults(down=True)
    for number in range(20):
        world.put(f"1-{number}")
    assert world.errors == [Unreachable] * 20
    assert world.visible() == {}


def test_takes_time(world: World) -> None:
    """A request takes its time, in which others go on; `close` ends it."""
    world.store.faults = BucketFaults(seconds=(2.0, 3.0))
    assert 2.0 <= world.put() <= 3.0
    world.scheduler.call_later(1.0, world.client.close)
    assert world.put("1-two") == 1.0
    assert world.errors == [Unreachable]


@pytest.mark.parametrize(("call", "done"), [("s3 put", False), ("s3 put is done", True)])
def test_killed(world: World, call: str, *, done: bool) -> None:
    """A process dies before a request, or after it was carried out and before its answer."""
    world.process.kill_before[call] = 0
    world.put()
    assert not world.process.alive
    assert (world.visible() != {}) == done


def test_old_lists(world: World) -> None:
    """A list is as old as it is told to be: it misses what is new, and shows what is gone."""
    store, seen = world.store, []

    def job() -> None:
        first = world.client.begin("1-one", ABOUT)
        world.scheduler.pause(100.0)
        world.client.abort("1-one", first)
        world.client.begin("1-two", ABOUT)
        store.faults.stale = 50.0
        seen.append([it.name for it in world.client.pending()])
        world.scheduler.pause(100.0)
        seen.append([it.name for it in world.client.pending()])

    world.do(job)
    assert seen == [["1-one"], ["1-two"]]


def test_oracle_of_pending(world: World) -> None:
    """A multipart upload that is pending for too long is a violation."""
    world.do(lambda: world.client.begin("1-one", ABOUT))
    world.scheduler.call_later(100.0, lambda: None)
    world.scheduler.run()
    Pendings(world.history, world.store).check(100.0)
    with pytest.raises(Violation, match="pending for 100 s"):
        Pendings(world.history, world.store).check(99.0)


def test_oracle_of_objects(world: World) -> None:
    """What was acknowledged is an object, whole and once; others may be there, whole."""
    history, store = world.history, world.store
    disk = FileSystem(world.scheduler, Choices("disk"), PROFILES["ext4"])
    oracle = StoredObjects(history, disk, "/inbox", store)
    attempts = [history.begin(number, "raw-whole", 100) for number in (1, 2, 3)]
    for attempt in attempts[:2]:
        attempt.complete = True
        store.put(f"{attempt.number}-one", content_of(attempt.number, 100), ABOUT)
    history.stored(attempts[0], "1-one")
    history.refused(attempts[1], "store-error")
    oracle.check()
    del store.objects["2-one"]
    oracle.check()
    store.put("3-one", content_of(3, 100), ABOUT)
    with pytest.raises(Violation, match="its end was not sent"):
        oracle.check()
    del store.objects["3-one"]
    store.objects["1-one"].content = content_of(1, 100)[:-1]
    with pytest.raises(Violation, match="no content of anybody"):
        oracle.check(deep=True)
    del store.objects["1-one"]
    with pytest.raises(Violation, match="there is no object 1-one"):
        oracle.check(deep=True)
