"""
Uploads that do not become objects: aborted, cancelled, refused; nothing is left of them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.support.object_stores import PART, ManualS3Rig
from twisted_upload.disk.threads import PoolStopped
from twisted_upload.errors import Busy, CannotStart, NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import Receipt
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.health import SELF_TEST_INTERVAL
from twisted_upload.stores.memory_budget import MOST_GIVEN_UP, MemoryBudget
from twisted_upload.stores.s3.cleanup import INTERVAL, MOST_LEFT
from twisted_upload.stores.s3.errors import (
    Denied,
    NameTaken,
    ObjectStoreError,
    Rejected,
    Throttled,
    Unreachable,
)
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.stores.s3.store import LONGEST_TEST_INTERVAL


def _nothing_left(rig: ManualS3Rig) -> None:
    rig.work()
    assert rig.bucket.visible() == {}
    assert rig.pending == []
    assert rig.spilled == []
    assert (rig.memory.held, rig.memory.given_up) == (0, 0)


@pytest.mark.parametrize("most", [0, 10**9])
@pytest.mark.parametrize("cancelled", [False, True])
def test_given_up_after_each_job(
    tmp_path: Path, small_part: int, most: int, cancelled: bool
) -> None:
    """However many jobs have been done when an upload is given up, nothing is left of it."""
    rig = ManualS3Rig(tmp_path / "inbox", memory=MemoryBudget(most))
    for size in 0, 100, small_part, 3 * small_part:
        jobs = 0
        while True:
            incoming, failures, _ = rig.begin()
            incoming.write(b"x" * size)
            committed = incoming.commit() if cancelled else None
            if committed is not None:
                committed.addErrback(lambda failure: failure.trap(CancelledError))
            for _ in range(jobs):
                (rig.disk if rig.disk.waiting else rig.requests).work(1)
            if not (rig.disk.waiting or rig.requests.waiting):
                break
            if committed is not None and committed.called:
                break
            if committed is None:
                incoming.abort()
            else:
                committed.cancel()
            _nothing_left(rig)
            assert failures == []
            jobs += 1
        incoming.abort()
        for name in rig.bucket.visible():
            rig.bucket.remove(name)
        rig.work()
    rig.close()


@pytest.mark.parametrize("operation", ["put", "begin", "put_part", "complete"])
def test_given_up_during_a_request(rig: ManualS3Rig, small_part: int, operation: str) -> None:
    """If it is given up while a request is carried out, what that has made is removed again."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * (100 if operation == "put" else 2 * small_part))
    committed = incoming.commit()
    ends: list[object] = []
    committed.addErrback(lambda failure: ends.append(failure.type))
    rig.bucket.during[operation] = committed.cancel
    _nothing_left(rig)
    assert ends == [CancelledError]
    assert operation in rig.operations
    incoming.abort()


def test_given_up_between_thread_and_reactor(rig: ManualS3Rig) -> None:
    """So is an object that was visible before its sender could be answered."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x")
    committed = incoming.commit()
    committed.addErrback(lambda _: None)
    done, job = rig.requests._jobs.pop()
    result = job()  # in the thread
    assert len(rig.bucket.visible()) == 1
    committed.cancel()
    done.callback(result)  # in the reactor
    _nothing_left(rig)
    assert rig.operations == ["put", "remove"]


def test_given_up_before_it_is_visible(rig: ManualS3Rig, small_part: int) -> None:
    """The request that would make an abandoned upload visible is not sent any more."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * (2 * small_part))
    committed = incoming.commit()
    committed.addErrback(lambda _: None)
    rig.requests.work(2)  # both parts
    committed.cancel()
    _nothing_left(rig)
    assert rig.operations == ["begin", "put_part", "put_part", "abort"]


def test_aborted_twice(rig: ManualS3Rig, small_part: int) -> None:
    """Aborting again, or late, is harmless; nothing is taken any more."""
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * (2 * small_part))
    rig.work()
    incoming.abort()
    incoming.abort()
    incoming.write(b"more")
    rig.work()
    assert rig.operations.count("abort") == 1
    ends = rig.commit(incoming)
    assert isinstance(ends[0], StoreFailed)
    _nothing_left(rig)


