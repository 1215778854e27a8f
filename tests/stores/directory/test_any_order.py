"""
Any order of events keeps the promise of the directory store.

Hypothesis begins, writes, commits, cancels and aborts uploads, lets the disk do some of
its jobs, breaks any system call, heals the disk, starts a second daemon on the folder,
kills the daemon between any two system calls, stops and starts it, sets the clock, and
takes files away.  After every step, each acknowledged file is there, whole, exactly once;
nothing visible is partial; and no name is used twice.  After a start, and when everything
has ended, ``.incoming/`` is empty.  All of this holds on file systems that can rename
without replacing, and on those that cannot.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support.mortal_files import Killed, MortalFiles
from tests.support.stores import ARRIVAL, MILLISECONDS, contents, disclaim, leftovers, open_store
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import IIncomingUpload, Receipt
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.health import SELF_TEST_INTERVAL
from twisted_upload.testing import RecordingProducer

CALLS = [call for call in vars(Files) if not call.startswith("_")]
WRITE_PATH = ["create", "lock", "write", "writev", "chmod", "fsync", "close", "rename", "link"]
ERRORS = [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE]

SIZES = st.sampled_from([1, 5_000, 300_000, 1_200_000])


@dataclass(eq=False)
class Sent:
    """
    What a sender knows of its upload.

    :ivar life: the number of the daemon that received it.
    :ivar ended: the sender has been answered, or has disconnected.
    :ivar lingers: it may be visible without having been acknowledged.
    :ivar taken: the file has been taken away.
    """

    incoming: IIncomingUpload
    producer: RecordingProducer
    content: bytes
    life: int
    committed: Deferred[Receipt] | None = None
    receipt: Receipt | None = None
    refused: bool = False
    ended: bool = False
    lingers: bool = False
    taken: bool = False


class StoreMachine(RuleBasedStateMachine):
    """One drop folder, and the daemons that use it one after another."""

    store: DirectoryStore
    files: MortalFiles
    disk: ManualDisk
    clock: Clock
    sound: bool  # no system call has failed in this life
    clean: bool  # no unlink has failed in this life

    def __init__(self) -> None:
        super().__init__()
        where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-", dir=where))
        self.sent: list[Sent] = []
        self.living: list[Sent] = []
        self.lives = 0
        self.wrong: list[str] = []
        self.names: set[str] = set()  # in use, or used before
        self.now = MILLISECONDS / 1000  # all names collide until the clock is set
        self.by_rename = True

    @initialize(by_rename=st.booleans())
    def first_start(self, by_rename: bool) -> None:
        """Start the first daemon on the folder."""
        self.by_rename = by_rename
        self.start()

    def start(self) -> None:
        """Start the next daemon on the folder."""
        self.clock, self.disk, self.files = Clock(), ManualDisk(), MortalFiles()
        if not self.by_rename:
            self.files.fail("rename", errno.EINVAL)
        self.lives += 1
        self.clean = self.sound = True
        self.store = open_store(
            self.folder,
            self.disk,
            clock=self.clock,
            files=self.files,
            now=lambda: self.now,
        )
        assert leftovers(self.folder) == []

    # What senders do

    @rule(sizes=st.lists(SIZES, max_size=3), whole=st.booleans())
    def begin(self, sizes: list[int], whole: bool) -> None:
        """A sender connects, and sends some of its file or all of it."""
        sent: Sent
        try:
            incoming = self.store.begin(ARRIVAL, lambda refusal: self._failed(sent, refusal))
        except UploadRefused:
            assert not self.store.health.well
            assert not self.sound
            return
        assert self.store.health.well
        sent = Sent(incoming, RecordingProducer(), b"", self.lives)
        incoming.registerProducer(sent.producer, True)
        self.sent.append(sent)
        self.living.append(sent)
        sent.content = b"%d of %d " % (len(self.sent), self.lives)
        incoming.write(sent.content)
        for size in sizes:
            self._write(sent, b"-" * size)
        if whole:
            self._commit(sent)

    @precondition(lambda self: self.living)
    @rule(chance=st.randoms(use_true_random=False), size=SIZES)
    def write(self, chance: Any, size: int) -> None:
        """A sender sends more."""
        sent = chance.choice(self.living)
        if sent.committed is None:
            self._write(sent, b"+" * size)

    def _write(self, sent: Sent, data: bytes) -> None:
        sent.incoming.write(data)
        sent.content += data

    @precondition(lambda self: self.living)
    @rule(chance=st.randoms(use_true_random=False))
    def commit(self, chance: Any) -> None:
        """A sender has sent everything."""
        sent = chance.choice(self.living)
        if sent.committed is None:
            self._commit(sent)

    def _commit(self, sent: Sent) -> None:
        sent.committed = sent.incoming.commit()
        sent.committed.addCallbacks(self._stored(sent), self._refused(sent))

    @precondition(lambda self: self.living)
    @rule(chance=st.randoms(use_true_random=False))
    def leave(self, chance: Any) -> None:
        """A sender disconnects."""
        sent = chance.choice(self.living)
        self._over(sent)
        if sent.committed is None:
            sent.incoming.abort()
        else:
            sent.lingers = True  # until the disk is done
            sent.committed.cancel()

    def _failed(self, sent: Sent, refusal: UploadRefused) -> None:
        if self.sound:
            self.wrong.append(f"refused for no reason: {refusal!r}")
        self._over(sent)

    def _stored(self, sent: Sent) -> Callable[[Receipt], None]:
        def stored(receipt: Receipt) -> None:
            name = str(receipt.name)
            if sent.ended or receipt.size != len(sent.content):
                self.wrong.append(f"answered wrongly: {receipt}")
            if name in self.names:
                self.wrong.append(f"a name was used twice: {receipt}")
            if contents(self.folder).get(name) != sent.content:
                self.wrong.append(f"answered too early: {receipt}")
            self.names.add(name)
            sent.receipt = receipt
            self._over(sent)

        return stored

    def _refused(self, sent: Sent) -> Callable[[Failure], None]:
        def refused(failure: Failure) -> None:
            sent.refused = True
            if not sent.ended:
                if not isinstance(failure.value, UploadRefused) or self.sound:
                    self.wrong.append(f"refused for no reason: {failure.value!r}")
                self._over(sent)

        return refused

    def _over(self, sent: Sent) -> None:
        sent.ended = True
        if sent in self.living:
            self.living.remove(sent)

    # What the disk and the machine do

    @precondition(lambda self: self.disk.waiting)
    @rule(jobs=st.integers(1, 4))
    def work(self, jobs: int) -> None:
        """The disk does some of its jobs."""
        self.disk.work(jobs)

    @precondition(lambda self: self.disk.waiting)
    @rule()
    def work_off(self) -> None:
        """The disk does all of its jobs."""
        self.disk.work()

    @precondition(lambda self: self.disk.waiting)
    @rule(
        call=st.sampled_from(WRITE_PATH) | st.sampled_from(CALLS),
        error=st.sampled_from(ERRORS),
        after=st.integers(0, 3),
    )
    def fail(self, call: str, error: int, after: int) -> None:
        """A system call fails while the disk works."""
        self.sound = False
        if call == "unlink":
            self.clean = False
            for sent in self.living:
                sent.lingers = True
        self.files.fail(call, error, after=after)
        self.disk.work()
        self.files.heal()

    @precondition(lambda self: not self.store.health.well)
    @rule()
    def heal(self) -> None:
        """The daemon detects that the disk works again."""
        self.clock.advance(SELF_TEST_INTERVAL)
        self.disk.work()
        assert self.store.health.well

    @precondition(lambda self: self.disk.waiting)
    @rule(calls=st.integers(0, 40))
    def crash(self, calls: int) -> None:
        """The daemon dies while the disk works, and another one starts on the folder."""
        self.files.calls_left = calls
        with contextlib.suppress(Killed):
            self.disk.work()
        self.files.bury()
        before = contents(self.folder)
        for sent in self.sent:
            sent.lingers = True  # it may be whole without having been acknowledged
        for sent in [*self.living]:
            self._over(sent)
        self.start()
        assert contents(self.folder) == before

    @precondition(lambda self: self.sent)
    @rule()
    def restart(self) -> None:
        """The daemon stops normally, and another one starts on the folder."""
        for sent in [*self.living]:
            if sent.committed is None:
                self._over(sent)
                sent.incoming.abort()
        self.disk.work()
        self._stop()
        self.start()

    def _stop(self) -> None:
        self.store.close()
        for claim in self.files.claimed:  # as at the end of the process
            disclaim(*claim)

    @rule(seconds=st.sampled_from([-86400, -10, -0.001, 0.001, 10, 86400]))
    def set_clock(self, seconds: float) -> None:
        """The clock of the machine is set."""
        self.now += seconds

    @precondition(lambda self: any(sent.receipt and not sent.taken for sent in self.sent))
    @rule()
    def take_away(self) -> None:
        """The stored files are taken away."""
        for sent in self.sent:
            if sent.receipt is not None and not sent.taken:
                sent.taken = True
                (self.folder / str(sent.receipt.name)).unlink()

    @precondition(lambda self: bool(leftovers(self.folder)))
    @rule()
    def neighbour(self) -> None:
        """A second daemon starts on the folder, and removes nothing of the first."""
        other = open_store(self.folder, ManualDisk(), files=FaultyFiles())
        other.close()

    # The promise

    @invariant()
    def acknowledged_files_are_there(self) -> None:
        """Each acknowledged file is there under the name in its receipt, whole."""
        visible = contents(self.folder)
        for sent in self.sent:
            if sent.receipt is not None and not sent.taken:
                assert visible[str(sent.receipt.name)] == sent.content

    @invariant()
    def answers_are_true(self) -> None:
        """
        Success is reported at most once, before the sender disconnects; all else is a
        refusal.
        """
        assert self.wrong == []

    @invariant()
    def nothing_partial_is_visible(self) -> None:
        """Each visible file is a whole upload that was committed, and is there once."""
        whole = {sent.content: sent for sent in self.sent if sent.committed is not None}
        seen = Counter(contents(self.folder).values())
        for content, times in seen.items():
            assert content in whole, f"visible, but not whole: {content[:20]!r}"
            assert times == 1, f"there {times} times: {content[:20]!r}"
            sent = whole[content]
            if sent.refused and not sent.lingers:
                raise AssertionError(f"visible, but refused: {content[:20]!r}")

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """While the disk is idle, all files and file descriptors belong to uploads in flight."""
        if hasattr(self, "disk") and not self.disk.waiting:
            assert len(self.files.opened) <= len(self.living)
            assert not self.clean or len(leftovers(self.folder)) <= len(self.living)

    @invariant()
    def no_sender_stays_paused(self) -> None:
        """While the disk is idle, every sender that has not sent everything may send."""
        if hasattr(self, "disk") and not self.disk.waiting:
            for sent in self.living:
                assert sent.committed is not None or not sent.producer.paused

    def teardown(self) -> None:
        """When all senders have disconnected and the disk is idle, nothing unfinished is left."""
        try:
            if not hasattr(self, "store"):
                return
            for sent in [*self.living]:
                if sent.committed is None:
                    self._over(sent)
                    sent.incoming.abort()
            self.disk.work()
            self.acknowledged_files_are_there()
            self.answers_are_true()
            assert self.store.memory.held == 0
            self.nothing_is_left_behind()
            for sent in self.sent:
                assert sent.ended
            if self.clean:
                stored = [*contents(self.folder).values()]
                for sent in self.sent:
                    assert (sent.content in stored) <= (not sent.refused or sent.life < self.lives)
            self._stop()
            self.start()
            self._stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


TestStoreMachine = pytest.mark.timeout(900)(StoreMachine.TestCase)
TestStoreMachine.settings = settings(
    max_examples=2000 if os.environ.get("LONG_TESTS") else 100,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
