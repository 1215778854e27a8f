"""
The table of options.
"""

from __future__ import annotations

import re
from typing import get_args, get_type_hints

import pytest

from twisted_upload.config.option import Option
from twisted_upload.config.options import OPTIONS, DaemonSettings, ListenerSettings
from twisted_upload.daemon.tap import Options


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_row(option: Option) -> None:
    """Each option has a name that is valid in the environment and in TOML, and a help sentence."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", option.name)
    assert re.search(r"[.\]]\Z", option.help)
    assert not (option.flag and option.repeatable)
    if option.flag or option.repeatable:
        assert option.default is None
    elif option.default is not None:
        option.convert(option.default)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_field(option: Option) -> None:
    """Its text is converted to the type of its field."""
    settings = ListenerSettings if option.per_listener else DaemonSettings
    wanted = get_type_hints(settings)[option.field]
    if option.flag:
        assert wanted is bool
        return
    converted = get_type_hints(option.convert)["return"]
    if option.repeatable:
        assert get_args(wanted) == (converted, ...)
    elif option.default is None:
        assert wanted == converted | None
    else:
        assert wanted == converted
        default = getattr(settings(), option.field)
        assert default == option.convert(option.default)


def test_order() -> None:
    """An option that depends on another one follows it."""
    names = [option.name for option in OPTIONS]
    for option in OPTIONS:
        if option.after:
            assert names[names.index(option.name) - 1] == option.after
    assert names[0] == "port"


def test_names_are_unique() -> None:
    """No two options have the same name."""
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


def test_command_line() -> None:
    """The command line has all of them, and the options that are not configuration."""
    expected = {option.name + ("" if option.flag else "=") for option in OPTIONS}
    assert {*Options().longOpt} == expected | {
        *("config=", "check", "print-config"),
        *("help", "version"),
    }
