"""
The table of options.
"""

from __future__ import annotations

import re

import pytest

from twisted_upload.config.options import OPTIONS, Option
from twisted_upload.daemon.tap import Options


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_row(option: Option) -> None:
    """Each has a name that the environment and TOML can have too, and a help that is a sentence."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", option.name)
    assert re.search(r"[.\]]\Z", option.help)
    assert not (option.flag and option.repeatable)
    if option.flag or option.repeatable:
        assert option.default is None
    elif option.default is not None:
        option.convert(option.default)


def test_names_are_unique() -> None:
    """No two have one name."""
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


def test_command_line() -> None:
    """The command line has them all, and those that are not about the daemon's work."""
    expected = {option.name + ("" if option.flag else "=") for option in OPTIONS}
    assert {*Options().longOpt} == expected | {
        *("config=", "check", "print-config"),
        *("help", "version"),
    }
