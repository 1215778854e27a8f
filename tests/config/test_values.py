"""
What values mean; that nonsense is refused is in ``tests/system/test_usage.py``.
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
    """A command is split as a shell would, and nothing else that a shell does is done."""
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
def test_no_command(text: str, why: str) -> None:
    """What cannot be started from anywhere is refused."""
    with pytest.raises(ValueError, match=why):
        parse_command(text)
