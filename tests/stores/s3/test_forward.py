"""
Files that are forwarded to an object store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import sha256
from tests.support.forwarding import Forwarding, open_forwarding
from tests.support.hook_markers import lines
from tests.support.stores import MILLISECONDS
from twisted_upload.hooks import marked_file
from twisted_upload.hooks.folders import FAILED, FORWARD, WAITING
from twisted_upload.hooks.marked_file import sha256_of
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.orphans import kill_orphans
from twisted_upload.hooks.outage import OUTAGE_PAUSES
from twisted_upload.hooks.runner import LOOK_INTERVAL, PAUSES
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import Metadata
from twisted_upload.stores.s3.bucket import MARK, SMALLEST_PART, About
from twisted_upload.stores.s3.errors import (
    Denied,
    ObjectStoreError,
    Rejected,
    Throttled,
    Unreachable,
)
from twisted_upload.stores.s3.forward import AGAIN_AFTER, ATTEMPTS, ForwardCommand, mark_of
from twisted_upload.stores.s3.forward_log import TELL_INTERVAL
from twisted_upload.testing.bucket import MemoryBucket

NAME = f"{MILLISECONDS}.bin"
AWAY = Unreachable("s3://memory/inbox/: put: no connection")
NO = Rejected("s3://memory/inbox/: put: no")
LARGE = os.urandom(SMALLEST_PART) + b"more"
LONG = OUTAGE_PAUSES[-1] * 1.5


@pytest.fixture
def forwarding(tmp_path: Path) -> Iterator[Forwarding]:
    with open_forwarding(tmp_path) as forwarding:
        yield forwarding


def visible(path: Path) -> list[str]:
    """Return the files in a drop folder."""
    return [name for name in os.listdir(path) if not name.startswith(".")]


@pytest.mark.parametrize("content", [b"hello", LARGE], ids=len)
def test_forwarded(forwarding: Forwarding, content: bytes) -> None:
    """A stored file becomes an object of the same name; it stays here, without a marker."""
    forwarding.start()
    name = forwarding.store(content)
    forwarding.threads.work()
    assert forwarding.objects == {name: content}
    assert visible(forwarding.path) == [name]
    assert forwarding.waiting == []
    assert forwarding.logged == []
    assert [*forwarding.bucket.pending()] == []


@pytest.mark.parametrize("digest", [True, False])
def test_details(forwarding: Forwarding, digest: bool) -> None:
    """The object store is told what is known, with the SHA-256, even if nobody asked for it."""
    forwarding.start()
    said = Metadata("照片.jpg", "image/jpeg", "Alice")
    forwarding.store(b"hello", digest=digest, metadata=said)
    forwarding.threads.work()
    about = forwarding.bucket.about(NAME)
    assert about.content_type == "image/jpeg"
    assert about.details["sha256"] == sha256(b"hello")
    assert about.details["original-name"] == "%E7%85%A7%E7%89%87.jpg"
    assert about.details["label"] == "Alice"
    assert about.details["node"] == "one"
    assert about.details["sender"] == "192.0.2.7:50123"
    assert about.details["arrived"] == "2026-11-22T06:15:30.123Z"


def test_removed(tmp_path: Path) -> None:
    """With ``--after-forward remove``, a file is removed here when it has been forwarded."""
    with open_forwarding(tmp_path, remove=True) as forwarding:
        forwarding.start()
        forwarding.bucket.fail("put", AWAY)
        forwarding.store()
        forwarding.threads.work()
        assert visible(tmp_path) == [NAME]
        forwarding.pass_time(LONG)
        assert forwarding.objects == {NAME: b"hello"}
        assert visible(tmp_path) == []
        assert forwarding.waiting == []


def test_another_file_is_not_removed(tmp_path: Path) -> None:
    """A file that has taken the name meanwhile stays."""
    with open_forwarding(tmp_path, remove=True) as forwarding:
        marker = forwarding.put()
        real = forwarding.bucket.put

        def put(name: str, pieces: list[bytes], about: About) -> None:
            real(name, pieces, about)
            (tmp_path / "new").write_bytes(b"another")
            os.replace(tmp_path / "new", tmp_path / NAME)

        forwarding.bucket.put = put  # type: ignore[method-assign, assignment]
        forwarding.start()
        assert forwarding.objects == {NAME: b"hello"}
        assert (tmp_path / marker.name).read_bytes() == b"another"


def test_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be removed keeps its marker until it can, and is not sent again."""
    with open_forwarding(tmp_path, remove=True) as forwarding:
        forwarding.start()
        with monkeypatch.context() as patch:

            def unlink(folder: int, name: str) -> None:
                raise OSError(5, "Input/output error")

            patch.setattr(forwarding.queue.files, "unlink", unlink)
            forwarding.store(LARGE)
            forwarding.threads.work()
        assert len(forwarding.waiting) == 1
        (line,) = forwarding.logged
        assert line.startswith(
            f"warn: forward {NAME}: forwarded, but cannot be removed: Input/output error; retrying"
        )
        forwarding.pass_time(PAUSES[-1])
        assert (visible(tmp_path), forwarding.waiting) == ([], [])
        assert [call for call, _ in forwarding.bucket.calls].count("begin") == 1