def test_abandoned_jobs_are_counted(rig: ManualS3Rig) -> None:
    """Abandoned uploads that wait for a thread hold no bytes, and are bounded."""
    for _ in range(10):
        incoming, _, _ = rig.begin()
        incoming.write(b"x" * 1000)
        incoming.commit().addErrback(lambda _: None)
        incoming.abort()
    assert (rig.memory.held, rig.memory.given_up) == (0, 10)
    rig.memory.given_up = MOST_GIVEN_UP
    with pytest.raises(Busy):
        rig.begin()
    rig.memory.given_up = 10
    _nothing_left(rig)
    assert rig.operations == []


# -- what goes wrong ----------------------------------------------------------

ERRORS: list[tuple[type[ObjectStoreError], type[UploadRefused], bool]] = [
    (Unreachable, StoreFailed, False),
    (Denied, StoreFailed, False),
    (Throttled, Busy, True),
    (Rejected, StoreFailed, True),
    (NameTaken, StoreFailed, True),
]


@pytest.mark.parametrize(("error", "refusal", "well"), ERRORS)
@pytest.mark.parametrize("operation", ["put", "begin", "put_part", "complete"])
@pytest.mark.parametrize("late", [False, True])
def test_request_fails(
    rig: ManualS3Rig,
    small_part: int,
    operation: str,
    error: type[ObjectStoreError],
    refusal: type[UploadRefused],
    well: bool,
    late: bool,
) -> None:
    """If a request fails, that upload is refused, and nothing of it is left or visible."""
    if late and not issubclass(error, Unreachable):
        return  # such an answer says that nothing was done
    rig.bucket.fail(operation, error("no answer"), late=late)
    incoming, failures, _ = rig.begin()
    incoming.write(b"x" * (100 if operation == "put" else 3 * small_part))
    ends = rig.commit(incoming)
    rig.work()
    assert [type(end) for end in ends] == [refusal]
    assert failures == []
    assert rig.store.health.well is well
    # What was begun, and its id has been lost, is found by its age.
    expected = 1 if late and operation == "begin" else 0
    assert len(rig.pending) == expected
    for one in [*rig.bucket.pending()]:
        rig.bucket.abort(one.name, one.identity)
    _nothing_left(rig)


def test_a_part_fails_before_the_commit(rig: ManualS3Rig, small_part: int) -> None:
    """If a part cannot be sent, the sender is told at once, and once."""
    rig.bucket.fail("put_part", Rejected("EntityTooLarge"))
    incoming, failures, _ = rig.begin()
    incoming.write(b"x" * (2 * small_part))
    rig.work()
    assert [type(failure) for failure in failures] == [StoreFailed]
    incoming.write(b"x" * (2 * small_part))
    incoming.abort()
    _nothing_left(rig)
    assert len(failures) == 1


def test_parts_of_one_that_has_failed(rig: ManualS3Rig, small_part: int) -> None:
    """If the first part fails, its sender is told why, even if the second one is done before."""
    rig.bucket.fail("begin", Throttled("SlowDown"))
    incoming, failures, _ = rig.begin()
    incoming.write(b"x" * (3 * small_part))
    jobs = [rig.requests._jobs.popleft() for _ in range(2)]
    results = []
    for _, job in jobs:
        with pytest.raises(Exception) as error:  # noqa: PT011
            job()
        results.append(error.value)
    for (done, _), result in reversed([*zip(jobs, results, strict=True)]):
        done.errback(result)
    assert [type(failure) for failure in failures] == [Busy]
    incoming.abort()
    _nothing_left(rig)


