"""
Partial uploads that become objects: who is told what, and when.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.support.daemon import sha256
from tests.support.hook_markers import lines, waiting
from tests.support.object_partials import ManualObjectPartials
from tests.support.partials import result_of
from twisted_upload.errors import StoreFailed
from twisted_upload.hooks.folders import FORWARD, HOOKS, WAITING
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import Arrival, ISplicesSocket, PartialTerms, PartialUpload
from twisted_upload.stores.s3.errors import Unreachable
from twisted_upload.stores.s3.puts import LAST_WAIT, WAIT

AWAY = Unreachable("away")


class Program:
    """
    Notes the objects for which a program is to be started.

    :ivar told: of each, its URL.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def check(self) -> None:
        pass

    def start(self, queue: Any) -> None:
        pass

    def stored(self, spool: HookSpool, marker: Marker) -> None:
        self.told.append(marker.url)
        spool.release(marker)

    def stop(self, seconds: float) -> Deferred[None]:
        return succeed(None)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualObjectPartials]:
    rig = ManualObjectPartials(tmp_path / "inbox")
    yield rig
    rig.close()


def test_success_when_it_is_put(rig: ManualObjectPartials) -> None:
    """A client hears success when the object store has confirmed the object, not before."""
    told = rig.complete(rig.create())
    while rig.disk.waiting:
        rig.disk.work()
    assert told == []
    assert rig.putting.waiting
    assert rig.stored() == {}
    rig.work()
    (upload,) = told
    assert rig.stored() == {upload.receipt.name: b"hello"}
    assert (rig.visible, waiting(rig.folder, FORWARD)) == ([], [])


def test_nothing_is_asked(rig: ManualObjectPartials) -> None:
    """A put that succeeds at once costs one request; its receipt is known without another."""
    identity = rig.create()
    rig.complete(identity)
    rig.work()
    (upload,) = rig.results(rig.store.find(identity))
    assert upload.receipt is not None
    assert [call for call, _ in rig.bucket.calls if call in ("put", "head", "begin")] == ["put"]


def test_away(rig: ManualObjectPartials) -> None:
    """
    While the object store is away, a client is told after 30 s to ask again; what it has sent
    is not lost, and when the object store is back, it has its receipt.
    """
    identity = rig.create()
    rig.bucket.fail("put", AWAY, times=1000)
    rig.bucket.fail("head", AWAY, times=1000)
    told = rig.complete(identity)
    rig.pass_time(int(WAIT) - 1)
    assert told == []
    rig.pass_time(2)
    assert [type(it) for it in told] == [StoreFailed]
    later = result_of(told[0].later)
    told = result_of(rig.store.find(identity))
    rig.pass_time(int(WAIT) + 1)
    assert [type(it) for it in told] == [StoreFailed]
    assert told[0].later is None  # who completed it is told of it
    rig.bucket._failures.clear()
    told = result_of(rig.store.find(identity))
    rig.pass_time(150)
    assert [type(it) for it in told] == [StoreFailed] or told[0].receipt is not None
    (upload,) = rig.results(rig.store.find(identity))
    assert rig.stored() == {upload.receipt.name: b"hello"}
    assert [it.receipt.name for it in later] == [upload.receipt.name]


def test_several_are_told_to_ask_again(rig: ManualObjectPartials) -> None:
    """
    Of several requests for one object that are told to ask again, the first one is told when
    it is stored, and no other.
    """
    part = PartialTerms(Arrival("192.0.2.7:50123", length=5), is_part=True)
    (upload,) = rig.results(rig.store.create(part))
    rig.complete(upload.identity)
    rig.work()
    rig.bucket.fail("put", AWAY, times=1000)
    rig.bucket.fail("head", AWAY, times=1000)
    terms = PartialTerms(Arrival("192.0.2.7:50123"))
    identities = [upload.identity] * 2
    first, second = (result_of(rig.store.concatenate(terms, identities)) for _ in range(2))
    rig.pass_time(int(WAIT) + 1)
    assert [type(it) for it in (*first, *second)] == [StoreFailed] * 2
    assert second[0].later is None
    later = result_of(first[0].later)
    rig.bucket._failures.clear()
    rig.pass_time(150)
    assert [it.receipt.name for it in later] == [*rig.stored()]


def test_several_wait(rig: ManualObjectPartials) -> None:
    """All who wait for the same object are told together; one may stop waiting."""
    identity = rig.create()
    told = rig.complete(identity)
    while rig.disk.waiting:
        rig.disk.work()
    finding = [rig.store.find(identity) for _ in range(3)]
    results = [result_of(it) for it in finding]
    while rig.disk.waiting:
        rig.disk.work()
    finding[0].cancel()
    rig.work()
    assert len(told) == 1
    assert all(isinstance(it[0], PartialUpload) for it in results[1:])


