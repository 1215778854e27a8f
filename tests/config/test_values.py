"""
The meaning of values.  ``tests/system/test_usage.py`` tests that invalid ones are errors.
"""

from __future__ import annotations

import pytest

from twisted_upload.config.values import parse_command


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", ()),
        ("  ", ()),
        ("scan", ("scan",)),
        ("/opt/scan --quiet 'a b' \"c d\" e\\ f", ("/opt/scan", "--quiet", "a b", "c d", "e f")),
        ("scan $HOME ; rm *", ("scan", "$HOME", ";", "rm", "*")),
    ],
)
def test_command(text: str, arguments: tuple[str, ...]) -> None:
    """A command is split as by a shell; nothing else of a shell's syntax is interpreted."""
    assert parse_command(text) == arguments


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'", "no closing quotation"),
        ("./scan", "must be an absolute path"),
        ("'' x", "name of the program is empty"),
        ("a\0b", "NUL"),
    ],
)
def test_invalid_command(text: str, why: str) -> None:
    """A program without an absolute path is an error."""
    with pytest.raises(ValueError, match=why):
        parse_command(text)