def test_object_of_another(rig: ManualS3Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that has the name already, against all odds, is not touched."""
    monkeypatch.setattr("twisted_upload.stores.s3.object_upload.new_token", lambda _: "0" * 16)
    assert isinstance(rig.store_upload(b"one"), Receipt)
    name = next(iter(rig.bucket.visible()))
    monkeypatch.setattr(rig.local, "next_moment", lambda _: (int(name.partition("-")[0]), 0))
    assert isinstance(rig.store_upload(b"two"), StoreFailed)
    rig.work()
    assert rig.bucket.visible() == {name: b"one"}


def test_no_tag(rig: ManualS3Rig) -> None:
    """An object that cannot be tagged is stored nevertheless; a line of the log says it."""
    rig.bucket.fail("tag", Throttled("slow down"))
    with capturedLogs() as events:
        assert isinstance(rig.store_upload(b"x" * (PART + 1)), Receipt)
    assert [str(formatEvent(event)) for event in events] == [
        "s3://uploads/box: an object is stored, but not tagged with its SHA-256: slow down"
    ]
    assert len(rig.bucket.visible()) == 1


# -- health -------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unreachable, Denied])
def test_unhealthy(rig: ManualS3Rig, error: type[ObjectStoreError]) -> None:
    """
    An object store that cannot be used refuses uploads until a test has passed; the log says
    it once, as critical.
    """
    rig.bucket.fail("put", error("put: no answer"), times=2)
    others = [rig.begin()[0] for _ in range(2)]
    for one in others:
        one.write(b"x")
    with capturedLogs() as events:
        ends = [rig.commit(one) for one in others]
        rig.work()
    assert [type(end) for (end,) in ends] == [StoreFailed] * 2
    assert [(event["log_level"], str(formatEvent(event))) for event in events] == [
        (
            LogLevel.critical,
            "s3://uploads/box: UNHEALTHY, refusing uploads until a self-test passes:"
            " put: no answer",
        )
    ]
    with pytest.raises(StoreFailed):
        rig.begin()
    assert isinstance(rig.store.refusal(), StoreFailed)
    rig.bucket.fail("test", error("test: no answer"), times=3)
    rig.pass_time(int(SELF_TEST_INTERVAL * 7))
    assert isinstance(rig.store.refusal(), StoreFailed)
    rig.pass_time(int(LONGEST_TEST_INTERVAL))
    assert rig.store.refusal() is None
    assert isinstance(rig.store_upload(b"x"), Receipt)


def test_throttled(rig: ManualS3Rig) -> None:
    """One that asks for fewer requests refuses that upload as busy; others go on."""
    rig.bucket.fail("put", Throttled("SlowDown"))
    with capturedLogs() as events:
        assert isinstance(rig.store_upload(b"x"), Busy)
    assert [str(formatEvent(event)) for event in events] == ["s3://uploads/box: SlowDown"]
    assert isinstance(rig.store_upload(b"x"), Receipt)


def test_in_flight_when_unhealthy(rig: ManualS3Rig) -> None:
    """Uploads in flight when the object store fails depend on their own requests only."""
    incoming, _, _ = rig.begin()
    rig.bucket.fail("put", Unreachable("reset"))
    rig.store_upload(b"one")
    incoming.write(b"two")
    ends = rig.commit(incoming)
    rig.work()
    assert isinstance(ends[0], Receipt)


def test_tested_at_the_start(rig: ManualS3Rig) -> None:
    """A daemon starts while the object store is away; it is tested at once."""
    rig.bucket.fail("test", Unreachable("no route to host"))
    rig.store.start()
    assert rig.store.refusal() is None
    with capturedLogs() as events:
        rig.work()
    assert "no route to host" in str(formatEvent(events[0]))
    assert isinstance(rig.store.refusal(), StoreFailed)
    rig.pass_time(2)
    assert rig.store.refusal() is None


def test_end_of_the_daemon(rig: ManualS3Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is dropped because the daemon ends says nothing about the object store."""

    def stopped(job: Callable[[], object]) -> Deferred[object]:
        return fail(PoolStopped())

    incoming, _, _ = rig.begin()
    incoming.write(b"x")
    with monkeypatch.context() as patch, capturedLogs() as events:
        patch.setattr(rig.requests, "run", stopped)
        ends = rig.commit(incoming)
    assert [type(end) for end in ends] == [StoreFailed]
    assert events == []
    assert rig.store.health.well


# -- the disk of the node -----------------------------------------------------


@pytest.mark.parametrize("call", ["create", "write", "writev"])
@pytest.mark.parametrize(("number", "refusal"), [(errno.EIO, StoreFailed), (errno.ENOSPC, NoSpace)])
def test_disk_fails(
    tmp_path: Path, small_part: int, call: str, number: int, refusal: type[UploadRefused]
) -> None:
    """If a part cannot be spilled, the upload is refused as a directory store would do it."""
    rig = ManualS3Rig(tmp_path / "inbox", memory=MemoryBudget(0))
    incoming, failures, _ = rig.begin()
    incoming.write(b"x" * (small_part + 1))  # the first part is complete
    rig.disk.work(1)
    rig.files.fail(call, number)
    for _ in range(2):
        incoming.write(b"y" * 5000)
    rig.work()
    assert [type(failure) for failure in failures] == [refusal]
    assert rig.local.health.well is (number == errno.ENOSPC)
    assert rig.store.health.well
    incoming.abort()
    _nothing_left(rig)
    rig.files.heal()
    rig.pass_time(3)
    rig.close()


def test_no_disk_no_uploads(rig: ManualS3Rig) -> None:
    """A store whose node has no disk refuses what the disk refuses."""
    rig.local.free_space.short_of = "space"
    assert isinstance(rig.store.refusal(), NoSpace)
    with pytest.raises(NoSpace):
        rig.begin()
    rig.local.free_space.short_of = ""


# -- what cannot be removed ---------------------------------------------------


def test_aborted_later(rig: ManualS3Rig, small_part: int) -> None:
    """What is pending and cannot be aborted is aborted later."""
    rig.store.start()
    rig.work()
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * (2 * small_part))
    rig.work()
    rig.bucket.fail("abort", Unreachable("reset"))
    incoming.abort()
    rig.work()
    assert len(rig.pending) == 1
    rig.pass_time(int(INTERVAL))
    assert rig.pending == []


