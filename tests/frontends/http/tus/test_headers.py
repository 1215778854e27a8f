"""
The header fields of tus: what is read, and what is refused.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.errors import BadRequest
from twisted_upload.frontends.http.tus.headers import (
    ALGORITHMS,
    LARGEST,
    Checksum,
    announces_checksum,
    parse_checksum,
    parse_concatenation,
    parse_length,
    parse_metadata,
    parse_offset,
)

IDENTITY, OTHER = "0123456789abcdef" * 2, "f" * 32

NOT_NUMBERS = [
    "", "-1", "+1", "1.0", "0x10", "1e3", "1 ", " 1", "1, 1", "1,1", "1_000", "٣", "²", "\x00",
    str(LARGEST + 1), "9" * 20, "0" * 20, "9" * 5000, "1\n",
]  # fmt: skip


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_numbers_are_digits_alone(text: str) -> None:
    """C8b: an offset or length that is not 1 to 19 digits, or no size of a file, is refused."""
    with pytest.raises(BadRequest):
        parse_offset({"upload-offset": text})
    with pytest.raises(BadRequest):
        parse_length({"upload-length": text})


@pytest.mark.parametrize("number", [0, 1, 4096, LARGEST])
def test_numbers(number: int) -> None:
    """A size of a file is read as it is."""
    assert parse_offset({"upload-offset": str(number)}) == number
    assert parse_length({"upload-length": str(number)}) == number


def test_missing_offset() -> None:
    """C8b: an offset has to be there."""
    with pytest.raises(BadRequest, match="missing"):
        parse_offset({})


def test_deferred_length() -> None:
    """E2: a length is deferred by 1, and by nothing else, and is not there then."""
    assert parse_length({"upload-defer-length": "1"}) is None
    assert parse_length({}) is None
    for fields in (
        {"upload-defer-length": "0"},
        {"upload-defer-length": "true"},
        {"upload-defer-length": ""},
        {"upload-defer-length": "1", "upload-length": "5"},
    ):
        with pytest.raises(BadRequest):
            parse_length(fields)


def test_metadata() -> None:
    """E5: pairs of a key and a value in Base64, which may be missing."""
    text = f"filename {encoded('世界.txt'.encode())},empty ,none, x {encoded(b'y')}"
    assert parse_metadata({"upload-metadata": text}) == {
        "filename": "世界.txt".encode(),
        "empty": b"",
        "none": b"",
        "x": b"y",
    }
    assert parse_metadata({}) == parse_metadata({"upload-metadata": ""}) == {}


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a YQ==,",
        ",a YQ==",
        "a YQ==,,b YQ==",
        "a YQ==,a Yg==",
        "a not-base64",
        "a YQ",
        "a YQ=",
        "a YQ==YQ==",
        "a YQ== YQ==",
        "a  YQ==",
        "a Y\u00e9==",
        "\u00e9 YQ==",
        "a\x7f YQ==",
        "k" * 256,
        "a " + "YWFh" * 2048,
        ",".join(f"key{number}" for number in range(101)),
    ],
)
def test_wrong_metadata(text: str) -> None:
    """E5: keys are unique, not empty, and ASCII; values are Base64; all of it is bounded."""
    with pytest.raises(BadRequest):
        parse_metadata({"upload-metadata": text})


KEYS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","),
    min_size=1,
    max_size=20,
)


@given(st.dictionaries(KEYS, st.binary(max_size=50), max_size=10))
def test_any_metadata(pairs: dict[str, bytes]) -> None:
    """E5: whatever pairs are encoded are read."""
    text = ",".join(f"{key} {encoded(value)}" for key, value in pairs.items())
    assert parse_metadata({"upload-metadata": text}) == pairs


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum(algorithm: str) -> None:
    """K1: the name of an algorithm and a digest in Base64."""
    digest = hashlib.new(algorithm, b"x").digest()
    fields = {"upload-checksum": f"{algorithm} {encoded(digest)}"}
    assert parse_checksum(fields) == Checksum(algorithm, digest)
    assert parse_checksum({}) is None


def test_sha1_is_there() -> None:
    """K1: sha1 must be supported."""
    assert "sha1" in ALGORITHMS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha1",
        "sha1 ",
        f"sha1  {encoded(bytes(20))}",
        f"SHA1 {encoded(bytes(20))}",
        f"sha1 {encoded(bytes(20))} ",
        f"sha1 {encoded(bytes(20))}, sha1 {encoded(bytes(20))}",
        f"sha1 {encoded(bytes(19))}",
        f"sha1 {encoded(bytes(32))}",
        f"sha1 {bytes(20).hex()}",
        f"md5 {encoded(bytes(16))}",
        f"new {encoded(bytes(20))}",
        "sha1 ====",
        f"sha256 {encoded(bytes(32))[:-1]}",
    ],
)
def test_wrong_checksum(text: str) -> None:
    """K2: an unknown algorithm, or what is no digest of it, is refused."""
    with pytest.raises(BadRequest):
        parse_checksum({"upload-checksum": text})


@pytest.mark.parametrize(
    ("text", "announced"),
    [
        ("Upload-Checksum", True),
        ("x-other, upload-checksum", True),
        ("", False),
        ("upload-checksum-2", False),
    ],
)
def test_announced_checksum(text: str, announced: bool) -> None:
    """T1: a checksum in the trailer is announced by ``Trailer``."""
    assert announces_checksum({"trailer": text}) is announced
    assert not announces_checksum({})


def test_concatenation() -> None:
    """N1: a part, or what consists of parts: order is kept, and one may be there twice."""
    assert parse_concatenation({}) is None
    part: Any = parse_concatenation({"upload-concat": "partial"})
    assert part.parts is None
    text = f"final;/files/{IDENTITY} https://host:8080/files/{OTHER} /files/{IDENTITY}"
    final: Any = parse_concatenation({"upload-concat": text})
    assert final.parts == (IDENTITY, OTHER, IDENTITY)
    of_a_node: Any = parse_concatenation({"upload-concat": f"final;/files/one-{IDENTITY}"})
    assert of_a_node.parts == (f"one-{IDENTITY}",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Partial",
        "partial;",
        "final",
        "final;",
        "final; ",
        "final;/files/",
        f"final;{IDENTITY}",
        f"final;/files/{IDENTITY}/",
        f"final;/files/{IDENTITY} /files/../etc/passwd",
        f"final;/files/../files/{IDENTITY}",
        f"final;//files/{IDENTITY}",
        f"final;/files/%30{IDENTITY[1:]}",
        f"final;/files/{IDENTITY}?x",
        f"final;/files/{IDENTITY.upper()}",
        f"final;ftp://host/files/{IDENTITY}",
        f"final;http:///files/{IDENTITY}",
        f"final;http://host/x/files/{IDENTITY}",
        f"final;/files/{IDENTITY},/files/{OTHER}",
        "final;" + " ".join([f"/files/{IDENTITY}"] * 500),
    ],
)
def test_wrong_concatenation(text: str) -> None:
    """N4: only URLs that this server could have made are taken apart, as text."""
    with pytest.raises(BadRequest):
        parse_concatenation({"upload-concat": text})


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Any text is either read, or refused as a bad request that does not repeat it."""
    for name, parse in (
        ("upload-offset", parse_offset),
        ("upload-length", parse_length),
        ("upload-metadata", parse_metadata),
        ("upload-checksum", parse_checksum),
        ("upload-concat", parse_concatenation),
        ("trailer", announces_checksum),
    ):
        explanations = []
        try:
            parse({name: text})
        except BadRequest as refusal:
            explanations.append(refusal.explanation)
        assert all(map(str.isascii, explanations))
