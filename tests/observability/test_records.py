"""
Records for programs.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.interfaces import Metadata
from twisted_upload.observability.records import FIELDS, Timestamps, encode, encode_outcome

WHOLE = UploadOutcome(
    "stored",
    "scanner",
    "192.0.2.7:50123",
    4096,
    0.0123456789,
    name="1795328130123.bin",
    sha256="0" * 64,
    ended_by_idle=True,
    answered=False,
    metadata=Metadata("photo.jpg", "image/jpeg", "Alice"),
)

MOMENT = "2026-11-22T12:43:24.291Z"


def test_moments() -> None:
    """A time is RFC 3339 in UTC, with milliseconds that are never rounded up."""
    timestamps = Timestamps()
    assert timestamps.milliseconds(1_795_351_404.2919) == "2026-11-22T12:43:24.291Z"
    assert timestamps.milliseconds(1_795_351_404.9999) == "2026-11-22T12:43:24.999Z"
    assert timestamps.milliseconds(1_795_351_405.0) == "2026-11-22T12:43:25.000Z"
    assert timestamps.seconds(1_795_351_404.9) == "2026-11-22T12:43:24"


@given(st.floats(0, 4e9), st.one_of(st.floats(0, 4e9), st.floats(0, 2), st.floats(0, 0.002)))
@settings(deadline=None)
def test_order_of_moments(moment: float, later: float) -> None:
    """As text, times sort chronologically, however close, and in whatever order they are made."""
    timestamps = Timestamps()
    assert timestamps.milliseconds(moment) <= timestamps.milliseconds(moment + later)
    assert timestamps.milliseconds(moment) == Timestamps().milliseconds(moment)


def test_all_of_an_end() -> None:
    """Everything that is known of an upload is recorded, in the documented order."""
    fields = json.loads(encode_outcome(MOMENT, WHOLE, "info"))
    assert fields == {
        "time": MOMENT,
        "level": "info",
        "event": "stored",
        "listener": "scanner",
        "peer": "192.0.2.7:50123",
        "size": 4096,
        "seconds": 0.012346,
        "name": "1795328130123.bin",
        "sha256": "0" * 64,
        "ended_by_idle": True,
        "answered": False,
        "original_name": "photo.jpg",
        "content_type": "image/jpeg",
        "label": "Alice",
    }
    assert [*fields] == [name for name in FIELDS if name in fields]


def test_empty_fields() -> None:
    """Empty fields are left out."""
    assert json.loads(
        encode_outcome(MOMENT, UploadOutcome("refused", "", "unix", 0, 0.5, code="empty"))
    ) == {
        "time": MOMENT,
        "event": "refused",
        "peer": "unix",
        "size": 0,
        "seconds": 0.5,
        "code": "empty",
    }
    assert "code" not in encode_outcome(MOMENT, UploadOutcome("aborted", "", "unix", 1, 0.5))


ENDS = st.builds(
    UploadOutcome,
    st.sampled_from(["stored", "refused", "aborted"]),
    *(st.text(), st.text()),
    st.integers(0, 2**63),
    st.floats(0, 1e9),
    *(st.none() | st.text(), st.none() | st.text(), st.none() | st.text()),
    *(st.booleans(), st.booleans()),
    st.builds(Metadata, st.text(), st.text(), st.text()),
)


@given(ENDS, st.none() | st.sampled_from(["info", "notice"]))
@settings(deadline=None)
def test_an_end_is_encoded_like_the_rest(ended: UploadOutcome, level: str | None) -> None:
    """An outcome is encoded exactly like an object with its fields."""
    line = encode_outcome(MOMENT, ended, level)
    assert line == encode(json.loads(line))
    assert (
        json.loads(line).items()
        <= {
            **{key: value for key, value in ended._asdict().items() if key != "metadata"},
            **ended.metadata._asdict(),
            "time": MOMENT,
            "level": level,
            "event": ended.outcome,
            "seconds": round(ended.seconds, 6),
        }.items()
    )


@given(st.text())
@settings(deadline=None)
def test_one_line_of_ascii(text: str) -> None:
    """A record is one line of ASCII without control characters."""
    line = encode({"name": text})
    assert line.isascii()
    assert "\n" not in line
    assert line.replace("\x7f", "").isprintable()
    assert json.loads(line) == {"name": text}
