"""
Any order of events keeps the promise of partial uploads.

Hypothesis creates uploads, becomes their writer once or several times at once, writes,
commits, aborts, asks for offsets, lets the disk do some of its jobs, breaks any system
call, kills the daemon between any two, and starts it again.  At every moment, only whole
uploads are visible, each once; no offset that was told goes back; and in the end each
upload can be completed, with the bytes that were sent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock

from tests.support.mortal_files import Killed, MortalFiles
from tests.support.partials import ManualRig
from twisted_upload.disk.files import Files
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload
from twisted_upload.stores.health import SELF_TEST_INTERVAL
from twisted_upload.stores.turns import GRACE

CALLS = [call for call in vars(Files) if not call.startswith("_")]
ERRORS = [errno.EIO, errno.ENOSPC, errno.EMFILE]
LENGTHS = st.sampled_from([3, 1_000, 300_000, 700_000])


class Sent:
    """
    What a client knows of its upload.

    :ivar told: the largest offset that it has been told.
    :ivar stored: it has been told that it is stored.
    :ivar gone: it may have been removed: the store said that it has lost it.
    """

    def __init__(self, number: int, length: int) -> None:
        self.content = (b"%d;" % number * length)[:length]
        self.length = length
        self.identity: str | None = None
        self.told = 0
        self.stored = False
        self.gone = False


class Writer:
    """A request that continues an upload."""

    def __init__(self, sent: Sent, obeys: bool) -> None:
        self.sent = sent
        self.obeys = obeys
        self.append: Any = None
        self.at = 0
        self.over = False


class PartialsMachine(RuleBasedStateMachine):
    """One drop folder, and the daemons that use it one after another."""

    rig: ManualRig
    files: MortalFiles

    def __init__(self) -> None:
        super().__init__()
        where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="partials-machine-", dir=where))
        self.uploads: list[Sent] = []
        self.writers: list[Writer] = []
        self.wrong: list[str] = []
        self.by_rename = self.durable = True
        self.broken = False  # a system call has failed

    @initialize(by_rename=st.booleans(), durable=st.booleans())
    def first_start(self, by_rename: bool, durable: bool) -> None:
        """Start the first daemon on the folder."""
        self.by_rename, self.durable = by_rename, durable
        self.start()

    def start(self) -> None:
        self.files = MortalFiles()
        if not self.by_rename:
            self.files.fail("rename", errno.EINVAL)
        self.rig = ManualRig(self.folder, files=self.files, clock=Clock(), durable=self.durable)

    # Clients

    @rule(length=LENGTHS)
    def create(self, length: int) -> None:
        """A client creates an upload."""
        sent = Sent(len(self.uploads), length)
        self.uploads.append(sent)

        def created(upload: PartialUpload) -> None:
            sent.identity = upload.identity

        terms = PartialTerms(Arrival("x", length=length))
        self.rig.store.create(terms).addCallbacks(created, self._refused)

    def _refused(self, failure: Any) -> None:
        if not isinstance(failure.value, UploadRefused):
            self.wrong.append(repr(failure.value))

    def _known(self) -> list[Sent]:
        return [it for it in self.uploads if it.identity is not None and not it.gone]

    @precondition(lambda self: self._known())
    @rule(chance=st.randoms(use_true_random=False), obeys=st.booleans(), whole=st.booleans())
    def append(self, chance: Any, obeys: bool, whole: bool) -> None:
        """A client continues an upload."""
        sent = chance.choice(self._known())
        writer = Writer(sent, obeys)
        assert sent.identity is not None

        def begun(append: Any) -> None:
            if append.offset < sent.told:
                self.wrong.append(f"continued at {append.offset} after {sent.told}")
            writer.append, writer.at = append, append.offset
            self.writers.append(writer)

        def failed(refusal: UploadRefused) -> None:
            self._end(writer)
            writer.append.abort()

        def ask() -> None:
            if writer.obeys and not writer.over:
                self._commit(writer)

        appending = self.rig.store.append(sent.identity, failed, ask, whole=whole)
        appending.addCallbacks(begun, self._missed, errbackArgs=(sent,))

    def _end(self, writer: Writer) -> None:
        writer.over = True
        if writer in self.writers:
            self.writers.remove(writer)

    @precondition(lambda self: self.writers)
    @rule(chance=st.randoms(use_true_random=False), part=st.sampled_from([0.01, 0.5, 1]))
    def write(self, chance: Any, part: float) -> None:
        """A client sends more of its upload."""
        writer = chance.choice(self.writers)
        content = writer.sent.content
        until = min(len(content), writer.at + max(1, int(len(content) * part)))
        data, writer.at = content[writer.at : until], until
        writer.append.write(data)

    @precondition(lambda self: self.writers)
    @rule(chance=st.randoms(use_true_random=False), commits=st.booleans())
    def end(self, chance: Any, commits: bool) -> None:
        """A request ends, or breaks off."""
        writer = chance.choice(self.writers)
        if commits:
            self._commit(writer)
        else:
            self._end(writer)
            writer.append.abort().addErrback(self._refused)

    def _commit(self, writer: Writer) -> None:
        self._end(writer)
        committing = writer.append.commit()
        committing.addCallbacks(self._told, self._refused, callbackArgs=(writer.sent,))

    def _told(self, upload: PartialUpload, sent: Sent) -> None:
        if upload.offset < sent.told or (sent.stored and upload.receipt is None):
            self.wrong.append(f"told {upload} after {sent.told}")
        if (upload.receipt is not None) != (upload.offset == sent.length):
            self.wrong.append(f"told {upload}")
        sent.told = upload.offset
        if upload.receipt is not None:
            sent.stored = True
            visible = self.rig.stored.get(str(upload.receipt.name))
            if visible != sent.content:
                self.wrong.append(f"told too early: {upload}")

    @precondition(lambda self: self._known())
    @rule(chance=st.randoms(use_true_random=False))
    def find(self, chance: Any) -> None:
        """A client asks for the offset."""
        sent = chance.choice(self._known())
        finding = self.rig.store.find(sent.identity)
        finding.addCallbacks(self._told, self._missed, callbackArgs=(sent,), errbackArgs=(sent,))

    def _missed(self, failure: Any, sent: Sent) -> None:
        self._refused(failure)
        if failure.value.args and getattr(failure.value, "code", "") == "not-found":
            if not self.broken:
                self.wrong.append(f"gone after {sent.told}")
            sent.gone = True

    # The disk and the machine

    @precondition(lambda self: self.rig.disk.waiting)
    @rule(jobs=st.integers(1, 4))
    def work(self, jobs: int) -> None:
        """The disk does some of its jobs."""
        self.rig.disk.work(jobs)

    @rule()
    def work_off(self) -> None:
        """The disk does all of its jobs."""
        self.rig.disk.work()

    @rule()
    def wait(self) -> None:
        """Time passes: writers that have been asked to end are cut off."""
        self.rig.clock.advance(GRACE)

    @precondition(lambda self: self.rig.disk.waiting)
    @rule(call=st.sampled_from(CALLS), error=st.sampled_from(ERRORS), after=st.integers(0, 3))
    def fail(self, call: str, error: int, after: int) -> None:
        """A system call fails while the disk works; then it works again."""
        self.broken = True
        self.files.fail(call, error, after=after)
        self.rig.disk.work()
        self.files.heal()
        while not self.rig.store.health.well:
            self.rig.clock.advance(SELF_TEST_INTERVAL)
            self.rig.disk.work()

    @rule(calls=st.integers(0, 30))
    def crash(self, calls: int) -> None:
        """The daemon dies while the disk works, and another one starts on the folder."""
        self.files.calls_left = calls
        with contextlib.suppress(Killed):
            self.rig.disk.work()
        self.files.bury()
        self.writers.clear()
        self.start()

    # The promise

    @invariant()
    def answers_are_true(self) -> None:
        """No client has been told anything that is not so."""
        assert self.wrong == []

    @invariant()
    def only_whole_uploads_are_visible(self) -> None:
        """Each visible file is a whole upload, and is there once; what is stored is there."""
        if not hasattr(self, "rig"):
            return
        seen = Counter(self.rig.stored.values())
        whole = {sent.content for sent in self.uploads}
        for content, times in seen.items():
            assert content in whole
            assert times == 1 or self.broken
        for sent in self.uploads:
            assert not sent.stored or sent.content in seen

    def teardown(self) -> None:
        """Each upload can be completed, and is stored once."""
        try:
            if not hasattr(self, "rig"):
                return
            self.rig.disk.work()
            while self.writers:
                self._commit(self.writers[0])
                self.rig.disk.work()
            for sent in self._known():
                self._complete(sent)
            self.answers_are_true()
            self.only_whole_uploads_are_visible()
            assert self.rig.store.memory.held == 0
            self.rig.close()
        finally:
            self.files.bury()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _complete(self, sent: Sent) -> None:
        assert sent.identity is not None
        found = self.rig.find(sent.identity)
        if isinstance(found, UploadRefused):
            assert self.broken, found
            return
        assert found.offset >= sent.told
        if found.receipt is None:
            found = self.rig.write(sent.identity, sent.content[found.offset :])
        assert found.receipt is not None, found
        assert self.rig.stored[str(found.receipt.name)] == sent.content


TestPartialsMachine = pytest.mark.timeout(900)(PartialsMachine.TestCase)
TestPartialsMachine.settings = settings(
    max_examples=1000 if os.environ.get("LONG_TESTS") else 60,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
