"""
Configurations, from options and files.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.options import OPTIONS
from twisted_upload.config.sources import SourcedValue, Text
from twisted_upload.errors import WrongConfiguration

__all__ = ["BASE", "configured", "configured_listeners", "wrong"]

BASE = "/srv"
"""The folder that relative paths are relative to."""

HOST = "One.example"
"""The host name of the machine."""

REPEATABLE = {option.name for option in OPTIONS if option.repeatable}
FLAGS = {option.name for option in OPTIONS if option.flag}


def configured(
    *arguments: str, file: str | None = None, folder: Path | None = None, **variables: str
) -> Configuration:
    """Configure by arguments (``max-size=5M``), variables (``MAX_SIZE="5M"``) and a file."""
    layer = {}
    for argument in arguments:
        name, _, text = argument.partition("=")
        given: Text = text
        if name in REPEATABLE:
            given = tuple(text.split())
        elif name in FLAGS:
            given = True
        layer[name] = SourcedValue(given, f"--{name}")
    if file is not None:
        assert folder is not None
        path = folder / "x.toml"
        path.write_text(file, encoding="utf-8")
        layer["config"] = SourcedValue(str(path), "--config")
    environment = {f"TWISTED_UPLOAD_{name}": text for name, text in variables.items()}
    return configure(layer, environment, BASE, host=HOST)


def wrong(*arguments: str, file: str | None = None, folder: Path, **variables: str) -> str:
    """Return the error of a configuration; see `configured`."""
    with pytest.raises(WrongConfiguration) as raised:
        configured(*arguments, file=file, folder=folder, **variables)
    return str(raised.value).replace(f"{folder}/", "")


def configured_listeners(folder: Path, *listeners: str) -> Configuration:
    """Return a configuration of listeners with these settings, each on a different port."""
    path = folder / "x.toml"
    path.write_text(
        "".join(
            f"[[listener]]\nname = 'l{number}'\nport = {number}\n{own}\n"
            for number, own in enumerate(listeners)
        )
    )
    return configure({"config": SourcedValue(str(path), "--config")}, {}, BASE, host=HOST)