def test_left_by_a_dead_daemon(tmp_path: Path, small_part: int) -> None:
    """What a daemon of this node has left that was killed, the next one aborts at its start."""
    rig = ManualS3Rig(tmp_path / "inbox")
    incoming, _, _ = rig.begin()
    incoming.write(b"x" * (2 * small_part))
    rig.work()
    assert len(rig.pending) == 1
    rig.store.close()  # what is pending then is that of a dead process
    again = ManualS3Rig(tmp_path / "inbox", bucket=rig.bucket)
    again.store.start()
    again.work()
    assert again.pending == []
    again.close()


def test_no_notes(tmp_path: Path) -> None:
    """A node that cannot note what is pending does not start; the text says why."""
    (tmp_path / "inbox" / INCOMING).mkdir(parents=True, mode=0o700)
    (tmp_path / "inbox" / INCOMING / PENDING).write_bytes(b"")
    with pytest.raises(CannotStart, match=r"cannot use .*/inbox/\.incoming/\.pending: "):
        ManualS3Rig(tmp_path / "inbox")


def test_not_opened(tmp_path: Path) -> None:
    """A store that is not open begins nothing."""
    rig = ManualS3Rig(tmp_path / "inbox")
    rig.store.close()
    with pytest.raises(CannotStart, match="has not been opened"):
        rig.begin()


def test_undone(tmp_path: Path) -> None:
    """If the daemon does not start, nothing of the store is left."""
    ManualS3Rig(tmp_path / "inbox").store.undo()
    assert not (tmp_path / "inbox").exists()


def test_answer_that_was_lost(rig: ManualS3Rig) -> None:
    """An object that was stored, although its sender had to be refused, is removed later."""
    rig.bucket.fail("put", Unreachable("reset"), late=True)
    rig.bucket.fail("remove", Unreachable("reset"))
    assert isinstance(rig.store_upload(b"x"), StoreFailed)
    assert len(rig.bucket.visible()) == 1
    rig.pass_time(int(INTERVAL))
    assert rig.bucket.visible() == {}


def test_what_is_left_is_bounded(rig: ManualS3Rig) -> None:
    """The number of uploads that are remembered is bounded."""
    assert rig.store.cleanup.left.maxlen == MOST_LEFT


def test_removals_are_told(rig: ManualS3Rig) -> None:
    """The log says once that objects cannot be removed, and when it has worked."""
    uploads = [rig.begin()[0] for _ in range(3)]
    rig.bucket.fail("put", Unreachable("lost"), times=3, late=True)
    rig.bucket.fail("remove", Unreachable("reset"), times=4)
    with capturedLogs() as events:
        for incoming in uploads:
            incoming.write(b"x")
            rig.commit(incoming)
        rig.work()
        rig.pass_time(int(INTERVAL))
        assert len(rig.bucket.visible()) == 3
        rig.pass_time(int(INTERVAL))
    assert rig.bucket.visible() == {}
    lines = [str(formatEvent(event)) for event in events]
    assert [line for line in lines if "object" in line] == [
        "s3://uploads/box: cannot remove the object of a refused upload; trying again: reset",
        "s3://uploads/box: removed the objects of refused uploads",
    ]


def test_closed_with_something_left(tmp_path: Path) -> None:
    """A store that is closed tries no more."""
    rig = ManualS3Rig(tmp_path / "inbox")
    rig.bucket.fail("put", Unreachable("reset"), late=True)
    rig.bucket.fail("remove", Unreachable("reset"))
    assert isinstance(rig.store_upload(b"x"), StoreFailed)
    rig.store.close()
    assert rig.clock.getDelayedCalls() == []
    assert len(rig.bucket.visible()) == 1
