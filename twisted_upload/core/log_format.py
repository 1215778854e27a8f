"""The format of the log."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LogFormat"]


class LogFormat(StrEnum):
    """The values of ``--log-format``."""

    TEXT = "text"
    JSON = "json"
