"""
Digests in structured fields: RFC 9530 and RFC 9651.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.errors import BadRequest, DigestMismatch
from twisted_upload.frontends.http.digests import Digests, parse_digests, wanted_digest

SHA256 = hashlib.sha256(b"hello").digest()
ENCODED = base64.b64encode(SHA256).decode()


@pytest.mark.parametrize(
    "value",
    [
        f"sha-256=:{ENCODED}:",
        f"  sha-256=:{ENCODED}:  ",
        f"sha-256=:{ENCODED.rstrip('=')}:",
        f"sha-256=:{ENCODED}:;a;b=1",
        f"md5=:AAAA:, sha-256=:{ENCODED}:",
        f"sha-256=:AAAA:,\tsha-256=:{ENCODED}:",
        f'a, b=?1, c=1, d=-1.5, e=tok/en, f="a\\"b", g=(1 "x";y), h=@1, sha-256=:{ENCODED}:',
        f"a;x=1;y, sha-256=:{ENCODED}:, b=();z",
    ],
)
def test_digest(value: str) -> None:
    """A digest is found among other members; of one given twice, the last counts."""
    assert parse_digests({"repr-digest": value}) == {"sha-256": {SHA256}}


@pytest.mark.parametrize(
    "value",
    [
        *(f"sha-256={ENCODED}", f"sha-256=:{ENCODED}", f"sha-256=:{ENCODED}:,", ",", "=", "A=1"),
        *(f"sha-256 =:{ENCODED}:", f"sha-256= :{ENCODED}:", f"sha-256=:{ENCODED}: x", "a=(1"),
        *("sha-256=:AAAA:", "sha-256=::", "sha-256=1", "sha-256", "sha-256=?1", 'sha-256="x"'),
        *(
            f"sha-256=:{ENCODED[:-4]}=A==:",
            f"sha-512=:{ENCODED}:",
            "a=\u4e2d",
            "a=1234567890123456",
        ),
        *(f"sha-256=:{ENCODED[:20]}={ENCODED[20:]}:", f"sha-256=(:{ENCODED}:)"),
    ],
)
def test_malformed(value: str) -> None:
    """A malformed digest is an error, and never ignored."""
    with pytest.raises(BadRequest):
        Digests({"content-digest": value})


def test_none() -> None:
    """Without known digests there is nothing to compute."""
    for fields in {}, {"repr-digest": ""}, {"repr-digest": "md5=:AAAA:, crc32c=:AAAA:"}:
        digests = Digests(fields)
        assert not digests
        digests.verify({})


@pytest.mark.parametrize(
    ("value", "algorithm"),
    [
        ("sha-256=10", "sha-256"),
        ("sha-256=1, sha-512=3", "sha-512"),
        ("sha-512=3, sha-256=3", "sha-256"),
        ("sha-512=0, sha-256=1", "sha-256"),
        ("md5=10, sha-512=1", "sha-512"),
        ("sha-256=0", None),
        ("sha-256=11", None),
        ("sha-256", None),
        ("sha-256=-1", None),
        ("sha-256=1,", None),
        ("unixsum=3", None),
        ("", None),
    ],
)
def test_wanted(value: str, algorithm: str | None) -> None:
    """The algorithm with the highest preference is used; a malformed wish is ignored."""
    assert wanted_digest({"want-repr-digest": value}) == algorithm


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(0, 100))
@settings(deadline=None)
def test_any_content(content: bytes, other: bytes, cut: int) -> None:
    """A digest is right for the same bytes, in any pieces, and for no others."""
    encoded = base64.b64encode(hashlib.sha256(content).digest()).decode()
    for data in content, other:
        digests = Digests({"repr-digest": f"sha-256=:{encoded}:"})
        digests.update(data[:cut])
        digests.update(data[cut:])
        if data == content:
            digests.verify({})
        else:
            with pytest.raises(DigestMismatch):
                digests.verify({})


@given(
    st.text(st.characters(codec="iso-8859-1"), max_size=200)
    | st.text(':=,;()"\\@?a1-. ', max_size=60)
)
@settings(deadline=None)
def test_any_field(value: str) -> None:
    """Whatever a field contains, it is a dictionary, or malformed."""
    wanted_digest({"want-repr-digest": value})
    with contextlib.suppress(BadRequest):
        Digests({"repr-digest": value})


def test_linear() -> None:
    """No field of the size that a head can have takes long."""
    began = time.process_time()
    for hostile in (
        "a=(" + "1 " * 8000,
        "a" + ";b" * 5000 + "=",
        'a="' + "\\" * 16000,
        "a=1," * 4000,
    ):
        wanted_digest({"want-repr-digest": hostile})
    assert time.process_time() - began < 1
