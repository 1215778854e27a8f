"""
Any order of events, with a clock that goes back and files that are taken away.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support.stores import ARRIVAL, MILLISECONDS, contents, disclaim, leftovers, open_store
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import StoreFailed, UploadRefused
from twisted_upload.interfaces import IIncomingUpload, Receipt
from twisted_upload.stores.directory.health import SELF_TEST_INTERVAL
from twisted_upload.stores.directory.incoming import SMALL
from twisted_upload.testing import RecordingProducer


class _Died(BaseException):
    """The daemon is dead: nothing after this is executed, no clean-up either."""


class _MortalFiles(FaultyFiles):
    """System calls of a daemon that may die before any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.life: int | None = None
        self.open: set[int] = set()
        self.claimed: list[tuple[int, int]] = []

    def _before(self, call: str) -> int | None:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                raise _Died
        return super()._before(call)

    def create(self, directory: int, name: str, mode: int) -> int:
        descriptor: int = super().create(directory, name, mode)
        self.open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._before("close")
        self.open.discard(descriptor)
        os.close(descriptor)

    def claim(self, folder: int, number: int) -> None:
        super().claim(folder, number)
        self.claimed.append((folder, number))

    def die(self) -> None:
        """What the kernel does for a process that dies."""
        for claim in self.claimed:
            disclaim(*claim)
        for descriptor in self.open:
            os.close(descriptor)
        self.open.clear()


@dataclass
class _Sent:
    """What the test knows of an upload."""

    incoming: IIncomingUpload
    producer: RecordingProducer
    content: bytearray = field(default_factory=bytearray)
    failures: list[UploadRefused] = field(default_factory=list)
    committed: Deferred[Receipt] | None = None
    receipt: Receipt | None = None
    refusal: BaseException | None = None


class AnyOrder(RuleBasedStateMachine):
    """
    Any interleaving of begin, write, commit, abort, cancel, disk errors, death
    and restart keeps the promise; and whoever takes files away, and whatever the
    clock is set to, no name is given out twice.
    """

    uploads: Bundle[_Sent] = Bundle("uploads")
    committing: Bundle[_Sent] = Bundle("committing")

    def __init__(self) -> None:
        super().__init__()
        self.serial = 0
        self.acknowledged: dict[str, bytes] = {}
        self.given_out: set[str] = set()
        self.may_exist: set[bytes] = set()
        self.sent: list[_Sent] = []
        self.now = MILLISECONDS / 1000

    @initialize(by_rename=st.booleans())
    def start(self, by_rename: bool) -> None:
        import tempfile  # noqa: PLC0415

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "inbox"
        self.by_rename = by_rename
        self._start()

    def _start(self) -> None:
        self.disk = ManualDisk()
        self.files = _MortalFiles()
        if not self.by_rename:
            self.files.fail("rename", errno.EINVAL)
        self.clock = Clock()
        self.store = open_store(
            self.folder, self.disk, clock=self.clock, files=self.files, now=lambda: self.now
        )
        assert leftovers(self.folder) == []

    def _die(self) -> None:
        self.files.die()
        self.store._record = None  # nobody lives who could write in it
        self.store.close()
        for upload in self.sent:
            if upload.committed is not None and upload.receipt is None and upload.refusal is None:
                self.may_exist.add(bytes(upload.content))
        self.sent.clear()
        self._start()

    @rule(target=uploads, pieces=st.integers(1, 3), size=st.sampled_from([10, 70_000, SMALL]))
    def begin(self, pieces: int, size: int) -> _Sent | Any:
        failures: list[UploadRefused] = []
        try:
            incoming = self.store.begin(ARRIVAL, failures.append)
        except StoreFailed:
            assert not self.store.health.well
            self.clock.advance(SELF_TEST_INTERVAL)
            self.disk.work()
            incoming = self.store.begin(ARRIVAL, failures.append)
        upload = _Sent(incoming, RecordingProducer(), failures=failures)
        incoming.registerProducer(upload.producer, True)
        self.sent.append(upload)
        self.serial += 1
        for number in range(pieces):
            piece = b"%d.%d " % (self.serial, number) + bytes(size)
            incoming.write(piece)
            upload.content += piece
        return upload

    @rule(upload=uploads, size=st.sampled_from([1, 70_000, SMALL]))
    def write(self, upload: _Sent, size: int) -> None:
        if upload in self.sent:
            upload.incoming.write(b"w" * size)
            upload.content += b"w" * size

    @rule(target=committing, upload=consumes(uploads))
    def commit(self, upload: _Sent) -> _Sent:
        if upload not in self.sent:
            return upload
        if upload.failures:
            upload.incoming.abort()
            self.sent.remove(upload)
            return upload

        def kept(receipt: Receipt) -> None:
            assert receipt.name is not None
            upload.receipt = receipt
            assert contents(self.folder)[receipt.name] == upload.content
            assert receipt.name not in self.given_out
            self.given_out.add(receipt.name)
            self.acknowledged[receipt.name] = bytes(upload.content)

        def failed(failure: Failure) -> None:
            upload.refusal = failure.value

        upload.committed = upload.incoming.commit()
        upload.committed.addCallbacks(kept, failed)
        return upload

    @rule(upload=consumes(uploads))
    def abort(self, upload: _Sent) -> None:
        if upload in self.sent:
            upload.incoming.abort()
            self.sent.remove(upload)

    @rule(upload=consumes(committing))
    def cancel(self, upload: _Sent) -> None:
        if upload in self.sent and upload.committed is not None:
            upload.committed.cancel()

    @rule(jobs=st.one_of(st.none(), st.integers(1, 3)))
    def work(self, jobs: int | None) -> None:
        self.disk.work(jobs)

    @rule(
        call=st.sampled_from(
            ["create", "lock", "write", "writev", "chmod", "fsync", "rename", "link", "close"]
        ),
        error=st.sampled_from([errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT]),
        after=st.integers(0, 2),
    )
    def disk_error(self, call: str, error: int, after: int) -> None:
        self.files.fail(call, error, after=after)
        self.disk.work()
        self.files.heal()

    @rule()
    def take_away(self) -> None:
        for name in self.acknowledged:
            (self.folder / name).unlink()
        self.acknowledged.clear()

    @rule(seconds=st.sampled_from([-86400, -10, -0.001, 0.001, 10, 86400]))
    def set_clock(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        for upload in self.sent:
            if upload.committed is None:
                upload.incoming.abort()
        self.disk.work()
        self.sent.clear()
        self.store.close()
        for claim in self.files.claimed:
            disclaim(*claim)
        self._start()

    @rule(life=st.integers(0, 12))
    def death(self, life: int) -> None:
        self.files.life = life
        with contextlib.suppress(_Died):
            self.disk.work()
        self._die()

    @invariant()
    def promise(self) -> None:
        if not hasattr(self, "folder"):
            return
        visible = contents(self.folder)
        for name, content in self.acknowledged.items():
            assert visible.get(name) == content, "acknowledged and lost"
        others = [content for name, content in visible.items() if name not in self.acknowledged]
        whole = self.may_exist | {
            bytes(upload.content) for upload in self.sent if upload.committed is not None
        }
        assert all(content in whole for content in others), "partial, or given up, and visible"
        assert len(set(visible.values())) == len(visible), "kept twice"

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        for upload in self.sent:
            if upload.committed is None:
                upload.incoming.abort()
        self.disk.work()
        self.promise()
        assert leftovers(self.folder) == []
        assert self.store.memory.held == 0
        for upload in self.sent:
            assert upload.committed is None or (upload.receipt is None) != (upload.refusal is None)
        self.store.close()
        self.temporary.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)
