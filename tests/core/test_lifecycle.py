"""
What may happen to an upload, and when: no sockets, files or clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_upload.core.lifecycle import Upload, new_upload
from twisted_upload.errors import Busy, Empty, NoSpace, ShuttingDown, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore, Receipt
from twisted_upload.stores.memory import MemoryIncoming, MemoryStore


class RecordingSender:
    """
    A door without a wire.

    :ivar told: what the sender would have heard, and how often.
    :ivar reported: the ends.
    :ivar events: both, in the order they came.
    """

    def __init__(self) -> None:
        self.told: list[Receipt | UploadRefused] = []
        self.reported: list[str] = []
        self.events: list[str] = []
        self.incoming: IIncomingUpload | None = None
        self.by_silence: bool | None = None
        self.heard: bool | None = None
        self.connected = True

    def arrival(self) -> Arrival:
        return Arrival("192.0.2.7:50123")

    def began(self, incoming: IIncomingUpload) -> None:
        assert self.incoming is None, "began twice"
        self.incoming = incoming

    def tell_kept(self, receipt: Receipt) -> None:
        self.told.append(receipt)
        self.events.append("tell")

    def tell_refused(self, refusal: UploadRefused) -> None:
        self.told.append(refusal)
        self.events.append("tell")

    def report_kept(self, receipt: Receipt, *, by_silence: bool, heard: bool) -> None:
        self._report("kept")
        self.by_silence, self.heard = by_silence, heard

    def report_refused(self, refusal: UploadRefused) -> None:
        self._report("refused")

    def report_lost(self) -> None:
        self._report("lost")

    def report_unused(self) -> None:
        self._report("unused")

    def broke(self) -> None:
        self.events.append("broke")

    def _report(self, end: str) -> None:
        self.reported.append(end)
        self.events.append("report")

    @property
    def codes(self) -> list[str]:
        """What the sender has heard, in a word each."""
        return [one.code if isinstance(one, UploadRefused) else "kept" for one in self.told]


@pytest.fixture
def frontend() -> RecordingSender:
    return RecordingSender()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 1_795_328_130.123)


@pytest.fixture
def upload(frontend: RecordingSender, store: MemoryStore) -> Upload:
    return new_upload(frontend, store)


def _kept(store: MemoryStore) -> list[bytes]:
    return [*store.files.values()]


class BriefStore(MemoryStore):
    """Its incoming uploads can also commit without a Deferred (`ICommitsTo`)."""

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        incoming: Any = super().begin(arrival, failed)
        commit = incoming.commit

        def commit_to(
            kept: Callable[[Receipt], object], failed: Callable[[UploadRefused], object]
        ) -> Callable[[], None]:
            done: Deferred[Receipt] = commit()
            given_up: list[bool] = []
            done.addCallbacks(kept, lambda failure: given_up or failed(failure.value))

            def give_up() -> None:
                given_up.append(True)
                done.cancel()

            return give_up

        incoming.commit_to = commit_to
        incoming.commit = None
        return incoming  # type: ignore[no-any-return]


# -- waiting ------------------------------------------------------------------


def test_takes_nothing_for_nothing(upload: Upload, store: MemoryStore) -> None:
    """Before the first byte, nothing is taken from the store."""
    assert store.unfinished == []
    upload.received(b"x")
    assert len(store.unfinished) == 1


def test_unused(upload: Upload, frontend: RecordingSender) -> None:
    """A connection that goes without a byte was no upload."""
    upload.lost()
    assert frontend.reported == ["unused"]
    assert frontend.told == []


def test_empty(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """Nothing before the end is refused as empty, and is no upload either."""
    upload.ended()
    assert frontend.codes == [Empty.code]
    assert frontend.reported == ["unused"]
    assert store.unfinished == []


def test_empty_allowed(frontend: RecordingSender, store: MemoryStore) -> None:
    """Where empty uploads are allowed, one is kept."""
    new_upload(frontend, store, allow_empty=True).ended()
    assert frontend.codes == ["kept"]
    assert frontend.reported == ["kept"]
    assert _kept(store) == [b""]


def test_turned_away(upload: Upload, frontend: RecordingSender) -> None:
    """A refusal that comes before the first byte is told."""
    upload.refused(ShuttingDown())
    assert frontend.codes == ["shutting-down"]
    assert frontend.reported == ["refused"]


# -- receiving ----------------------------------------------------------------


def test_kept(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """Bytes and an end make a kept file, and success is told."""
    upload.received(b"one ")
    upload.received(b"two")
    upload.ended()
    assert frontend.codes == ["kept"]
    assert frontend.reported == ["kept"]
    assert (frontend.by_silence, frontend.heard) == (False, True)
    assert _kept(store) == [b"one two"]


def test_told_before_reported(upload: Upload, frontend: RecordingSender) -> None:
    """The sender hears first, the log second."""
    upload.received(b"x")
    upload.ended()
    assert frontend.events == ["tell", "report"]


def test_lost(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """A connection that breaks before the end loses the upload, and nothing is kept."""
    upload.received(b"half a file")
    upload.lost()
    assert frontend.reported == ["lost"]
    assert frontend.told == []
    assert store.unfinished == []
    assert _kept(store) == []


def test_refused_by_the_door(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """A door that refuses on the way leaves nothing in the store."""
    upload.received(b"half a file")
    upload.refused(Busy())
    assert frontend.codes == ["busy"]
    assert frontend.reported == ["refused"]
    assert store.unfinished == []


def test_refused_by_the_store(
    upload: Upload, frontend: RecordingSender, store: MemoryStore
) -> None:
    """A store that fails on the way is told to the sender."""
    upload.received(b"half a file")
    store.unfinished[0].fail(NoSpace())
    upload.received(b"more")
    upload.ended()
    assert frontend.codes == ["no-space"]
    assert frontend.reported == ["refused"]
    assert _kept(store) == []


def test_refused_at_the_first_byte(
    upload: Upload, frontend: RecordingSender, store: MemoryStore
) -> None:
    """A store that takes nothing is told to the sender at its first byte."""
    store.refusing = Busy()
    upload.received(b"first")
    assert frontend.codes == ["busy"]
    assert frontend.incoming is None
    upload.received(b"second")
    upload.ended()
    upload.lost()
    assert frontend.codes == ["busy"]
    assert frontend.reported == ["refused"]


def test_ended_by_silence(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """Silence that counts as the end keeps the file, and the log knows it."""
    upload.received(b"content")
    upload.fell_silent()
    assert frontend.codes == ["kept"]
    assert frontend.by_silence is True
    assert _kept(store) == [b"content"]


def test_whole(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """An upload that has come at once, with its end, is kept as any other."""
    upload.came_whole([b"one ", b"two"])
    assert _kept(store) == [b"one two"]
    assert frontend.codes == ["kept"]
    assert frontend.events == ["tell", "report"]
    assert frontend.by_silence is False


def test_whole_and_refused(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """So is one refused that the store does not take, and nothing of it is written."""
    store.refusing = Busy()
    upload.came_whole([b"one ", b"two"])
    assert (frontend.codes, frontend.reported) == (["busy"], ["refused"])
    assert store.unfinished == []


def test_whole_and_broken(
    upload: Upload, frontend: RecordingSender, store: MemoryStore, expected_errors: list[str]
) -> None:
    """A store that raises in between costs that upload, which is refused; it is logged."""
    expected_errors.append("ZeroDivisionError")

    def broken(_: bytes) -> None:
        raise ZeroDivisionError

    store.begin = _patched(store.begin, broken)  # type: ignore[method-assign]
    upload.came_whole([b"one"])
    assert (frontend.codes, frontend.reported) == ([StoreFailed.code], ["refused"])
    assert store.unfinished == []


@pytest.mark.parametrize("call", ["begin", "write"])
def test_whole_and_failing(
    upload: Upload, frontend: RecordingSender, store: MemoryStore, call: str
) -> None:
    """A store that tells its failure before the end is told to abort, and never to commit."""
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
    assert (frontend.codes, frontend.reported) == (["no-space"], ["refused"])


def _patched(begin: Callable[..., Any], write: Callable[[bytes], None]) -> Callable[..., Any]:
    def patched(*arguments: Any) -> Any:
        incoming = begin(*arguments)
        incoming.write = write
        return incoming

    return patched


# -- storing ------------------------------------------------------------------


@pytest.fixture
def storing(upload: Upload, store: MemoryStore) -> Upload:
    store.holding = True
    upload.received(b"content")
    upload.ended()
    return upload


def test_success_waits(storing: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """Nothing is told before the store has kept it."""
    assert frontend.told == []
    assert frontend.reported == []
    store.release()
    assert frontend.codes == ["kept"]


def test_lost_while_storing(storing: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """A peer that leaves before the answer forfeits the answer, not the file."""
    storing.lost()
    assert frontend.reported == []
    store.release()
    assert frontend.told == []
    assert frontend.reported == ["kept"]
    assert frontend.heard is False
    assert _kept(store) == [b"content"]


def test_failed_while_storing(
    storing: Upload, frontend: RecordingSender, store: MemoryStore
) -> None:
    """A store that fails at the end is told to the sender."""
    store.failing = NoSpace()
    store.release()
    assert frontend.codes == ["no-space"]
    assert frontend.reported == ["refused"]


def test_failed_unheard(storing: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """Where nobody hears it, it is in the log."""
    store.failing = NoSpace()
    storing.lost()
    store.release()
    assert frontend.told == []
    assert frontend.reported == ["refused"]


@pytest.mark.parametrize("lost", [False, True])
def test_refused_while_storing(
    storing: Upload, frontend: RecordingSender, store: MemoryStore, lost: bool
) -> None:
    """A refusal while the store keeps it gives it up: nothing is kept, no success is told."""
    if lost:
        storing.lost()
    storing.refused(ShuttingDown())
    store.release()
    assert frontend.codes == ([] if lost else ["shutting-down"])
    assert frontend.reported == ["refused"]
    assert _kept(store) == []
    assert store.unfinished == []


def test_bytes_after_silence(upload: Upload, frontend: RecordingSender, store: MemoryStore) -> None:
    """Bytes and an end that come after the silence that ended it are too late."""
    store.holding = True
    upload.received(b"content")
    upload.fell_silent()
    upload.received(b"more")
    upload.ended()
    store.release()
    assert _kept(store) == [b"content"]
    assert frontend.reported == ["kept"]


# -- a store that is not as it should be --------------------------------------


@implementer(IUploadStore)
class BrokenStore:
    """A store whose `begin` raises what it should not."""

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        raise ZeroDivisionError


def test_broken_begin(frontend: RecordingSender, expected_errors: list[str]) -> None:
    """A store that breaks its promise at the beginning costs the upload, and is logged."""
    expected_errors.append("ZeroDivisionError")
    new_upload(frontend, BrokenStore()).received(b"x")
    assert frontend.codes == [StoreFailed.code]
    assert frontend.reported == ["refused"]


@pytest.mark.parametrize("call", ["commit", "abort", "cancel"])
def test_broken_calls(
    frontend: RecordingSender, store: MemoryStore, expected_errors: list[str], call: str
) -> None:
    """A store that raises where it must not costs that upload, which ends all the same."""
    expected_errors.append("ZeroDivisionError")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    store.holding = True
    upload = new_upload(frontend, store)
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
    assert frontend.codes == [StoreFailed.code]
    assert frontend.reported == ["refused"]


@pytest.mark.parametrize("end", ["kept", "refused", "store failed"])
def test_answer_that_cannot_be_sent(
    frontend: RecordingSender, store: MemoryStore, end: str
) -> None:
    """An upload ends, and its door hears of it, whatever goes wrong with its answer."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    frontend.tell_kept = broken  # type: ignore[method-assign,assignment]
    frontend.tell_refused = broken  # type: ignore[method-assign,assignment]
    store.holding = True
    upload = new_upload(frontend, store)
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
    assert frontend.reported == ["kept" if end == "kept" else "refused"]
    assert frontend.events.count("broke") == (end != "refused")