def test_gone(forwarding: Forwarding) -> None:
    """A file that another program has taken away is not forwarded; a line says so."""
    forwarding.start()
    name = forwarding.store()
    (forwarding.path / name).unlink()
    forwarding.threads.work()
    assert (forwarding.objects, forwarding.waiting) == ({}, [])
    assert forwarding.logged == [f"warn: forward {name}: nothing to do, the file is gone"]


def test_changed(forwarding: Forwarding) -> None:
    """Of a file that was changed in place, the object store gets what it is now."""
    forwarding.start()
    name = forwarding.store(b"hello", digest=True)
    (forwarding.path / name).write_bytes(b"other and more")
    forwarding.threads.work()
    assert forwarding.objects == {name: b"other and more"}
    assert forwarding.bucket.about(name).details["sha256"] == sha256(b"other and more")


# -- the object store is away -------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [Unreachable("no connection"), Throttled("slow down"), Denied("wrong key")],
    ids=lambda error: type(error).__name__,
)
def test_away_for_a_day(forwarding: Forwarding, error: ObjectStoreError) -> None:
    """
    While the object store is away, no file is set aside, and one is tried at a time; when
    it is back, all are forwarded within two minutes.
    """
    forwarding.start()
    forwarding.bucket.fail("put", error, times=1_000_000)
    names = [forwarding.store(b"hello", serial) for serial in range(20)]
    for _ in range(24 * 60):
        forwarding.pass_time(60)
    tries = len(forwarding.bucket.calls)
    assert tries < 24 * 60 * 1.5
    assert (len(forwarding.waiting), forwarding.rejected) == (20, [])
    forwarding.bucket._failures.clear()
    for _ in range(12):
        forwarding.pass_time(10)
    assert sorted(forwarding.objects) == sorted(names)
    assert forwarding.waiting == []
    assert len(forwarding.bucket.calls) == tries + 20


def test_lines_of_an_outage(forwarding: Forwarding) -> None:
    """The log says when it begins, every ten minutes that it lasts, and when it is over."""
    forwarding.start()
    forwarding.bucket.fail("put", AWAY, times=1_000_000)
    for serial in range(3):
        forwarding.store(b"hello", serial)
    forwarding.threads.work()
    (line,) = forwarding.logged
    assert line == (
        f"error: forward {NAME}: {AWAY}; files wait in {forwarding.path}, retrying in 1.0 s"
    )
    for _ in range(25):
        forwarding.pass_time(60)
    assert len(forwarding.logged) == 3
    forwarding.bucket._failures.clear()
    forwarding.pass_time(LONG)
    assert forwarding.logged[3:] == [
        "info: forward: the object store works again, after 26.5 min",
    ]


