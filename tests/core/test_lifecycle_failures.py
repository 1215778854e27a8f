"""
Uploads whose store breaks its contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tests.support.lifecycle import RecordingSender
from twisted_upload.core.lifecycle import Upload, new_upload
from twisted_upload.errors import Busy, Empty, NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore
from twisted_upload.stores.memory import MemoryIncoming, MemoryStore


@implementer(IUploadStore)
class BrokenStore:
    """A store whose `begin` raises an exception that it must not raise."""

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        raise ZeroDivisionError


def test_broken_begin(sender: RecordingSender, expected_errors: list[str]) -> None:
    """If `begin` raises an unexpected exception, the upload is refused and the error logged."""
    expected_errors.append("ZeroDivisionError")
    new_upload(sender, BrokenStore()).received(b"x")
    assert sender.codes == [StoreFailed.code]
    assert sender.reported == ["refused"]


def test_empty_upload_of_a_simple_store(sender: RecordingSender) -> None:
    """A store that cannot say in advance what it refuses is not asked."""
    new_upload(sender, BrokenStore()).ended()
    assert sender.codes == [Empty.code]
    assert sender.reported == ["unused"]


def test_broken_refusal(sender: RecordingSender, expected_errors: list[str]) -> None:
    """A store that raises when it is asked is logged, and is not ready."""
    expected_errors.append("ZeroDivisionError")

    class Broken(MemoryStore):
        def refusal(self) -> UploadRefused | None:
            raise ZeroDivisionError

    new_upload(sender, Broken(lambda: 0.0)).ended()
    assert sender.codes == [StoreFailed.code]
    assert sender.reported == ["unused"]


@pytest.mark.parametrize("call", ["commit", "abort", "cancel"])
def test_broken_calls(
    sender: RecordingSender, store: MemoryStore, expected_errors: list[str], call: str
) -> None:
    """If any other method raises, that upload fails, and still ends."""
    expected_errors.append("ZeroDivisionError")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    store.holding = True
    upload = new_upload(sender, store)
    upload.received(b"x")
    (incoming,) = store.unfinished
    if call != "cancel":
        setattr(incoming, call, broken)
    if call != "abort":
        upload.ended()
    if call == "cancel":
        assert incoming._committed is not None
        incoming._committed._canceller = broken
    if call != "commit":
        upload.refused(StoreFailed())
    assert sender.codes == [StoreFailed.code]
    assert sender.reported == ["refused"]


@pytest.mark.parametrize("end", ["stored", "refused", "store failed"])
def test_answer_cannot_be_sent(sender: RecordingSender, store: MemoryStore, end: str) -> None:
    """If an answer cannot be sent, the upload still ends, and its sender is disconnected."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    sender.tell_stored = broken  # type: ignore[method-assign,assignment]
    sender.tell_refused = broken  # type: ignore[method-assign,assignment]
    store.holding = True
    upload = new_upload(sender, store)
    upload.received(b"x")
    (incoming,) = store.unfinished
    if end == "refused":
        with pytest.raises(ZeroDivisionError):
            upload.refused(StoreFailed())
    elif end == "store failed":
        incoming.fail(StoreFailed())
    else:
        upload.ended()
        store.release()
    assert sender.reported == ["stored" if end == "stored" else "refused"]
    assert sender.events.count("broke") == (end != "refused")


def test_broken_commit(
    storing: Upload, sender: RecordingSender, store: MemoryStore, expected_errors: list[str]
) -> None:
    """The same for an unexpected failure of `commit`."""
    expected_errors.append("ZeroDivisionError")
    store.failing = ZeroDivisionError()  # type: ignore[assignment]
    store.release()
    assert sender.codes == [StoreFailed.code]
    assert sender.reported == ["refused"]


@pytest.mark.parametrize("call", ["write", "commit", "abort"])
def test_failing_within_a_call(upload: Upload, sender: RecordingSender, call: str) -> None:
    """A store may report its failure during any call: the sender is told once."""
    upload.received(b"first")
    incoming = sender.incoming
    assert isinstance(incoming, MemoryIncoming)
    real: Callable[..., Any] = getattr(incoming, call)

    def failing(*arguments: Any) -> Any:
        incoming.fail(NoSpace())
        if call == "commit":
            return Deferred()
        return real(*arguments)

    setattr(incoming, call, failing)
    if call == "abort":
        upload.refused(Busy())
        assert sender.codes == ["busy"]
    else:
        upload.received(b"second") if call == "write" else upload.ended()
        assert sender.codes == ["no-space"]
    assert sender.reported == ["refused"]
