"""
The queues of a directory store: one for the program, one for forwarding.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.support.partials import ManualRig
from tests.support.processes import open_descriptors
from tests.support.stores import ARRIVAL, MILLISECONDS, Rig, leftovers
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import CannotStart, StoreFailed, UploadRefused
from twisted_upload.hooks.folders import FORWARD, HOOKS, WAITING
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.spool_scan import scan

NAME = f"{MILLISECONDS}.bin"
BOTH = HOOKS, FORWARD


class Runner:
    """
    Notes what a store says.

    :ivar names: of the files that it was told of.
    :ivar why_not: raised when it is checked, if set.
    :ivar stopping: fires when it may stop.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.why_not = ""
        self.queue: Callable[[], HookSpool | None] = lambda: None
        self.stopping: Deferred[None] = succeed(None)

    def check(self) -> None:
        if self.why_not:
            raise CannotStart(self.why_not)

    def start(self, queue: Callable[[], HookSpool | None]) -> None:
        self.queue = queue

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        spool.release(marker)
        assert self.queue() is spool
        self.names.append(marker.name)

    def stop(self, seconds: float) -> Deferred[None]:
        return self.stopping


class Files(FaultyFiles):
    """
    Files that note what happens to them.

    :ivar order: each file that was synced or published, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self.order.append(f"sync {'' if os.path.isdir(path) else 'file in '}{_last(path)}")

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        super().rename(source, name, target, new_name)
        self.order.append("publish")


def _last(path: str) -> str:
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    return "/".join(folder.split("/")[-2:])


def waiting(folder: Path, queue: str) -> list[str]:
    """Return the markers of a queue."""
    return os.listdir(folder / queue / WAITING)


def store(rig: Rig, content: bytes = b"hello") -> list[object]:
    """Store a file, and return what its sender is told."""
    told: list[object] = []
    incoming = rig.store.begin(ARRIVAL, told.append)
    incoming.write(content)
    incoming.commit().addCallbacks(told.append, lambda failure: told.append(failure.value))
    rig.disk.work()
    return told


@pytest.fixture
def runners() -> tuple[Runner, Runner]:
    return Runner(), Runner()


def open_rig(folder: Path, runners: tuple[Runner, Runner], **more: Any) -> Rig:
    """Open a store with both queues, and start it."""
    program, forward = runners
    rig = Rig(folder, hooks=program, forward=forward, files=Files(), **more)
    rig.store.start()
    return rig


def test_both(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """Each file has a marker in both queues, and both are told of it, after its sender."""
    rig = open_rig(tmp_path, runners)
    told: list[list[str]] = []
    incoming = rig.store.begin(ARRIVAL, lambda _: None)
    incoming.write(b"hello")
    incoming.commit().addCallback(lambda _: told.extend(one.names[:] for one in runners))
    assert [waiting(tmp_path, one) for one in BOTH] == [[], []]
    rig.disk.work()
    assert told == [[], []]
    assert [one.names for one in runners] == [[NAME], [NAME]]
    assert [len(waiting(tmp_path, one)) for one in BOTH] == [1, 1]
    rig.close()


def test_order(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """The file, both markers and both folders are synced together, before it is published."""
    rig = open_rig(tmp_path, runners)
    assert isinstance(rig.files, Files)
    rig.files.order.clear()
    store(rig)
    *before, publish, after = [one for one in rig.files.order if one != "sync .incoming"]
    inbox = tmp_path.name
    assert sorted(before) == sorted(
        [
            f"sync file in {inbox}/.incoming",
            *(f"sync file in {queue}/{WAITING}" for queue in BOTH),
            *(f"sync {queue}/{WAITING}" for queue in BOTH),
        ]
    )
    assert publish == "publish"
    assert after.startswith("sync ")
    rig.close()


@pytest.mark.parametrize("call", ["create", "write", "fsync", "close"])
@pytest.mark.parametrize("after", range(5))
def test_faults(tmp_path: Path, runners: tuple[Runner, Runner], call: str, after: int) -> None:
    """Whatever fails, the upload is refused, and nothing of it or its markers is left."""
    rig = open_rig(tmp_path, runners)
    before = open_descriptors(tmp_path)
    rig.files.fail(call, errno.EIO, after=after)
    (told,) = store(rig)
    rig.files.heal()
    if isinstance(told, UploadRefused):
        assert rig.stored == {}
        assert [waiting(tmp_path, one) for one in BOTH] == [[], []]
        assert [one.names for one in runners] == [[], []]
    else:  # there are fewer such calls
        assert [len(waiting(tmp_path, one)) for one in BOTH] == [1, 1]
    assert leftovers(tmp_path) == []
    assert open_descriptors(tmp_path) == before
    rig.close()


def test_stays_visible(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """
    A file that is not stored, and cannot be removed any more, is found by both queues: nothing
    is visible without its markers.
    """
    rig = open_rig(tmp_path, runners)
    rig.files.fail("fsync", errno.EIO, after=5)  # the drop folder, after publishing
    rig.files.fail("unlink", errno.ENOSPC)
    (told,) = store(rig)
    rig.files.heal()
    assert isinstance(told, StoreFailed)
    assert rig.stored == {NAME: b"hello"}
    for queue in BOTH:
        spool = rig.store.queue(queue)
        assert spool is not None
        assert [one.name for one in scan(spool, 10, ()).markers] == [NAME]
    rig.close()


def test_resumable_stays_visible(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """The same holds for a resumable upload that cannot be taken back either."""
    rig = ManualRig(tmp_path, hooks=runners[0], files=FaultyFiles())
    rig.store.start()
    identity = rig.create(5)
    rig.write(identity, b"he")
    rig.files.fail("fsync", errno.EIO, after=6)  # the drop folder
    rig.files.fail("rename", errno.EIO, after=1)
    rig.files.fail("unlink", errno.EIO, after=2)  # the record and the data are removed
    assert isinstance(rig.write(identity, b"llo"), StoreFailed)
    rig.files.heal()
    (name,) = rig.stored
    spool = rig.store.queue(HOOKS)
    assert spool is not None
    assert [one.name for one in scan(spool, 10, ()).markers] == [name]
    rig.close()


def test_taken_meanwhile(
    tmp_path: Path, runners: tuple[Runner, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not stored, and that another program has taken away, leaves no marker."""
    rig = open_rig(tmp_path, runners)
    unlink = rig.files.unlink

    def taken(folder: int, name: str) -> None:
        (tmp_path / NAME).unlink(missing_ok=True)
        unlink(folder, name)

    rig.files.fail("fsync", errno.EIO, after=5)
    monkeypatch.setattr(rig.files, "unlink", taken)
    (told,) = store(rig)
    assert isinstance(told, StoreFailed)
    assert (rig.stored, [waiting(tmp_path, one) for one in BOTH]) == ({}, [[], []])
    rig.close()