def test_cancelled_commit(rig: ManualObjectPartials) -> None:
    """A client that stops waiting loses nothing: the object is put all the same."""
    (append,) = rig.results(rig.store.append(rig.create(), lambda _: None, lambda: None))
    append.write(b"hello")
    commit = append.commit()
    results = result_of(commit)
    commit.cancel()
    assert len(results) == 1
    rig.work()
    assert [*rig.stored().values()] == [b"hello"]


def test_socket(rig: ManualObjectPartials) -> None:
    """The writer of a partial upload can take its bytes from a socket."""
    (append,) = rig.results(rig.store.append(rig.create(), lambda _: None, lambda: None))
    takes_sockets = ISplicesSocket.providedBy(append)
    append.abort()
    assert takes_sockets


def test_close(rig: ManualObjectPartials) -> None:
    """When the daemon stops, nobody is left waiting."""
    told = rig.complete(rig.create())
    while rig.disk.waiting:
        rig.disk.work()
    rig.puts.close()
    assert [type(it) for it in told] == [StoreFailed]
    rig.work()
    assert [*rig.stored().values()] == [b"hello"]


# -- programs -----------------------------------------------------------------


def test_program(tmp_path: Path) -> None:
    """The marker for the program is durable before success, and the file is gone by then."""
    program = Program()
    rig = ManualObjectPartials(tmp_path, program=program)
    seen: list[tuple[list[str], list[str]]] = []
    (append,) = rig.results(rig.store.append(rig.create(), lambda _: None, lambda: None))
    append.write(b"hello")

    def look(upload: PartialUpload) -> PartialUpload:
        seen.append((waiting(tmp_path), rig.visible))
        return upload

    (upload,) = rig.results(append.commit().addCallback(look))
    (name,) = waiting(tmp_path)
    assert seen == [([name], [])]
    url = f"s3://memory/inbox/{upload.receipt.name}"
    assert program.told == [url]
    (line,) = lines(tmp_path / HOOKS / WAITING / name)
    assert (line["url"], line["sha256"], line["size"]) == (url, sha256(b"hello"), 5)
    assert (line["peer"], line["listener"]) == ("192.0.2.7:50123", "front")
    rig.close()


def test_marker_cannot_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the marker for the program there is no success, until it can be written."""
    program = Program()
    rig = ManualObjectPartials(tmp_path, program=program)
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(HookSpool, "record", fails)
        identity = rig.create()
        told = rig.complete(identity)
        rig.work()
        # The object is there, but the program would never be started.
        assert len(rig.stored()) == 1
        assert program.told == []
        assert len(waiting(tmp_path, FORWARD)) == 1
        assert told == []
    rig.pass_time(3)
    (upload,) = told
    assert upload.receipt is not None
    assert len(program.told) == 1
    rig.close()


def test_marker_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the marker of a put cannot be removed at first, the program is started after that."""
    program = Program()
    rig = ManualObjectPartials(tmp_path, program=program)
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr(HookSpool, "remove", fails)
        rig.complete(rig.create())
        rig.work()
        assert program.told == []
    rig.pass_time(3)
    assert waiting(tmp_path, FORWARD) == []
    assert program.told == [f"s3://memory/inbox/{name}" for name in rig.stored()]
    rig.close()


def test_marker_is_incomplete(tmp_path: Path) -> None:
    """
    A marker for the program that a killed process has not written whole, and that is about to
    be removed for that, does not count as recorded.
    """
    program = Program()
    rig = ManualObjectPartials(tmp_path, program=program)
    queue, forward = rig.local.queue(HOOKS), rig.local.queue(FORWARD)
    assert queue is not None
    assert forward is not None
    told = rig.complete(rig.create())
    while rig.disk.waiting:
        rig.disk.work()
    (name,) = waiting(tmp_path, FORWARD)
    identity = name.removesuffix(f".{forward.owner}.json")
    cut = tmp_path / HOOKS / WAITING / queue.name_of(identity)
    cut.write_bytes(b'{"name": "17953281')
    cut.chmod(0o600)
    rig.work()
    assert (told, program.told) == ([], [])
    cut.unlink(missing_ok=True)
    rig.pass_time(3)
    assert len(told) == len(program.told) == len(waiting(tmp_path)) == 1
    rig.close()


