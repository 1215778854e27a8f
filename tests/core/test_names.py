"""
Timestamped names.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.metadata import clean_original_name
from twisted_upload.core.names import (
    HEAD,
    UniqueTimestamps,
    file_name,
    is_file_name,
    name_after,
    new_token,
    possible_nodes,
    suffix_of,
)
from twisted_upload.core.signatures import SignatureTable
from twisted_upload.core.text import is_suffix


@pytest.mark.parametrize(
    ("serial", "suffix", "name"),
    [
        (0, ".jpg", "1795328130123.jpg"),
        (1, ".jpg", "1795328130123-1.jpg"),
        (12, ".tar.gz", "1795328130123-12.tar.gz"),
        (0, "", "1795328130123"),
        (2, "", "1795328130123-2"),
    ],
)
def test_file_name(serial: int, suffix: str, name: str) -> None:
    """A name is milliseconds, a serial number if there are several, and a suffix."""
    assert file_name(1795328130123, serial, suffix) == name


@settings(deadline=None, derandomize=True)
@given(
    one=st.tuples(st.integers(0, 10**14), st.integers(0, 1000)),
    other=st.tuples(st.integers(0, 10**14), st.integers(0, 1000)),
    suffix=st.sampled_from(["", ".jpg", ".bin"]),
)
def test_names_are_unique(one: tuple[int, int], other: tuple[int, int], suffix: str) -> None:
    """Different moments give different names."""
    assert (file_name(*one, suffix) == file_name(*other, suffix)) == (one == other)


@pytest.mark.parametrize(
    ("serial", "original", "suffix", "name"),
    [
        (0, "photo.jpg", ".png", "1795328130123-photo.jpg"),
        (1, "photo.jpg", ".png", "1795328130123-1-photo.jpg"),
        (0, "1.jpg", ".png", "1795328130123-0-1.jpg"),
        (1, "1.jpg", ".png", "1795328130123-1-1.jpg"),
        (0, "-rf", "", "1795328130123--rf"),
        (0, "my photo.jpg", ".png", "1795328130123-my_photo.jpg"),
        (0, "README", ".txt", "1795328130123-README.txt"),
        (0, "README", "", "1795328130123-README"),
        (0, "a" * 200, ".tar.gz", "1795328130123-" + "a" * 193 + ".tar.gz"),
        (0, "\u4e2d" * 66, ".jpg", "1795328130123-" + "\u4e2d" * 65 + ".jpg"),
    ],
)
def test_original_name(serial: int, original: str, suffix: str, name: str) -> None:
    """An original name follows the time; it keeps its suffix, or gets one."""
    assert file_name(1795328130123, serial, suffix, original) == name
    assert is_file_name(name)


MOMENTS = st.tuples(st.integers(0, 2), st.integers(0, 12))
ORIGINALS = st.text("01-._ab\u4e2d\u0301 ", max_size=8) | st.text(max_size=300)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(
    one=st.tuples(MOMENTS, ORIGINALS),
    other=st.tuples(MOMENTS, ORIGINALS),
    suffix=st.sampled_from(["", ".jpg", ".tar.gz"]),
)
def test_original_names_are_unambiguous(
    one: tuple[tuple[int, int], str], other: tuple[tuple[int, int], str], suffix: str
) -> None:
    """Different moments give different names, whatever the original names are."""
    (moment, original), (other_moment, other_original) = one, other
    name = file_name(*moment, suffix, clean_original_name(original))
    other_name = file_name(*other_moment, suffix, clean_original_name(other_original))
    assert moment == other_moment or name != other_name
    assert is_file_name(name)
    assert name == os.path.basename(name)
    assert len(name.encode()) <= 255
    assert name.isprintable()
    assert " " not in name


@pytest.mark.parametrize(
    "text",
    [
        *("1-0.jpg", "1-0", "1-0-a.jpg", "1-2x.jpg", "1-a b", "1-.a", "1-a/b", "1-a\n", "1- a"),
        *("a-b", "-a", "1-\u0661.jpg" + "x" * 200, "1-e\u0301", "1-" + "a" * 201, "1-01-a"),
    ],
)
def test_no_file_names(text: str) -> None:
    """What cannot be the name of a stored file is not taken for one."""
    assert not is_file_name(text)


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", ".jpg"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ".png"),
        (b"GIF89a\x01\x00\x01\x00", ".gif"),
        (b"%PDF-1.7\n%", ".pdf"),
        (b"PK\x03\x04\x14\x00\x00\x00", ".zip"),
        (b"plain text", ".txt"),
        (b"", ".bin"),
        (b"\0", ".bin"),
    ],
)
def test_detected_suffix(head: bytes, suffix: str) -> None:
    """The suffix follows from the first bytes; an unknown format has a default suffix."""
    assert suffix_of(head) == suffix


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    start=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"PK\x03\x04", b"\x1aE\xdf\xa3", b"RIFF", b"ID3", b"\x00\x00\x00"]
    ),
    rest=st.binary(max_size=300),
)
def test_hostile_heads(start: bytes, rest: bytes) -> None:
    """Any bytes give a suffix that is valid in a name."""
    suffix = suffix_of(start + rest)
    assert suffix
    assert is_suffix(suffix)


def test_broken_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the library raises on hostile bytes, only the suffix is lost."""

    class Failing:
        extension = "x"

        def match(self, head: bytes) -> bool:
            raise IndexError

    monkeypatch.setattr("twisted_upload.core.names._KINDS", SignatureTable([Failing()], {}))
    assert suffix_of(b"x\0") == ".bin"