def test_forward_alone(tmp_path: Path) -> None:
    """Without a program there is only the queue of what is to be forwarded."""
    forward = Runner()
    rig = Rig(tmp_path, forward=forward)
    rig.store.start()
    store(rig)
    assert forward.names == [NAME]
    assert not (tmp_path / HOOKS).exists()
    assert rig.store.queue(HOOKS) is None
    assert len(waiting(tmp_path, FORWARD)) == 1
    rig.close()


def test_no_queue(tmp_path: Path) -> None:
    """Without both, an upload makes no call more than before."""
    rig = Rig(tmp_path)
    store(rig)
    assert sorted(os.listdir(tmp_path)) == [".incoming", NAME]
    assert rig.files.calls["create"] == rig.files.calls["close"] == 1
    assert rig.files.calls["fsync"] == 2
    rig.close()


def test_objects(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """If the files become objects, the program's queue is open, and no file is in it."""
    rig = open_rig(tmp_path, runners, objects=True)
    store(rig)
    assert [one.names for one in runners] == [[], [NAME]]
    assert (waiting(tmp_path, HOOKS), len(waiting(tmp_path, FORWARD))) == ([], 1)
    queue = rig.store.queue(HOOKS)
    assert queue is not None
    marker = queue.marker((MILLISECONDS, 9), ARRIVAL, 0.0)
    marker.is_object(f"s3://archive/{NAME}", NAME, 5, "0" * 64)
    queue.record(marker)
    rig.store.tell_stored(queue, marker)
    assert runners[0].names == [NAME]
    assert len(waiting(tmp_path, HOOKS)) == 1
    rig.close()


@pytest.mark.parametrize("which", [0, 1])
def test_does_not_open(tmp_path: Path, runners: tuple[Runner, Runner], which: int) -> None:
    """A store does not open if its program cannot be started, or it cannot forward."""
    runners[which].why_not = "no such thing"
    with pytest.raises(CannotStart, match="no such thing"):
        open_rig(tmp_path, runners)


@pytest.mark.parametrize("queue", BOTH)
def test_unusable_folder(tmp_path: Path, runners: tuple[Runner, Runner], queue: str) -> None:
    """A file in the place of a queue is an error of one line, and leaves no descriptor open."""
    (tmp_path / queue).write_text("a file")
    before = open_descriptors(tmp_path)
    with pytest.raises(CannotStart, match=f"cannot use {tmp_path}/{queue}: Not a directory"):
        open_rig(tmp_path, runners)
    assert open_descriptors(tmp_path) == before


def test_stop(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """A store has stopped when both have."""
    rig = open_rig(tmp_path, runners)
    for one in runners:
        one.stopping = Deferred()
    stopped: list[None] = []
    rig.store.stop(5).addCallback(stopped.append)
    runners[1].stopping.callback(None)
    assert stopped == []
    runners[0].stopping.callback(None)
    assert stopped == [None]
    rig.close()


def test_close(tmp_path: Path, runners: tuple[Runner, Runner]) -> None:
    """A store that is closed leaves no owner in either queue."""
    rig = open_rig(tmp_path, runners)
    rig.close()
    for queue in BOTH:
        assert [name for name in os.listdir(tmp_path / queue) if "owner" in name] == []
        assert rig.store.queue(queue) is None
