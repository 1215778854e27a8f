"""The form of the names of stored files."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["NameForm"]


class NameForm(StrEnum):
    """The values of ``--names``."""

    TIME = "time"
    TIME_ORIGINAL = "time-original"
