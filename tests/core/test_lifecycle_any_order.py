"""
The events of an upload's lifecycle, in any order.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lifecycle import BriefStore, RecordingSender, stored_in
from twisted_upload.core.lifecycle import new_upload
from twisted_upload.errors import Busy, NoSpace, ShuttingDown, StoreFailed
from twisted_upload.stores.memory import MemoryStore

# The events that a transport, a timer, a store or an operator can report, in any order
# that is possible: only a refusal after the loss of the connection, no bytes after the
# half-close, silence only before the end.
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
    """Any order of events has one outcome; success is sent if and only if the file is stored."""
    sender, store = RecordingSender(), (BriefStore if brief else MemoryStore)(lambda: 0.0)
    upload = new_upload(sender, store, allow_empty=allow_empty)
    received = b""
    half_closed = silent = lost = False

    for act in acts:
        over = bool(sender.reported)
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
        assert len(sender.reported) <= 1
        assert len(sender.told) <= 1
        assert not (lost and len(sender.told) and sender.events[-1] == "tell")

    upload.lost() if not lost else None
    store.release()
    assert len(sender.reported) == 1
    (end,) = sender.reported
    assert (end == "stored") == (stored_in(store) == [received])
    assert (end == "stored") or stored_in(store) == []
    if "stored" in sender.codes:
        assert end == "stored"
    if end == "aborted":
        assert sender.told == []
    if end == "stored" and sender.answered:
        assert sender.codes == ["stored"]
    if end == "unused":
        assert received == b""
    assert store.unfinished == []
