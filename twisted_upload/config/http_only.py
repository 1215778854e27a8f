"""
Options that protect HTTP listeners alone: an error where they would protect nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted_upload.errors import WrongConfiguration

if TYPE_CHECKING:
    from twisted_upload.config.configuration import Listener

__all__ = ["check_http_only"]

_HTTP_ONLY = ("tokens", "invitation-keys", "cors-origin")


def check_http_only(listeners: Sequence[Listener]) -> None:
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
