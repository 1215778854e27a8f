"""
Copy the options of a listener into the settings of its front end.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

from twisted_upload.config.listener import Listener
from twisted_upload.frontends.settings import FrontendSettings

__all__ = ["copied_settings"]

S = TypeVar("S", bound=FrontendSettings)


def copied_settings(kind: type[S], listener: Listener) -> S:
    """
    Make settings of this kind.

    A field gets the value of the listener's attribute of that name, else that of the
    option of that name, else its default.
    """
    values = {}
    for name in (it.name for it in fields(kind)):
        for source in (listener, listener.settings):
            if hasattr(source, name):
                values[name] = getattr(source, name)
                break
    return kind(**values)