def test_unreadable_file_in_an_outage(
    forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read does not tell that the object store works again."""
    forwarding.start()
    forwarding.bucket.fail("put", AWAY, times=1_000_000)
    forwarding.store()
    unreadable = forwarding.store(serial=1)

    def open_file(spool: HookSpool, marker: Marker) -> int | None:
        if marker.name == unreadable:
            raise OSError(5, "Input/output error")
        return marked_file.open_file(spool, marker)

    monkeypatch.setattr("twisted_upload.stores.s3.forward.open_file", open_file)
    for _ in range(30):
        forwarding.pass_time(60)
    assert any("Input/output error" in line for line in forwarding.logged)
    assert not [line for line in forwarding.logged if "works again" in line]
    assert len(forwarding.waiting) == 2


def test_flapping(forwarding: Forwarding) -> None:
    """An object store that fails and works in turns makes a few lines only."""
    forwarding.start()
    for serial in range(100):
        forwarding.bucket.fail("put", AWAY)
        forwarding.store(b"hello", serial)
        forwarding.threads.work()
        forwarding.pass_time(5)
        assert len(forwarding.objects) == serial + 1
    assert len(forwarding.logged) == 2
    assert TELL_INTERVAL > 500


def test_one_that_always_fails(forwarding: Forwarding) -> None:
    """If the object store fails for one file alone, the others are forwarded."""
    real = forwarding.bucket.put

    def put(name: str, pieces: list[bytes], about: About) -> None:
        if name == NAME:
            raise AWAY
        real(name, pieces, about)

    forwarding.bucket.put = put  # type: ignore[method-assign, assignment]
    forwarding.start()
    for serial in range(10):
        forwarding.store(b"hello", serial)
    forwarding.threads.work()
    for _ in range(5):
        forwarding.pass_time(60)
    assert len(forwarding.objects) == 9
    assert len(forwarding.waiting) == 1


def test_stored_while_away(forwarding: Forwarding) -> None:
    """A file that is stored during an outage waits as the others do."""
    forwarding.start()
    forwarding.bucket.fail("put", AWAY, times=1_000_000)
    forwarding.store(b"one", 0)
    forwarding.threads.work()
    for serial in range(1, 50):
        forwarding.store(b"more", serial)
        forwarding.threads.work()
    assert len(forwarding.bucket.calls) == 1


# -- the object store rejects a file ------------------------------------------


def test_rejected(forwarding: Forwarding) -> None:
    """A file that is rejected does not block others, and is tried again every hour."""
    forwarding.start()
    forwarding.bucket.fail("put", NO, times=ATTEMPTS * 3)
    forwarding.store(b"bad")
    for _ in range(ATTEMPTS):
        forwarding.threads.work()
        forwarding.pass_time(PAUSES[1] * 1.5)
    (marker,) = forwarding.rejected
    assert forwarding.waiting == []
    assert [line.split(": ")[0] for line in forwarding.logged] == ["warn", "warn", "error"]
    assert forwarding.logged[-1] == (
        f"error: forward {NAME}: {NO}, attempt 3 of 3; retrying every hour, see"
        f" {forwarding.path}/{FORWARD}/{FAILED}"
    )
    assert "attempts" in lines(forwarding.path / FORWARD / FAILED / marker)[-1]
    for hours in range(1, 3):
        _pass_slowly(forwarding, AGAIN_AFTER)
        assert len(forwarding.bucket.calls) == ATTEMPTS * (hours + 1)
    _pass_slowly(forwarding, AGAIN_AFTER)
    assert forwarding.objects == {NAME: b"bad"}
    assert (forwarding.waiting, forwarding.rejected) == ([], [])


def test_rejected_are_counted(forwarding: Forwarding) -> None:
    """How many are rejected is counted, and logged at a start."""
    forwarding.start()
    forwarding.bucket.fail("put", NO, times=1000)
    for serial in range(3):
        forwarding.store(b"bad", serial)
    for _ in range(12):
        forwarding.pass_time(LOOK_INTERVAL)
    assert forwarding.counts.given_up == 3
    forwarding.logged.clear()
    forwarding.start()
    assert forwarding.logged == [
        "warn: forward: 3 files rejected by the object store, or with an unusable marker, see"
        f" {forwarding.path}/{FORWARD}/{FAILED}"
    ]


def test_unusable_markers_stay(forwarding: Forwarding) -> None:
    """A marker that is unusable is not tried again."""
    forwarding.put()
    (name,) = forwarding.waiting
    (forwarding.path / FORWARD / WAITING / name).write_text("?\n")
    forwarding.start()
    assert forwarding.rejected == [name]
    _pass_slowly(forwarding, AGAIN_AFTER * 2)
    assert forwarding.rejected == [name]
    assert len(forwarding.logged) == 2


def test_name_taken(forwarding: Forwarding) -> None:
    """Another object of that name is not replaced; the file is treated as rejected."""
    forwarding.bucket.put(NAME, [b"another"], About("a/b", {MARK: "0" * 32}))
    forwarding.start()
    forwarding.store()
    for _ in range(ATTEMPTS):
        forwarding.threads.work()
        forwarding.pass_time(PAUSES[1] * 1.5)
    assert forwarding.objects == {NAME: b"another"}
    assert len(forwarding.rejected) == 1


# -- the daemon is killed -----------------------------------------------------


def test_left_by_an_earlier_daemon(forwarding: Forwarding) -> None:
    """What an earlier daemon has left is forwarded."""
    for serial in range(5):
        forwarding.put(b"hello", serial)
    forwarding.start()
    assert len(forwarding.objects) == 5
    assert forwarding.waiting == []


@pytest.mark.parametrize("content", [b"hello", LARGE], ids=len)
def test_killed_after_the_object_was_stored(forwarding: Forwarding, content: bytes) -> None:
    """A file whose object is there already, whole, is the same object afterwards."""
    marker = forwarding.put(content)
    _run(forwarding, marker)
    assert len(forwarding.waiting) == 1  # as if the daemon had been killed here
    about = forwarding.bucket.about(NAME)
    forwarding.start()
    assert forwarding.objects == {NAME: content}
    assert forwarding.bucket.about(NAME) == about
    assert forwarding.waiting == []
    assert [call for call, _ in forwarding.bucket.calls].count("begin") == (content is LARGE)


def test_lost_answer(forwarding: Forwarding) -> None:
    """A file whose object was stored, but whose answer was lost, is not rejected."""
    forwarding.start()
    forwarding.bucket.fail("put", AWAY, late=True)
    forwarding.store()
    forwarding.threads.work()
    forwarding.pass_time(LONG)
    assert forwarding.objects == {NAME: b"hello"}
    assert (forwarding.waiting, forwarding.rejected) == ([], [])


def test_one_at_a_time(forwarding: Forwarding, tmp_path: Path) -> None:
    """While one process forwards a file, another does not."""
    marker = forwarding.put()
    held = forwarding.queue.lock(marker, kill_orphans)
    assert held is not None
    forwarding.start()
    assert forwarding.bucket.calls == []
    assert forwarding.logged == [f"info: forward {NAME}: another process is forwarding it"]
    os.close(held)
    forwarding.pass_time(10)
    assert forwarding.objects == {NAME: b"hello"}


def test_marks() -> None:
    """The mark of an object follows from the marker alone, and is different for each file."""
    one, other = Marker("1795328130123-000000-0123456789ab"), Marker("another")
    assert mark_of(one) == mark_of(Marker(one.identity)) != mark_of(other)
    assert len(mark_of(one)) == 32


# -- the end ------------------------------------------------------------------


def test_stop(forwarding: Forwarding) -> None:
    """A stop begins no more requests; the file is forwarded after the next start."""
    forwarding.start()
    forwarding.store(LARGE)
    stopped: list[None] = []
    forwarding.runner.stop(5).addCallback(stopped.append)
    forwarding.clock.advance(5)
    forwarding.threads.work()
    assert stopped == [None]
    assert forwarding.objects == {}
    assert len(forwarding.waiting) == 1
    assert [line for line in forwarding.logged if "stopping" not in line] == []
    assert forwarding.clock.getDelayedCalls() == []


def test_stop_between_parts(tmp_path: Path) -> None:
    """A large file that is being sent when the daemon stops ends after a part; none is left."""
    bucket = MemoryBucket()
    command = ForwardCommand(bucket)
    with open_forwarding(tmp_path) as forwarding:
        marker = forwarding.put(LARGE)
        hold = bucket.hold("put_part")
        ends: list[object] = []
        thread = threading.Thread(
            target=lambda: ends.append(command.run(forwarding.queue, marker, 1, -1))
        )
        thread.start()
        while ("put_part", NAME) not in bucket.calls:
            thread.join(0.001)
        command.stop()
        hold.set()
        thread.join(30)
        assert "stopped with the daemon" in str(ends)
        assert [call for call, _ in bucket.calls] == ["head", "begin", "put_part", "abort"]
        assert [*bucket.pending()] == []


# -- counts -------------------------------------------------------------------


def test_counts(forwarding: Forwarding) -> None:
    """What waits, since when, what was forwarded, and what failed is counted."""
    forwarding.start()
    samples = forwarding.counts.samples("inbox")
    assert {number for each in samples.values() for number in each.values()} == {0}
    forwarding.bucket.fail("put", AWAY)
    forwarding.store(b"one", 0)
    forwarding.threads.work()
    forwarding.store(b"two", 1)
    forwarding.put(b"three", 2)
    with_outage = forwarding.clock.seconds()
    forwarding.runner._look()
    forwarding.threads.work()
    assert forwarding.clock.seconds() == with_outage
    assert forwarding.counts.waiting == 3
    assert forwarding.counts.oldest == MILLISECONDS / 1000
    forwarding.pass_time(LONG)
    forwarding.pass_time(LOOK_INTERVAL)
    assert (forwarding.counts.waiting, forwarding.counts.oldest) == (0, 0)
    samples = forwarding.counts.samples("inbox")
    assert samples["twisted_upload_forwarded_total"] == {("inbox",): 3}
    assert samples["twisted_upload_forward_failures_total"] == {("inbox",): 1}


def _run(forwarding: Forwarding, marker: Marker) -> None:
    """Forward a file without removing its marker."""
    assert sha256_of(forwarding.queue, marker) is not None
    end = ForwardCommand(forwarding.bucket, node="one").run(forwarding.queue, marker, 1, -1)
    assert end.succeeded


def _pass_slowly(forwarding: Forwarding, seconds: float) -> None:
    """
    Let time pass as on a running machine, where files age with the clock.
    """
    for _ in range(int(seconds / LOOK_INTERVAL) + 6):
        forwarding.pass_time(LOOK_INTERVAL)
