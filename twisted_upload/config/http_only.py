"""
Options that protect HTTP listeners alone: an error where they would protect nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted_upload.errors import WrongConfiguration

__all__ = ["check_http_only"]

_HTTP_ONLY = ("tokens", "invitation-keys", "cors-origin")


class ISetting(Protocol):
    """A value in force: `twisted_upload.config.configuration.Setting`."""

    @property
    def source(self) -> str:
        """Where it was set."""

    @property
    def value(self) -> Any:
        """The converted value."""


class IListener(Protocol):
    """A listener, as far as it matters here: `twisted_upload.config.configuration.Listener`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def protocol(self) -> str:
        """What it speaks."""

    @property
    def by_name(self) -> Mapping[str, ISetting]:
        """Its options, by name."""


def check_http_only(listeners: Sequence[IListener]) -> None:
    """
    Check that no one relies on tokens at a listener that cannot ask for them.

    :raises WrongConfiguration: they are set for such a listener itself, or no listener
        speaks HTTP.
    """
    has_http = any(listener.protocol == "http" for listener in listeners)
    for listener in listeners:
        for name in _HTTP_ONLY:
            setting = listener.by_name[name]
            own = f": listener {listener.name}: " in setting.source
            if setting.value and listener.protocol != "http" and (own or not has_http):
                raise WrongConfiguration(
                    f"{setting.source}: only listeners that speak HTTP have it: see --http"
                )
