"""
Detection by signatures gives the same result as the library, with fewer calls of it.
"""

from __future__ import annotations

from typing import Any

import filetype  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.file_kinds import EVERY_SAMPLE, NEVER, SAMPLES, kind_name
from twisted_upload.core.names import HEAD, suffix_of
from twisted_upload.core.signatures import SIGNATURES, VERSIONS, SignatureTable, signatures_of
from twisted_upload.core.text_kinds import text_suffix

KINDS = SignatureTable(filetype.types, SIGNATURES)


def _by_the_library(head: bytes) -> str:
    """Return the library's result after asking every kind that it knows."""
    try:
        extension = filetype.guess_extension(head)
    except Exception:
        return ".bin"
    return f".{extension}" if extension else ".bin"


def _by_signatures(head: bytes) -> str:
    try:
        return KINDS.suffix(head[:HEAD]) or ".bin"
    except Exception:
        return ".bin"


def test_version() -> None:
    """
    The signatures have been compared with this version of the library.

    If only this test fails, there is a newer version, whose kinds the other tests
    have just compared with the signatures: add it to `VERSIONS`.
    """
    assert filetype.version in VERSIONS


def test_every_kind_has_a_signature() -> None:
    """Every kind has a signature, and every signature belongs to a kind."""
    assert {kind_name(kind) for kind in filetype.types} == {*SIGNATURES}


@pytest.mark.parametrize("kind", filetype.types, ids=kind_name)
def test_every_kind(kind: Any) -> None:
    """Each kind that the library knows is detected, in each of its variants."""
    name = kind_name(kind)
    if name in NEVER:
        return
    assert name in SAMPLES, f"the library knows {name}: add a sample"
    for sample in SAMPLES[name]:
        for head in (sample, sample.ljust(HEAD, b"\0")):
            assert kind.match(head), f"{sample!r} is not a valid sample"
            assert _by_signatures(head) == _by_the_library(head)


@pytest.mark.parametrize("name", sorted({*SAMPLES} - NEVER))
def test_mutated(name: str) -> None:
    """A sample with any truncation or any changed byte gives the library's result."""
    for sample in SAMPLES[name]:
        for size in range(1, len(sample)):
            assert _by_signatures(sample[:size]) == _by_the_library(sample[:size])
        for place in {*range(min(len(sample), 70)), 128, 257, 512} & {*range(len(sample))}:
            for flip in (0x01, 0x20, 0x80, 0xFF):
                head = bytearray(sample)
                head[place] ^= flip
                assert _by_signatures(bytes(head)) == _by_the_library(bytes(head))


@st.composite
def _heads(draw: st.DrawFn) -> bytes:
    """Samples combined, shifted, truncated and mutated."""
    head = bytearray(draw(st.binary(max_size=80)))
    for sample in draw(st.lists(st.sampled_from(EVERY_SAMPLE), min_size=1, max_size=3)):
        start = draw(st.sampled_from([0, 0, 0, 1, 3, 4, 8, 34, 128, 257, 512]))
        cut = sample[: draw(st.sampled_from([4, 12, 40, HEAD]))]
        head.extend(bytes(max(0, start + len(cut) - len(head))))
        head[start : start + len(cut)] = cut
    for place in draw(st.lists(st.integers(0, min(len(head), 300) - 1), max_size=3)):
        head[place] = draw(st.integers(0, 255))
    return bytes(head) + draw(st.binary(max_size=80))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(head=_heads())
def test_mixed(head: bytes) -> None:
    """Any mixture of kinds gives the library's result."""
    assert _by_signatures(head) == _by_the_library(head)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(head=st.one_of(st.binary(min_size=1, max_size=400), _heads()))
def test_suffix(head: bytes) -> None:
    """A file that is not text gives the library's result."""
    text = text_suffix(head, cut=len(head) >= HEAD)
    assert suffix_of(head) == (_by_the_library(head) if text is None else text)


def test_longer_than_a_head() -> None:
    """Bytes beyond the library's limit are not examined."""
    start, doctype = b"\x1aE\xdf\xa3", b"\x42\x82\x88matroska"
    assert suffix_of(start.ljust(HEAD - len(doctype), b"\0") + doctype) == ".mkv"
    assert suffix_of(start.ljust(HEAD, b"\0") + doctype) == ".bin"


def test_unknown_kind() -> None:
    """A kind without a signature is asked about each file, in its order."""

    class Custom:
        extension = "ours"

        def match(self, head: bytes) -> bool:
            return b"ours" in head

    kinds = SignatureTable([*filetype.types[:3], Custom(), *filetype.types[3:]], SIGNATURES)
    assert kinds.suffix(b"\0\0ours") == ".ours"
    assert kinds.suffix(b"\x89PNGours") == ".ours"
    assert kinds.suffix(b"\xff\xd8\xffours") == ".jpg"
    assert kinds.suffix(b"\xa5\0") is None


def test_another_version() -> None:
    """With a version of the library that has no signatures, all kinds are asked."""
    assert signatures_of("1.2.0") == SIGNATURES
    assert signatures_of("1.3.0") == {}
    kinds = SignatureTable(filetype.types, {})
    for sample in EVERY_SAMPLE:
        assert (kinds.suffix(sample) or ".bin") == _by_the_library(sample)
