"""
Configurations with several listeners.
"""

from __future__ import annotations

from pathlib import Path

from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.sources import SourcedValue

__all__ = ["configured"]


def configured(folder: Path, *listeners: str) -> Configuration:
    """Return a configuration of listeners with these settings, each on a different port."""
    path = folder / "x.toml"
    path.write_text(
        "".join(
            f"[[listener]]\nname = 'l{number}'\nport = {number}\n{own}\n"
            for number, own in enumerate(listeners)
        )
    )
    return configure({"config": SourcedValue(str(path), "--config")}, {}, "/srv")