def test_head_is_enough() -> None:
    """The library examines no more than the head that it gets."""
    picture = b"\xff\xd8\xff\xe0" + os.urandom(HEAD)
    assert suffix_of(picture[:HEAD]) == suffix_of(picture * 2)


def test_moments() -> None:
    """Uploads of one millisecond are numbered; the next millisecond starts again."""
    moments = UniqueTimestamps()
    assert [moments.next(1000.5) for _ in range(3)] == [(1000500, 0), (1000500, 1), (1000500, 2)]
    assert moments.next(1000.501) == (1000501, 0)


@settings(deadline=None, derandomize=True)
@given(times=st.lists(st.floats(0, 1e10), max_size=50))
def test_moments_never_go_back(times: list[float]) -> None:
    """Moments always increase, even if the clock goes backwards."""
    moments = UniqueTimestamps()
    given_out = [moments.next(seconds) for seconds in times]
    assert given_out == sorted(set(given_out))


TOKEN = "9f3a6c01d2b47e88"


@pytest.mark.parametrize(
    ("original", "suffix", "name"),
    [
        ("", ".jpg", f"1795328130123-one-{TOKEN}.jpg"),
        ("", "", f"1795328130123-one-{TOKEN}"),
        ("my photo.jpg", ".png", f"1795328130123-one-{TOKEN}-my_photo.jpg"),
        ("1.jpg", ".png", f"1795328130123-one-{TOKEN}-1.jpg"),
        ("README", ".txt", f"1795328130123-one-{TOKEN}-README.txt"),
    ],
)
def test_names_with_a_node(original: str, suffix: str, name: str) -> None:
    """With a node, a name has that and the token instead of the serial number."""
    assert file_name(1795328130123, 3, suffix, original, node="one", token=TOKEN) == name
    assert is_file_name(name)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(
    moment=MOMENTS,
    original=ORIGINALS,
    node=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
    token=st.integers(0, 2**64 - 1),
    suffix=st.sampled_from(["", ".jpg", ".tar.gz"]),
)
def test_any_names_with_a_node(
    moment: tuple[int, int], original: str, node: str, token: int, suffix: str
) -> None:
    """They have at most 255 bytes, are recognized, and have all of the node and the token."""
    original = clean_original_name(original)
    name = file_name(*moment, suffix, original, node=node, token=f"{token:016x}")
    assert is_file_name(name)
    assert name.startswith(f"{moment[0]}-{node}-{token:016x}")
    assert len(name.encode()) <= 255
    assert name == os.path.basename(name)


@pytest.mark.parametrize("original", ["a" * 196 + ".jpg", "\u4e2d" * 66, "b" * 200])
def test_longest_name(original: str) -> None:
    """An original name that does not fit beside a long node loses its end, not its suffix."""
    name = file_name(10**13, 0, ".jpg", original, node="n" * 32, token=TOKEN)
    assert 252 < len(name.encode()) <= 255
    assert name.endswith(".jpg")
    assert is_file_name(name)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        (f"1-one-{TOKEN}", ["one"]),
        (f"1-one-{TOKEN}.jpg", ["one"]),
        (f"1-a-b-{TOKEN}-photo.jpg", ["a-b"]),
        (f"1-one-{TOKEN}-{TOKEN}-photo.jpg", ["one", f"one-{TOKEN}"]),
        (f"1-one-{TOKEN}-{TOKEN}", ["one", f"one-{TOKEN}"]),
        (f"1-{TOKEN}-{TOKEN}.jpg", [TOKEN]),
        ("1-photo.jpg", []),
        (f"x-one-{TOKEN}", []),
        (f"in/1-one-{TOKEN}", []),
        ("1.jpg", []),
    ],
)
def test_possible_nodes(name: str, nodes: list[str]) -> None:
    """Nobody who chooses an original name can hide the node."""
    assert possible_nodes(name) == nodes


@pytest.mark.parametrize("node", ["-a", "a-", "A", "a.b", "\u00e9", "a" * 33])
def test_no_names_with_a_node(node: str) -> None:
    """What is not a node is not taken for one."""
    assert not is_file_name(f"1795328130123-{node}-{TOKEN}.jpg" + "x" * 200)


def test_token() -> None:
    """A token is 64 bits in hexadecimal; no two are the same."""
    tokens = {new_token(os.urandom) for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 16 and int(token, 16) < 2**64 for token in tokens)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("1-one-00000000000000ff.jpg", "1-one-0000000000000100.jpg"),
        ("1-one-ffffffffffffffff-a.jpg", "1-one-0000000000000000-a.jpg"),
        ("1795328130123.jpg", "1795328130123-1.jpg"),
        ("1795328130123-9", "1795328130123-10"),
        ("1-photo.jpg", "1-1-photo.jpg"),
        ("1-0-2026.jpg", "1-1-2026.jpg"),
    ],
)
def test_name_after(name: str, after: str) -> None:
    """If a name is taken, the one with the next token, or serial number, is tried."""
    assert name_after(name) == after
    assert is_file_name(after)


def test_no_name_after() -> None:
    """Nothing follows what is not the name of an upload."""
    with pytest.raises(ValueError, match="not the name"):
        name_after("photo.jpg")