def test_put_after_the_end(tmp_path: Path) -> None:
    """
    A put that ends when the store has been closed leaves the rest to the next daemon: the
    program is not forgotten.
    """
    program = Program()
    one = ManualObjectPartials(tmp_path, program=program)
    one.complete(one.create())
    while one.disk.waiting:
        one.disk.work()
    one.store.close()
    one.putting.work()
    assert len(one.stored()) == 1
    assert len(waiting(tmp_path, FORWARD)) == 1
    program = Program()
    other = ManualObjectPartials(tmp_path, bucket=one.bucket, program=program)
    other.pass_time(20)
    assert program.told == [f"s3://memory/inbox/{name}" for name in one.stored()]
    assert waiting(tmp_path, FORWARD) == []
    other.close()


def test_complete_while_stopping(tmp_path: Path) -> None:
    """
    The client of an upload that becomes complete while the daemon stops is told at once to ask
    again, so that the stop is not delayed; the next daemon puts it, and has its receipt.
    """
    one = ManualObjectPartials(tmp_path)
    identity = one.create()
    (append,) = one.results(one.store.append(identity, lambda _: None, lambda: None))
    append.write(b"hello")
    one.store.stop(30.0)
    told = one.results(append.commit())
    assert [type(it) for it in told] == [StoreFailed]
    assert (len(one.visible), one.stored()) == (1, {})
    told = result_of(one.store.find(identity))
    one.pass_time(int(LAST_WAIT) + 1)
    assert [type(it) for it in told] == [StoreFailed]
    one.close()
    other = ManualObjectPartials(tmp_path, bucket=one.bucket)
    told = result_of(other.store.find(identity))
    other.pass_time(20)
    (upload,) = told
    assert other.stored() == {upload.receipt.name: b"hello"}
    other.close()


def test_put_while_stopping(rig: ManualObjectPartials) -> None:
    """A put that is in progress when the daemon begins to stop is waited for."""
    told = rig.complete(rig.create())
    while rig.disk.waiting:
        rig.disk.work()
    assert rig.putting.waiting
    rig.store.stop(30.0)
    rig.work()
    (upload,) = told
    assert rig.stored() == {upload.receipt.name: b"hello"}


# -- the daemon is killed -----------------------------------------------------


def test_killed_before_the_put(tmp_path: Path) -> None:
    """What was complete, but not put, is put by the next daemon; its client has a receipt."""
    one = ManualObjectPartials(tmp_path)
    identity = one.create()
    one.complete(identity)
    while one.disk.waiting:
        one.disk.work()
    assert (len(one.visible), one.stored()) == (1, {})
    one.die()
    other = ManualObjectPartials(tmp_path, bucket=one.bucket)
    told = result_of(other.store.find(identity))
    other.pass_time(20)
    (upload,) = told
    assert other.stored() == {upload.receipt.name: b"hello"}
    assert (other.visible, waiting(tmp_path, FORWARD)) == ([], [])
    other.close()


@pytest.mark.parametrize("step", ["record", "remove_file", "remove"])
def test_killed_after_the_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whatever was done of the rest, the next daemon does all of it; there is one object."""
    program = Program()
    one = ManualObjectPartials(tmp_path, program=program)
    identity = one.create()
    one.complete(identity)
    while one.disk.waiting:
        one.disk.work()

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "remove_file":
            patch.setattr("twisted_upload.stores.s3.puts.remove_file", killed)
        else:
            patch.setattr(HookSpool, step, killed)
        with pytest.raises(Killed):
            one.putting.work()
    assert len(one.stored()) == 1
    one.die()
    program = Program()
    other = ManualObjectPartials(tmp_path, bucket=one.bucket, program=program)
    told = result_of(other.store.find(identity))
    other.pass_time(20)
    (upload,) = told
    assert other.stored() == {upload.receipt.name: b"hello"}
    assert (other.visible, waiting(tmp_path, FORWARD)) == ([], [])
    assert len(waiting(tmp_path)) >= 1
    if step != "remove":  # otherwise, the program's marker alone is left, for its runner
        assert program.told == [f"s3://memory/inbox/{upload.receipt.name}"]
    other.close()


def test_another_process_puts_it(tmp_path: Path) -> None:
    """A client that asks another process is told when that one has put it."""
    one = ManualObjectPartials(tmp_path)
    other = ManualObjectPartials(tmp_path, bucket=one.bucket)
    identity = one.create()
    one.complete(identity)
    while one.disk.waiting:
        one.disk.work()
    told = result_of(other.store.find(identity))
    other.pass_time(3)
    assert told == []
    one.work()
    other.pass_time(8)
    (upload,) = told
    assert upload.receipt is not None
    one.close()
    other.close()
