"""
What an object store is told with each upload.
"""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.interfaces import Metadata
from twisted_upload.stores.s3.about import LONGEST_TEXT, about_of, encoded
from twisted_upload.stores.s3.bucket import MOST_DETAILS, About

MARK = "0123456789abcdef" * 2


def about(sender: str = "192.0.2.7:50123", metadata: Metadata | None = None) -> About:
    """Return what is told of an upload with all that can be known."""
    return about_of(
        MARK,
        arrived=1795328130.1239,
        sender=sender,
        node="one",
        sha256="f" * 64,
        metadata=metadata or Metadata(),
    )


def test_all() -> None:
    """All that is known of an upload is there, in printable ASCII; the time as in its name."""
    told = about(metadata=Metadata("照片 1.jpg", "image/jpeg", "Alice & Bob"))
    assert told.content_type == "image/jpeg"
    assert told.details == {
        "mark": MARK,
        "arrived": "2026-11-22T06:15:30.123Z",
        "sender": "192.0.2.7:50123",
        "node": "one",
        "sha256": "f" * 64,
        "original-name": "%E7%85%A7%E7%89%87%201.jpg",
        "label": "Alice%20%26%20Bob",
    }


def test_unknown() -> None:
    """What is not known is left out; content of an unknown type is bytes."""
    told = about_of(MARK, arrived=0, sender="", metadata=Metadata())
    assert told.content_type == "application/octet-stream"
    assert [*told.details] == ["mark", "arrived"]


@pytest.mark.parametrize("character", ["x", " ", "é", "照", "😀"])
def test_longest(character: str) -> None:
    """A text that is too long loses its end, at a character; all together are accepted."""
    text = character * 1024
    cut = encoded(text)
    assert LONGEST_TEXT - 12 < len(cut) <= LONGEST_TEXT
    assert text.startswith(unquote(cut, errors="strict"))
    told = about(text, Metadata(text, "x" * 127 + "/" + "x" * 127, text))
    assert sum(len(name) + len(value) for name, value in told.details.items()) <= MOST_DETAILS


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    """Any text that is not too long can be read back, and is accepted."""
    told = about(text, Metadata(text, "", text)).details
    shorter = len(encoded(text)) < LONGEST_TEXT - 12
    if text and shorter and text.isprintable():
        assert {unquote(told[name]) for name in ("original-name", "label")} == {text}
        assert text.startswith(unquote(told["sender"]))