def test_broken_commit(
    storing: Upload, frontend: RecordingSender, store: MemoryStore, expected_errors: list[str]
) -> None:
    """The same at the end."""
    expected_errors.append("ZeroDivisionError")
    store.failing = ZeroDivisionError()  # type: ignore[assignment]
    store.release()
    assert frontend.codes == [StoreFailed.code]
    assert frontend.reported == ["refused"]


@pytest.mark.parametrize("call", ["write", "commit", "abort"])
def test_failing_within_a_call(upload: Upload, frontend: RecordingSender, call: str) -> None:
    """A store may tell its failure from within any call: it is told once."""
    upload.received(b"first")
    incoming = frontend.incoming
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
        assert frontend.codes == ["busy"]
    else:
        upload.received(b"second") if call == "write" else upload.ended()
        assert frontend.codes == ["no-space"]
    assert frontend.reported == ["refused"]


# -- any order ----------------------------------------------------------------

# What a door can be told by a transport, a timer, a store or an operator, in
# any order that a door can tell it in: nothing but a refusal after the loss of
# the connection, no bytes after the half-close, silence only before the end.
_ACTS = st.sampled_from(
    [
        "received",
        "ended",
        "came_whole",
        "fell_silent",
        "lost",
        "refused",
        "store fails",
        "store refuses",
        "store holds",
        "store releases",
        "commit fails",
    ]
)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(acts=st.lists(_ACTS, max_size=10), allow_empty=st.booleans(), brief=st.booleans())
def test_any_order(acts: list[str], allow_empty: bool, brief: bool) -> None:
    """Any order of events ends once, in kept, refused or lost; success is told iff kept."""
    frontend, store = RecordingSender(), (BriefStore if brief else MemoryStore)(lambda: 0.0)
    upload = new_upload(frontend, store, allow_empty=allow_empty)
    received = b""
    half_closed = silent = lost = False

    for act in acts:
        over = bool(frontend.reported)
        if act == "came_whole" and not (received or half_closed or lost or over):
            received, half_closed = b"xx", True
            upload.came_whole([b"x", b"x"])
        elif act == "received" and not (half_closed or lost):
            received += b"" if silent else b"x"
            upload.received(b"x")
        elif act == "ended" and not (half_closed or lost):
            half_closed = True
            upload.ended()
        elif act == "fell_silent" and received and not (half_closed or silent or lost or over):
            silent = True
            upload.fell_silent()
        elif act == "lost" and not lost:
            lost = True
            upload.lost()
        elif act == "refused":
            upload.refused(ShuttingDown())
        elif act == "store fails" and store.unfinished and not (half_closed or silent):
            store.unfinished[0].fail(NoSpace())
        elif act == "store refuses":
            store.refusing = Busy()
        elif act == "store holds":
            store.holding = True
        elif act == "store releases":
            store.release()
        elif act == "commit fails":
            store.failing = StoreFailed()
        assert len(frontend.reported) <= 1
        assert len(frontend.told) <= 1
        assert not (lost and len(frontend.told) and frontend.events[-1] == "tell")

    upload.lost() if not lost else None
    store.release()
    assert len(frontend.reported) == 1
    (end,) = frontend.reported
    assert (end == "kept") == (_kept(store) == [received])
    assert (end == "kept") or _kept(store) == []
    if "kept" in frontend.codes:
        assert end == "kept"
    if end == "lost":
        assert frontend.told == []
    if end == "kept" and frontend.heard:
        assert frontend.codes == ["kept"]
    if end == "unused":
        assert received == b""
    assert store.unfinished == []
