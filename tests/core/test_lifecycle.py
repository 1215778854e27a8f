"""
The lifecycle of an upload, without sockets, files or clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from zope.interface import implementer

from tests.support.lifecycle import RecordingSender, stored_in
from twisted_upload.core.lifecycle import Upload, new_upload
from twisted_upload.errors import Busy, Empty, NoSpace, ShuttingDown, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival, IMayBeVisible
from twisted_upload.stores.memory import MemoryStore

# -- waiting ------------------------------------------------------------------


def test_no_store_before_the_first_byte(upload: Upload, store: MemoryStore) -> None:
    """Before the first byte, the store is not called."""
    assert store.unfinished == []
    upload.received(b"x")
    assert len(store.unfinished) == 1


def test_unused(upload: Upload, sender: RecordingSender) -> None:
    """A connection that closes without a byte is not an upload."""
    upload.lost()
    assert sender.reported == ["unused"]
    assert sender.told == []


def test_empty(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """An end without a byte is refused as empty, and is not an upload either."""
    upload.ended()
    assert sender.codes == [Empty.code]
    assert sender.reported == ["unused"]
    assert store.unfinished == []


@pytest.mark.parametrize("refusal", [NoSpace(), StoreFailed(), Busy()])
def test_empty_while_the_store_refuses(
    refusal: UploadRefused, upload: Upload, sender: RecordingSender, store: MemoryStore
) -> None:
    """A sender that checks a server by sending nothing is told why a file would be refused."""
    store.refusing = refusal
    upload.ended()
    assert sender.told == [refusal]
    assert sender.reported == ["unused"]


def test_empty_allowed(sender: RecordingSender, store: MemoryStore) -> None:
    """If empty uploads are allowed, an empty file is stored."""
    new_upload(sender, store, allow_empty=True).ended()
    assert sender.codes == ["stored"]
    assert sender.reported == ["stored"]
    assert stored_in(store) == [b""]


def test_rejected(upload: Upload, sender: RecordingSender) -> None:
    """A refusal before the first byte is sent as the answer."""
    upload.refused(ShuttingDown())
    assert sender.codes == ["shutting-down"]
    assert sender.reported == ["refused"]


# -- receiving ----------------------------------------------------------------


def test_stored(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """Bytes and an end make a stored file, and the sender is told success."""
    upload.received(b"one ")
    upload.received(b"two")
    upload.ended()
    assert sender.codes == ["stored"]
    assert sender.reported == ["stored"]
    assert (sender.ended_by_idle, sender.answered) == (False, True)
    assert stored_in(store) == [b"one two"]


def test_answered_before_reported(upload: Upload, sender: RecordingSender) -> None:
    """The sender is answered before the outcome is logged."""
    upload.received(b"x")
    upload.ended()
    assert sender.events == ["tell", "report"]


def test_aborted(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """A connection that breaks before the end aborts the upload, and nothing is stored."""
    upload.received(b"half a file")
    upload.lost()
    assert sender.reported == ["aborted"]
    assert sender.told == []
    assert store.unfinished == []
    assert stored_in(store) == []


def test_refused_by_the_front_end(
    upload: Upload, sender: RecordingSender, store: MemoryStore
) -> None:
    """If the front end refuses during the transfer, nothing remains in the store."""
    upload.received(b"half a file")
    upload.refused(Busy())
    assert sender.codes == ["busy"]
    assert sender.reported == ["refused"]
    assert store.unfinished == []


def test_refused_by_the_store(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """If the store fails during the transfer, the sender is told."""
    upload.received(b"half a file")
    store.unfinished[0].fail(NoSpace())
    upload.received(b"more")
    upload.ended()
    assert sender.codes == ["no-space"]
    assert sender.reported == ["refused"]
    assert stored_in(store) == []


def test_refused_at_the_first_byte(
    upload: Upload, sender: RecordingSender, store: MemoryStore
) -> None:
    """If the store refuses an upload, the sender is told at the first byte."""
    store.refusing = Busy()
    upload.received(b"first")
    assert sender.codes == ["busy"]
    assert sender.incoming is None
    upload.received(b"second")
    upload.ended()
    upload.lost()
    assert sender.codes == ["busy"]
    assert sender.reported == ["refused"]


def test_ended_by_idle(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """If silence ends an upload, the file is stored, and the outcome records it."""
    upload.received(b"content")
    upload.fell_silent()
    assert sender.codes == ["stored"]
    assert sender.ended_by_idle is True
    assert stored_in(store) == [b"content"]


def test_whole(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """An upload that arrives at once, including its end, is stored like any other."""
    upload.came_whole([b"one ", b"two"])
    assert stored_in(store) == [b"one two"]
    assert sender.codes == ["stored"]
    assert sender.events == ["tell", "report"]
    assert sender.ended_by_idle is False


def test_whole_and_refused(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """The store can refuse such an upload, and nothing of it is written."""
    store.refusing = Busy()
    upload.came_whole([b"one ", b"two"])
    assert (sender.codes, sender.reported) == (["busy"], ["refused"])
    assert store.unfinished == []


def test_whole_and_broken(
    upload: Upload, sender: RecordingSender, store: MemoryStore, expected_errors: list[str]
) -> None:
    """If the store raises during such an upload, the upload is refused and the error logged."""
    expected_errors.append("ZeroDivisionError")

    def broken(_: bytes) -> None:
        raise ZeroDivisionError

    store.begin = _patched(store.begin, broken)  # type: ignore[method-assign]
    upload.came_whole([b"one"])
    assert (sender.codes, sender.reported) == ([StoreFailed.code], ["refused"])
    assert store.unfinished == []


@pytest.mark.parametrize("call", ["begin", "write"])
def test_whole_and_failing(
    upload: Upload, sender: RecordingSender, store: MemoryStore, call: str
) -> None:
    """After a store reports a failure before the end, abort is called, and never commit."""
    told: list[str] = []
    begin = store.begin

    def failing_begin(arrival: Arrival, failed: Callable[[UploadRefused], None]) -> Any:
        incoming: Any = begin(arrival, failed)
        for name in "commit", "abort":
            setattr(incoming, name, partial(told.append, name))
        if call == "begin":
            failed(NoSpace())
        else:
            incoming.write = lambda _: failed(NoSpace())
        return incoming

    store.begin = failing_begin  # type: ignore[method-assign]
    upload.came_whole([b"one"])
    assert told == ["abort"]
    assert (sender.codes, sender.reported) == (["no-space"], ["refused"])


def _patched(begin: Callable[..., Any], write: Callable[[bytes], None]) -> Callable[..., Any]:
    def patched(*arguments: Any) -> Any:
        incoming = begin(*arguments)
        incoming.write = write
        return incoming

    return patched


# -- storing ------------------------------------------------------------------


def test_success_waits(storing: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """The sender is told nothing before the store has stored the file."""
    assert sender.told == []
    assert sender.reported == []
    store.release()
    assert sender.codes == ["stored"]


def test_disconnected_while_storing(
    storing: Upload, sender: RecordingSender, store: MemoryStore
) -> None:
    """If the sender disconnects before the answer, the file is still stored."""
    storing.lost()
    assert sender.reported == []
    store.release()
    assert sender.told == []
    assert sender.reported == ["stored"]
    assert sender.answered is False
    assert stored_in(store) == [b"content"]


def test_failed_while_storing(storing: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """If the store fails at the end, the sender is told."""
    store.failing = NoSpace()
    store.release()
    assert sender.codes == ["no-space"]
    assert sender.reported == ["refused"]


def test_failed_unanswered(storing: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """If the sender is gone, the refusal is still logged."""
    store.failing = NoSpace()
    storing.lost()
    store.release()
    assert sender.told == []
    assert sender.reported == ["refused"]


@pytest.mark.parametrize("lost", [False, True])
def test_refused_while_storing(
    storing: Upload, sender: RecordingSender, store: MemoryStore, lost: bool
) -> None:
    """A refusal while the store commits cancels it: nothing is stored, and success is not sent."""
    if lost:
        storing.lost()
    storing.refused(ShuttingDown())
    store.release()
    assert sender.codes == ([] if lost else ["shutting-down"])
    assert sender.reported == ["refused"]
    assert stored_in(store) == []
    assert store.unfinished == []


def test_bytes_after_idle_end(upload: Upload, sender: RecordingSender, store: MemoryStore) -> None:
    """Bytes and an end that arrive after the idle end are ignored."""
    store.holding = True
    upload.received(b"content")
    upload.fell_silent()
    upload.received(b"more")
    upload.ended()
    store.release()
    assert stored_in(store) == [b"content"]
    assert sender.reported == ["stored"]


# -- refused too late ----------------------------------------------------------


@implementer(IMayBeVisible)
class _Visible:
    """What a store knows of an upload whose commit was abandoned."""

    def __init__(self, visible: bool | None) -> None:
        self._visible = visible

    def may_be_visible(self) -> bool:
        if self._visible is None:
            raise RuntimeError("a defect of the store")
        return self._visible


@pytest.mark.parametrize(
    ("visible", "events"),
    [(False, ["tell", "report"]), (True, ["hang up", "report"]), (None, ["hang up", "report"])],
)
def test_refused_too_late(
    visible: bool | None,
    events: list[str],
    storing: Any,
    sender: RecordingSender,
    expected_errors: list[str],
) -> None:
    """
    A sender is not told that its upload is refused if its file may be visible, or if the
    store does not know that.
    """
    expected_errors.append("a defect of the store")
    storing.incoming = _Visible(visible)
    storing.refused(ShuttingDown())
    assert sender.events == events
    assert sender.reported == ["refused"]
