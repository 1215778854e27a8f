"""Origins, as web browsers send them."""

from __future__ import annotations

import pytest

from twisted_upload.net.origins import parse_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://192.0.2.1:80", "http://192.0.2.1"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]"),
    ],
)
def test_parse(text: str, origin: str) -> None:
    """An origin is in the form in which browsers send it."""
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://a/",
            "https://*.example",
            "file://x",
        ),
        *("https://a b", "https://u@a", "https://a:123456", "https://a\n", "https://ü.example"),
    ],
)
def test_parse_nonsense(text: str) -> None:
    """Nothing else is an origin."""
    with pytest.raises(ValueError, match="is not an origin such as"):
        parse_origin(text)
