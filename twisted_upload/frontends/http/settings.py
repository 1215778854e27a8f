"""
The settings of the HTTP front end.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.frontends.settings import FrontendSettings

__all__ = ["HTTPSettings"]


@dataclass(frozen=True, slots=True)
class HTTPSettings(FrontendSettings):
    """
    How the HTTP front end behaves.

    :ivar head_timeout: seconds within which the head of a request has to arrive, from
        its first byte.
    :ivar resume_for: seconds for which an unfinished upload can be resumed.
    """

    head_timeout: float = 30.0
    resume_for: float = 24 * 3600.0
