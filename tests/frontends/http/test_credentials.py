"""The secret that a request carries."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.frontends.http.credentials import challenges, secret_of


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("Bearer tok_a-b.c", "tok_a-b.c"),
        ("bearer  tok_a", "tok_a"),
        ("BEARER tok_a==", "tok_a=="),
        (basic("anybody:tok_a"), "tok_a"),
        (basic(":tok_a"), "tok_a"),
        (basic("a:b:c"), "b:c"),
        (basic("tok_a"), ""),
        (basic("tok_a:"), ""),
        ("Basic ====", ""),
        ("Basic /w==", ""),
        ("Bearer", ""),
        ("Bearer a b", ""),
        ("Bearer tok_a, Bearer tok_b", ""),
        ("Digest tok_a", ""),
        ("", ""),
    ],
)
def test_secret(value: str, secret: str) -> None:
    """Bearer has the secret; Basic has it as the password of any user."""
    assert secret_of({"authorization": value}) == secret


def test_none() -> None:
    """Without the field there is no secret, and no attempt."""
    assert secret_of({}) is None


@given(st.text())
def test_anything(value: str) -> None:
    """Nothing in the field raises an error."""
    secret_of({"authorization": value})
    secret_of({"authorization": f"Basic {value}"})


def test_challenges() -> None:
    """A client may choose between both; a script of a page is not offered a password dialog."""
    assert [value.split()[0] for _, value in challenges({})] == ["Bearer", "Basic"]
    for script in ({"sec-fetch-dest": "empty"}, {"tus-resumable": "1.0.0"}):
        assert [value.split()[0] for _, value in challenges(script)] == ["Bearer"]
    assert len(challenges({"sec-fetch-dest": "document"})) == 2
